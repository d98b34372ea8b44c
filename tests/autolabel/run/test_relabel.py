"""Other words for a run, from its stored regions."""

from pathlib import Path

import fiftyone as fo
import pytest
from PIL import Image

from autolabel.run.labels import Run
from regionspot.localizers.sam import SamLocalizer
from regionspot.model import RegionSpot
from tests.autolabel.helpers import Autolabel, FinishedRun, read_json


def test_other_words_leave_the_first_run_as_it_is(coarse: Path, finished: FinishedRun) -> None:
    first, second = finished.manifest, read_json(coarse / "run.json")
    assert second["regions_of"] == str(finished.folder)
    assert second["shards"] == [vars(shard) for shard in first.shards]
    assert second["vocabulary"]["words"] == ["animal", "vehicle"]
    content = read_json(coarse / "labels.coco.json")
    assert [each["name"] for each in content["categories"]] == ["animal", "vehicle"]
    assert content["annotations"]
    assert first.fiftyone is not None
    assert second["fiftyone"]["dataset"] == first.fiftyone.dataset
    dataset = fo.load_dataset(first.fiftyone.dataset)
    field = second["fiftyone"]["label_field"]
    assert set(dataset.distinct(f"{field}.detections.label")) <= {"animal", "vehicle"}
    words = dataset.distinct("predictions.detections.label")
    assert set(words) <= set(first.vocabulary["words"])


def test_the_same_words_give_the_same_labels(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    command = ["relabel", finished.folder, "--vocab", finished.words, "--out", out]
    assert autolabel_cli(*command, "--label-field", "again").exit_code == 0
    for name in ("labels.coco.json", "labels.lvis.json"):
        assert (out / name).read_bytes() == (finished.folder / name).read_bytes()
    assert "complete already" in autolabel_cli(*command, "--label-field", "again").output


def test_relabel_refuses_what_it_cannot_do(
    autolabel_cli: Autolabel, finished: FinishedRun, words: Path, tmp_path: Path
) -> None:
    for arguments, message in (
        (["--conf-threshold", "0.01"], "--conf-threshold must be 0.05 or more"),
        (["--out", finished.folder], "is the run itself"),
        (["--label-field", "predictions"], "has a field 'predictions' already"),
    ):
        command = ["relabel", finished.folder, "--vocab", words, "--out", tmp_path / "x"]
        result = autolabel_cli(*command, *arguments)
        assert result.exit_code == 1
        assert message in result.stderr
    result = autolabel_cli("relabel", tmp_path, "--vocab", words)
    assert "is no run folder" in result.stderr


def _no_tower(*_: object) -> None:
    raise AssertionError("no image goes through a tower")


def test_labels_of_a_run_are_examples_without_a_tower(
    autolabel_cli: Autolabel,
    finished: FinishedRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RegionSpot, "regions", _no_tower)
    monkeypatch.setattr(RegionSpot, "embed", _no_tower)
    monkeypatch.setattr(SamLocalizer, "encode", _no_tower)
    words, out = tmp_path / "examples.txt", tmp_path / "by example"
    words.write_text(f"zzz: @{finished.folder}#cat\nperson\nrocket  # by text\n")
    command = ["relabel", finished.folder, "--vocab", words, "--out", out]
    result = autolabel_cli(*command, "--label-field", "by_example")
    assert result.exit_code == 0, result.output
    cats = [row for row in Run.open(finished.folder).rows() if row.word == "cat"]
    found = {(row.file_name, row.box) for row in Run.open(out).rows() if row.word == "zzz"}
    assert cats
    assert found & {(row.file_name, row.box) for row in cats}
    words.write_text(f"zzz: @{finished.folder}#rocket\nperson\n")
    result = autolabel_cli(*command, "--label-field", "by_example")
    assert "other words" in result.stderr


def test_crops_are_examples(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    crops = tmp_path / "crops"
    crops.mkdir()
    row = next(row for row in Run.open(finished.folder).rows() if row.word == "cat")
    with Image.open(finished.photos / row.file_name) as image:
        image.convert("RGB").crop(tuple(map(int, row.box))).save(crops / "one.png")
    words = tmp_path / "words.txt"
    words.write_text("whiskers: kitten, @crops/\nperson\n")
    out = tmp_path / "by crops"
    command = ["relabel", finished.folder, "--vocab", words, "--out", out]
    result = autolabel_cli(*command, "--label-field", "by_crops")
    assert result.exit_code == 0, result.output
    found = {(row.file_name, row.box) for row in Run.open(out).rows() if row.word == "whiskers"}
    assert (row.file_name, row.box) in found
    for reference, message in (
        ("nowhere", "expected a folder of example images"),
        (f"{finished.folder}#zebra", "the run has no such word"),
    ):
        words.write_text(f"x: @{reference}\n")
        result = autolabel_cli(*command[:-1], tmp_path / "new")
        assert result.exit_code == 1
        assert message in result.stderr
