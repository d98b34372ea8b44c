"""--overwrite and what a person did to the labels."""

import os
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from autolabel.demo import write_photos
from integrations.formats.coco import read_coco
from tests.autolabel.helpers import Autolabel, FinishedRun, read_json


@pytest.fixture
def command(tmp_path: Path, words: Path) -> list[str]:
    photos = write_photos(tmp_path / "photos", ["cat", "motorcycle"])
    out = tmp_path / f"run {os.urandom(4).hex()}"
    return ["run", str(photos), "--vocab", str(words), "--out", str(out), "--conf-threshold", "0.1"]


def labels_of(run: Path) -> tuple[Any, str]:
    target = read_json(run / "run.json")["fiftyone"]
    return fo.load_dataset(target["dataset"]), target["label_field"]


def review(run: Path) -> None:
    """Rename a label, draw one, delete one, mark one, and tag an image."""
    dataset, field = labels_of(run)
    sample = max(dataset, key=lambda sample: len(sample[field].detections))
    labels = sample[field].detections
    labels[0].label = "bicycle"
    labels[1]["reviewed"] = True
    del labels[2]
    labels.append(fo.Detection(label="cat", bounding_box=[0, 0, 0.5, 0.5]))
    sample.tags.append("good")
    sample.save()


def test_a_review_is_replaced_only_when_that_is_said(
    autolabel_cli: Autolabel, command: list[str], words: Path
) -> None:
    out = Path(command[5])
    assert autolabel_cli(*command).exit_code == 0
    written = read_coco(out / "labels.coco.json")
    assert autolabel_cli(*command, "--overwrite").exit_code == 0, "nobody reviewed it"
    assert not list(out.glob("before-*"))

    review(out)
    manifest = (out / "run.json").read_bytes()
    result = autolabel_cli(*command, "--overwrite")
    assert result.exit_code == 1
    counts = "1 renamed, 1 drawn, 1 deleted, 1 tagged, 1 images tagged"
    assert f"holds a review of predictions: {counts}; say --discard-review" in result.stderr
    assert result.stderr.count("error:") == 1
    assert (out / "run.json").read_bytes() == manifest
    dataset, field = labels_of(out)
    assert "bicycle" in dataset.distinct(f"{field}.detections.label")

    result = autolabel_cli(*command, "--overwrite", "--discard-review")
    assert result.exit_code == 0, result.output
    kept = out / "before-1.predictions.coco.json"
    assert str(kept) in result.stderr.replace("\n", "")
    dataset, field = labels_of(out)
    assert "bicycle" not in dataset.distinct(f"{field}.detections.label")
    assert "predictions" in dataset.active_label_schemas
    labels = read_coco(kept)
    names = {each.id: each.name for each in labels.categories}
    annotations = [each for image in labels.images for each in image.annotations]
    assert len(annotations) == sum(len(image.annotations) for image in written.images)
    (renamed,) = [each for each in annotations if names[each.category_id] == "bicycle"]
    assert renamed.attributes["predicted"] != "bicycle"
    assert sum(each.attributes["reviewed"] for each in annotations) == 1
    assert [image.attributes["tags"] for image in labels.images if image.attributes] == ["good"]

    review(out)
    assert autolabel_cli(*command, "--overwrite", "--discard-review").exit_code == 0
    assert len(list(out.glob("before-*"))) == 2


def test_other_fields_of_the_dataset_of_a_run_count(
    autolabel_cli: Autolabel, command: list[str], tmp_path: Path
) -> None:
    """A run's own dataset is made anew, with all fields that relabelling or a person added."""
    out = Path(command[5])
    assert autolabel_cli(*command).exit_code == 0
    coarse = tmp_path / "coarse.txt"
    coarse.write_text("animal: cat, horse\nvehicle: motorcycle\n")
    assert autolabel_cli("relabel", out, "--vocab", coarse).exit_code == 0
    dataset, _ = labels_of(out)
    dataset.set_values("note", ["mine", None])
    sample = dataset.match(fo.ViewField("predictions_coarse.detections").length() > 0).first()
    sample.predictions_coarse.detections[0].label = "bus"
    sample.save()
    result = autolabel_cli(*command, "--overwrite")
    assert result.exit_code == 1
    assert "1 renamed, 1 values in other fields" in result.stderr
    result = autolabel_cli(*command, "--overwrite", "--discard-review")
    assert result.exit_code == 0, result.output
    names = {path.name for path in out.glob("before-*")}
    fields = ("predictions.coco.json", "predictions_coarse.coco.json", "note.jsonl")
    assert names == {f"before-1.{each}" for each in fields}
    assert '"note": "mine"' in (out / "before-1.note.jsonl").read_text()


def test_relabelling_again_keeps_a_review(
    autolabel_cli: Autolabel, finished: FinishedRun, coarse: Path, tmp_path: Path
) -> None:
    target = read_json(coarse / "run.json")["fiftyone"]
    command = ["relabel", finished.folder, "--vocab", tmp_path / "coarse.txt", "--out", coarse]
    command += ["--label-field", target["label_field"], "--overwrite"]
    dataset, field = labels_of(coarse)
    sample = dataset.match(fo.ViewField(f"{field}.detections").length() > 0).first()
    sample[field].detections = sample[field].detections[1:]
    sample.save()
    result = autolabel_cli(*command)
    assert result.exit_code == 1
    assert "1 deleted" in result.stderr
    # Where the run's own labels are gone, nobody knows what was deleted.
    for name, said in (
        ("coco", "1 deleted"),
        ("lvis", "labels edited or deleted cannot be counted"),
    ):
        (coarse / f"labels.{name}.json").unlink()
        result = autolabel_cli(*command)
        assert result.exit_code == 1
        assert said in result.stderr
    result = autolabel_cli(*command, "--discard-review")
    assert result.exit_code == 0, result.output
    assert (coarse / f"before-1.{field}.coco.json").exists()
    assert field in labels_of(coarse)[0].active_label_schemas


def test_a_persons_own_field_is_their_work(
    autolabel_cli: Autolabel, words: Path, tmp_path: Path
) -> None:
    photos = write_photos(tmp_path / "theirs", ["cat"])
    dataset = fo.Dataset(f"theirs {os.urandom(4).hex()}", persistent=True)
    drawn = fo.Detections(detections=[fo.Detection(label="my cat", bounding_box=[0, 0, 1, 1])])
    (photo,) = photos.iterdir()
    dataset.add_samples([fo.Sample(str(photo), ground_truth=drawn)], progress=False)
    out = tmp_path / "run"
    command = ["run", f"fiftyone:{dataset.name}", "--vocab", words, "--out", out]
    command += ["--label-field", "ground_truth", "--overwrite"]
    result = autolabel_cli(*command)
    assert result.exit_code == 1
    assert "holds a review of ground_truth: 1 drawn" in result.stderr
    assert not out.exists()
    result = autolabel_cli(*command, "--discard-review")
    assert result.exit_code == 0, result.output
    (image,) = read_coco(out / "before-1.ground_truth.coco.json").images
    assert image.annotations[0].box == (0, 0, image.width, image.height)
    dataset.delete()
