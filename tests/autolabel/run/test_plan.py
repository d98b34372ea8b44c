"""Where in FiftyOne the labels of a run go: a place of its own, or the one that it had."""

import dataclasses
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from PIL import Image

from autolabel.options import Options
from autolabel.run.manifest import FiftyOneTarget, Manifest
from autolabel.run.plan import RunRequest, choose_target, make_plan
from integrations.vocabulary_file import read_words
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


@pytest.fixture
def mixed() -> Iterator[Any]:
    """A dataset whose images are reviewed in different ways; the field `own` is the run's."""
    dataset = fo.Dataset(f"mixed {uuid.uuid4().hex}")
    box = [0.1, 0.1, 0.5, 0.5]
    model = {"label": "cat", "bounding_box": box, "predicted": "cat"}
    fields = {
        "nothing": {},
        "empty field": {"theirs": fo.Detections()},
        "own alone": {
            "own": fo.Detections(detections=[fo.Detection(label="cat", bounding_box=box)])
        },
        "by a model": {"theirs": fo.Detections(detections=[fo.Detection(**model)])},
        "renamed": {"theirs": fo.Detections(detections=[fo.Detection(**model | {"label": "dog"})])},
        "drawn": {"other": fo.Detections(detections=[fo.Detection(label="cat", bounding_box=box)])},
        "tagged": {"tags": ["reviewed"]},
    }
    dataset.add_samples(
        [fo.Sample(f"/photos/{name}.jpg", **values) for name, values in fields.items()],
        dynamic=True,
        progress=False,
    )
    yield dataset
    dataset.delete()


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (
            {"only_unlabelled"},
            [(1, "nothing"), (2, "empty field"), (3, "own alone"), (7, "tagged")],
        ),
        (
            {"only_unreviewed"},
            [(1, "nothing"), (2, "empty field"), (3, "own alone"), (4, "by a model")],
        ),
        (
            {"only_unlabelled", "only_unreviewed"},
            [(1, "nothing"), (2, "empty field"), (3, "own alone")],
        ),
    ],
)
def test_images_that_a_person_has_done_are_left_out(
    mixed: Any, only: set[str], expected: list[tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "words.txt").write_text("cat\n")
    words = read_words(tmp_path / "words.txt")
    request = RunRequest(
        source=f"fiftyone:{mixed.name}",
        words=words,
        out=tmp_path / "run",
        label_field="own",
        only_unlabelled="only_unlabelled" in only,
        only_unreviewed="only_unreviewed" in only,
    )
    source = make_plan(request).source
    assert [(each.id, Path(each.file_name).stem) for each in source.images] == expected
    assert all(mixed[each.sample_id].filepath == str(source.path(each)) for each in source.images)


def test_where_no_image_is_left_a_run_does_not_start(theirs: Any, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("cat\n")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "photos" / "x.jpg")
    sample = theirs.first()
    sample.tags = ["reviewed"]
    sample.save()
    for source, message in (
        (f"fiftyone:{theirs.name}", "--only-unreviewed leaves no image of FiftyOne's dataset"),
        (str(tmp_path / "photos"), "--only-unreviewed goes with fiftyone:NAME"),
    ):
        request = RunRequest(
            source=source,
            words=tmp_path / "words.txt",
            out=tmp_path / "run",
            only_unreviewed=True,
        )
        with pytest.raises(InputError, match=message):
            make_plan(request)
