"""Labels as a person left them, in every format."""

import os
from pathlib import Path

import fiftyone as fo
import pytest
from pycocotools.coco import COCO

from autolabel.evaluation.evaluate import evaluate_files
from integrations.formats.lvis import read_lvis
from integrations.formats.parquet import read_parquet
from integrations.progress import NullReporter
from tests.autolabel.helpers import Autolabel, FinishedRun, read_json


@pytest.mark.parametrize("format", ["coco", "lvis"])
def test_without_a_review_the_export_is_the_runs_own_file(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path, format: str
) -> None:
    out = tmp_path / "exported"
    result = autolabel_cli("export", finished.folder, "--format", format, "--out", out)
    assert result.exit_code == 0, result.output
    name = f"labels.{format}.json"
    assert (out / name).read_bytes() == (finished.folder / name).read_bytes()
    assert f"{finished.manifest.counts['labels']} labels of 5 images" in result.output

    again = autolabel_cli("export", finished.folder, "--format", format, "--out", out)
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_a_review_is_what_gets_exported(
    autolabel_cli: Autolabel, coarse: Path, tmp_path: Path
) -> None:
    target = read_json(coarse / "run.json")["fiftyone"]
    dataset = fo.load_dataset(target["dataset"])
    field = target["label_field"]
    before = dataset.count(f"{field}.detections")
    busy = next(sample for sample in dataset if len(sample[field].detections) > 1)
    busy[field].detections[0].label = "bicycle"
    del busy[field].detections[1]
    by_hand = fo.Detection(label="animal", bounding_box=[0.25, 0.25, 0.5, 0.5])
    busy[field].detections.append(by_hand)
    busy.save()

    out = tmp_path / "exported"
    assert autolabel_cli("export", coarse, "--out", out).exit_code == 0
    coco = COCO(out / "labels.coco.json")
    assert {each["id"]: each["name"] for each in coco.dataset["categories"]} == {
        1: "animal",
        2: "vehicle",
        3: "bicycle",
    }
    assert len(coco.anns) == before
    (corrected,) = coco.loadAnns(coco.getAnnIds(catIds=[3]))
    # What was drawn has no mask, so the outline of its box.
    (drawn,) = [each for each in coco.anns.values() if isinstance(each["segmentation"], list)]
    assert "score" not in corrected
    assert "score" not in drawn
    width, height = busy.metadata.width, busy.metadata.height
    assert drawn["bbox"] == [width / 4, height / 4, width / 2, height / 2]


def test_review_and_export_say_what_is_missing(
    autolabel_cli: Autolabel, finished: FinishedRun, words: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    photos = tmp_path / "photos"
    photos.mkdir()
    os.link(finished.photos / "cat.jpg", photos / "cat.jpg")
    command = ["run", photos, "--vocab", words, "--out", plain, "--no-fiftyone"]
    assert autolabel_cli(*command).exit_code == 0
    for arguments, message in (
        (["review", tmp_path], "is no run folder"),
        (["review", plain], "has no labels in FiftyOne"),
        (["export", plain, "--only-reviewed", "--out", tmp_path / "out"], "has no labels in"),
        (["export", finished.folder, "--format", "csv", "--out", tmp_path], "unknown format 'csv'"),
    ):
        result = autolabel_cli(*arguments)
        assert result.exit_code == 1
        assert message in result.stderr
    assert not (tmp_path / "out").exists()
    command = ["export", plain, "--format", "parquet", "--out", tmp_path / "out"]
    assert autolabel_cli(*command).exit_code == 0
    assert read_parquet(tmp_path / "out").images == read_lvis(plain / "labels.lvis.json").images


def test_parquet_is_evaluated_as_json_is(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    command = ["export", finished.folder, "--format", "parquet", "--out", tmp_path]
    assert autolabel_cli(*command).exit_code == 0
    of_json, of_parquet = (
        {
            each.name: each.value
            for each in evaluate_files(gt, pred, 0, NullReporter()).boxes.metrics
        }
        for gt, pred in (
            (finished.folder / "labels.lvis.json", finished.folder / "labels.coco.json"),
            (tmp_path, tmp_path),
        )
    )
    assert of_parquet["AP"] == of_json["AP"] == 1
    assert of_parquet["AR"] == of_json["AR"]
