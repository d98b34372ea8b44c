"""The ranges and types of the options, by the names that a person gives them."""

from typing import Any

import pytest

from autolabel.options import Options
from regionspot.errors import InputError


def test_the_defaults_and_the_ends_of_ranges_are_allowed() -> None:
    Options().check()
    Options(conf_threshold=0, presence_threshold=1, iou=1.0, max_boxes=1, batch_size=1).check()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"conf_threshold": 1.5}, "--conf-threshold must be from 0 to 1, got 1.5"),
        ({"iou": -0.1}, "--iou must be from 0 to 1, got -0.1"),
        ({"presence_threshold": float("nan")}, "--presence-threshold must be"),
        ({"max_boxes": 0}, "--max-boxes must be 1 or more, got 0"),
        ({"shard_size": "2"}, "--shard-size must be a valid integer, got '2'"),
        ({"masks": "no"}, "--masks must be a valid boolean, got 'no'"),
        (
            {"device": "abacus"},
            "--device must be one of auto, cpu, cuda, cuda:N, mps, got 'abacus'",
        ),
    ],
)
def test_what_is_out_of_range_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Options(**values).check()
    assert message in str(caught.value)


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Options("mini")  # type: ignore[misc]
    with pytest.raises(TypeError):
        Options(colour="red")  # type: ignore[call-arg]
