"""What a run leaves in FiftyOne, and what it leaves alone."""

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from autolabel.demo import write_photos
from tests.autolabel.helpers import PHOTOS, Autolabel, FinishedRun


@pytest.fixture
def dataset(finished: FinishedRun) -> Any:
    assert finished.manifest.fiftyone is not None
    return fo.load_dataset(finished.manifest.fiftyone.dataset)


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Any]:
    """A person's dataset, with labels and a view of their own."""
    dataset = fo.Dataset(f"theirs {uuid.uuid4().hex}", persistent=True)
    photos = write_photos(tmp_path / "theirs", ["cat", "coffee"])
    label = fo.Detection(label="my cat", bounding_box=[0, 0, 1, 1])
    samples = [
        fo.Sample(str(path), ground_truth=fo.Detections(detections=[label.copy()]), note="mine")
        for path in sorted(photos.iterdir())
    ]
    dataset.add_samples(samples, progress=False)
    dataset.save_view("needs review", dataset.limit(1))
    yield dataset
    dataset.delete()


def contents(dataset: Any, *fields: str) -> str:
    return json.dumps([dataset.values(field) for field in fields], default=str)


def test_the_dataset_is_named_after_the_run_and_stays(dataset: Any, finished: FinishedRun) -> None:
    assert dataset.name == finished.folder.name
    assert dataset.persistent
    names = [Path(path).stem for path in dataset.values("filepath")]
    assert names == sorted(PHOTOS)
    assert dataset.first().metadata.width == 512


def test_labels_are_those_of_the_coco_file(dataset: Any, finished: FinishedRun) -> None:
    content = json.loads((finished.folder / "labels.coco.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    words = [names[each["category_id"]] for each in content["annotations"]]
    assert dataset.values("predictions.detections.label", unwind=True) == words
    scores = [each["score"] for each in content["annotations"]]
    assert dataset.values("predictions.detections.confidence", unwind=True) == scores


def test_each_label_tells_where_it_comes_from(dataset: Any, finished: FinishedRun) -> None:
    manifest = finished.manifest
    assert manifest.fiftyone is not None
    labels = [each for sample in dataset for each in sample.predictions.detections]
    for label in labels:
        assert label.predicted == label.label
        assert label.runner_up in manifest.vocabulary["words"]
        assert 0 <= label.margin <= 1
        assert 0 <= label.presence <= 1
        assert label.mask.dtype == bool
        assert label.run == manifest.fiftyone.run_key
        assert label.model == "mini"
        assert label.vocabulary == manifest.vocabulary["sha256"]


def test_the_run_is_registered_with_all_that_it_was_given(
    dataset: Any, finished: FinishedRun
) -> None:
    manifest = finished.manifest
    assert manifest.fiftyone is not None
    config = dataset.get_run_info(manifest.fiftyone.run_key).config
    assert config.label_field == "predictions"
    assert config.run_folder == str(finished.folder.resolve())
    assert config.provenance == manifest.model
    assert config.vocabulary["sha256"] == manifest.vocabulary["sha256"]
    assert config.options["conf_threshold"] == 0.05
    assert sorted(config.views) == ["confident", "needs review", "nothing found"]


def test_every_label_is_in_one_of_the_two_views(dataset: Any) -> None:
    count = "predictions.detections"
    unsure, sure = (dataset.load_saved_view(name) for name in ("needs review", "confident"))
    assert unsure.count(count) + sure.count(count) == dataset.count(count) > 0


def test_labels_come_into_a_dataset_of_theirs_and_touch_nothing_else(
    autolabel_cli: Autolabel, theirs: Any, words: Path, tmp_path: Path
) -> None:
    before = contents(theirs, "id", "filepath", "ground_truth.detections.label", "note")
    view = theirs.load_saved_view("needs review").values("id")
    out = tmp_path / "run of mine"
    source = f"fiftyone:{theirs.name}"
    command = ["run", source, "--vocab", words, "--out", out, "--conf-threshold", "0.05"]
    result = autolabel_cli(*command)
    assert result.exit_code == 0, result.output
    theirs.reload()
    assert contents(theirs, "id", "filepath", "ground_truth.detections.label", "note") == before
    assert theirs.load_saved_view("needs review").values("id") == view
    assert theirs.has_saved_view("needs review predictions")
    assert theirs.list_runs() == ["run_of_mine"]
    assert theirs.count("predictions.detections") > 0

    exported = autolabel_cli("export", out, "--out", tmp_path / "exported")
    assert exported.exit_code == 0
    name = "labels.coco.json"
    assert (tmp_path / "exported" / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize("field", ["ground_truth", "note"])
def test_a_field_of_theirs_is_refused_before_any_work(
    autolabel_cli: Autolabel, theirs: Any, words: Path, tmp_path: Path, field: str
) -> None:
    out = tmp_path / "run"
    source = f"fiftyone:{theirs.name}"
    result = autolabel_cli("run", source, "--vocab", words, "--out", out, "--label-field", field)
    assert result.exit_code == 1
    assert f"has a field '{field}' already" in result.stderr
    assert not out.exists()
    assert theirs.count_values("note") == {"mine": 2}


def test_a_field_is_overwritten_only_when_told(
    autolabel_cli: Autolabel, theirs: Any, words: Path, tmp_path: Path
) -> None:
    source = f"fiftyone:{theirs.name}"
    command = ["run", source, "--vocab", words, "--label-field", "note", "--overwrite"]
    result = autolabel_cli(*command, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "2 values in other fields; say --discard-review" in result.stderr
    result = autolabel_cli(*command, "--out", tmp_path / "run", "--discard-review")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run/before-1.note.jsonl").read_text().count('"mine"') == 2
    theirs.reload()
    assert isinstance(theirs.first().note, fo.Detections)
    assert set(theirs.distinct("ground_truth.detections.label")) == {"my cat"}


def test_a_second_run_of_the_same_name_gets_a_dataset_of_its_own(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(finished.photos / "cat.jpg", photos)
    out = tmp_path / finished.folder.name
    result = autolabel_cli("run", photos, "--vocab", finished.words, "--out", out)
    assert result.exit_code == 0, result.output
    name = json.loads((out / "run.json").read_text())["fiftyone"]["dataset"]
    assert name == f"{finished.folder.name}-2"

    fo.delete_dataset(name)
    again = autolabel_cli("run", photos, "--vocab", finished.words, "--out", out)
    assert again.exit_code == 0
    assert "complete already" not in again.output
    assert fo.dataset_exists(name)
    fo.delete_dataset(name)
