"""The ranges and types of the options, by the names that a person gives them."""

from pathlib import Path
from typing import Any

import pytest

from autolabel.options import (
    CROP_MODELS,
    OPEN_CLIP,
    Options,
    absolute_model,
    has_head,
    with_thresholds,
)
from regionspot import config
from regionspot.errors import InputError


def test_the_defaults_and_the_ends_of_ranges_are_allowed() -> None:
    Options().check()
    Options(tile=64, tile_overlap=0).check()
    Options(conf_threshold=0, presence_threshold=1, iou=1.0, max_boxes=1, batch_size=1).check()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"conf_threshold": 1.5}, "--conf-threshold must be from 0 to 1, got 1.5"),
        ({"iou": -0.1}, "--iou must be from 0 to 1, got -0.1"),
        ({"presence_threshold": float("nan")}, "--presence-threshold must be"),
        ({"max_boxes": 0}, "--max-boxes must be 1 or more, got 0"),
        ({"tile": 10}, "--tile must be 64 pixels or more, got 10"),
        ({"tile_overlap": 1.0}, "--tile-overlap must be from 0 to 0.9, got 1.0"),
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


def test_no_box_is_rejected_by_a_presence_that_is_not_calibrated() -> None:
    assert (*config.CROP_PRESETS,) == CROP_MODELS
    assert f"{config.OPEN_CLIP}:" == OPEN_CLIP
    assert all(map(has_head, config.PRESETS))
    for model in (*CROP_MODELS, "openclip:ViT-B-16/openai"):
        options = with_thresholds(Options(model=model), None, None, None, None, None)
        assert (options.presence_threshold, options.conf_threshold) == (0, Options.conf_threshold)
        assert with_thresholds(options, None, None, 0.4, None, None).presence_threshold == 0.4
    assert with_thresholds(Options(), None, None, None, None, None) == Options()


def test_the_file_of_a_model_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.pt").touch()
    monkeypatch.chdir(tmp_path)
    assert absolute_model("openclip:ViT-B-16/mine.pt") == f"openclip:ViT-B-16/{tmp_path}/mine.pt"
    for name in ("mini", "openclip:ViT-B-16/openai", "openclip:ViT-B-16"):
        assert absolute_model(name) == name
