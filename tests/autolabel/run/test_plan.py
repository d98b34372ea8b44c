"""Where in FiftyOne the labels of a run go: a place of its own, or the one that it had."""

import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import pytest

from autolabel.options import Options
from autolabel.run.manifest import FiftyOneTarget, Manifest
from autolabel.run.plan import choose_target
from regionspot.errors import InputError


@pytest.fixture
def theirs() -> Iterator[Any]:
    """A person's dataset with a label field."""
    dataset = fo.Dataset(f"theirs {uuid.uuid4().hex}")
    dataset.add_sample(fo.Sample("/a.jpg", mine=fo.Detections()))
    yield dataset
    dataset.delete()


def run_with(target: FiftyOneTarget, kind: str) -> Manifest:
    return Manifest(
        name="run",
        dataset={"kind": kind, "root": "/", "images": 1, "sha256": ""},
        vocabulary={"words": ["cat"], "synonyms": [["cat"]], "sha256": ""},
        options=Options(),
        fiftyone=target,
    )


def test_a_new_run_gets_a_dataset_and_a_key_of_its_own(theirs: Any) -> None:
    target = choose_target(theirs.name, "predictions", None, None, None, overwrite=False)
    assert target.dataset == f"{theirs.name}-2"
    assert target.run_key.isidentifier()
    assert (target.label_field, target.database) == ("predictions", None)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_keeps_the_place_that_it_had(theirs: Any, overwrite: bool) -> None:
    had = FiftyOneTarget(dataset=theirs.name, label_field="mine", run_key="run")
    before = run_with(had, "fiftyone")
    assert choose_target("run", "mine", theirs.name, None, before, overwrite) == had
    own = run_with(had, "folder")
    assert choose_target("run", "mine", None, None, own, overwrite) == had


def test_another_field_of_a_run_of_its_own_stays_in_its_dataset(theirs: Any) -> None:
    had = FiftyOneTarget(dataset=theirs.name, label_field="predictions", run_key="run")
    other = choose_target("run", "other", None, None, run_with(had, "folder"), overwrite=True)
    assert other == dataclasses.replace(had, label_field="other")
    theirs.register_run("run", theirs.init_run())
    other = choose_target("run", "other", None, None, run_with(had, "folder"), overwrite=True)
    assert other.run_key == "run_2"


def test_a_field_that_is_there_is_taken_only_when_told(theirs: Any) -> None:
    with pytest.raises(InputError, match="has a field 'mine' already; choose another"):
        choose_target("run", "mine", theirs.name, None, None, overwrite=False)
    target = choose_target("run", "mine", theirs.name, None, None, overwrite=True)
    assert target == FiftyOneTarget(dataset=theirs.name, label_field="mine", run_key="run")
    with pytest.raises(InputError, match="--label-field must be letters"):
        choose_target("run", "my labels", theirs.name, None, None, overwrite=True)
