"""Other words for a run, from its stored regions."""

import json
import os
from pathlib import Path

import fiftyone as fo
import pytest
from PIL import Image

from autolabel.labels import Run
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


def test_background_words_and_thresholds_hold_everywhere(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    words, out = tmp_path / "words.yaml", tmp_path / "out"
    words.write_text(
        "- {name: person, background: true}\n- {name: cat, threshold: 0.95}\n"
        "- {name: rocket, threshold: 0.06}\n- cup\n- motorcycle\n- horse\n"
    )
    command = ["relabel", finished.folder, "--vocab", words, "--out", out, "--json"]
    result = autolabel_cli(*command, "--label-field", "own", "--conf-threshold", "0.3")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["thresholds"] == {"cat": 0.95, "rocket": 0.06}
    assert summary["background"]["person"] >= 1
    names = ["cat", "rocket", "cup", "motorcycle", "horse"]
    for file in ("labels.coco.json", "labels.lvis.json"):
        content = read_json(out / file)
        assert [each["name"] for each in content["categories"]] == names
    assert content["images"][0]["not_exhaustive_category_ids"] == [1, 2, 3, 4, 5]
    kept = [(row.word, row.score) for row in Run.open(out).rows()]
    assert kept
    assert all(score >= {"cat": 0.95, "rocket": 0.06}.get(word, 0.3) for word, score in kept)
    assert any(word == "rocket" and score < 0.3 for word, score in kept)
    vocabulary = read_json(out / "run.json")["vocabulary"]
    assert vocabulary["words"] == names
    assert vocabulary["thresholds"] == [0.95, 0.06, None, None, None]
    assert vocabulary["background"] == {"person": ["person"]}
    dataset = fo.load_dataset(read_json(out / "run.json")["fiftyone"]["dataset"])
    assert "person" not in dataset.distinct("own.detections.label")
    assert "person" in dataset.distinct("predictions.detections.label")
    shown = autolabel_cli(*command[:-1], "--label-field", "own", "--conf-threshold", "0.3")
    assert "background: person" in shown.output
    assert "cat 0.95, rocket 0.06" in shown.output
    _exports_keep_thresholds(autolabel_cli, out, tmp_path)


def _exports_keep_thresholds(autolabel_cli: Autolabel, run: Path, folder: Path) -> None:
    rows = Run.open(run).rows()
    others = folder / "others.json"
    others.write_text('{"rocket": {"threshold": 0.99}}')
    for arguments, expected in (
        (["--min-confidence", "1"], [row for row in rows if row.word in ("cat", "rocket")]),
        (["--vocab", others], [row for row in rows if row.word != "rocket" or row.score >= 0.99]),
    ):
        out = folder / str(len(expected))
        result = autolabel_cli("export", run, "--out", out, *arguments)
        assert result.exit_code == 0, result.output
        assert len(read_json(out / "labels.coco.json")["annotations"]) == len(expected)


def test_a_threshold_below_that_of_the_regions_is_refused(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    words = tmp_path / "words.json"
    words.write_text('[{"name": "cat", "threshold": 0.01}]')
    out = tmp_path / "out"
    result = autolabel_cli("relabel", finished.folder, "--vocab", words, "--out", out)
    assert result.exit_code == 1
    assert "the threshold of 'cat' must be 0.05 or more" in result.stderr
    assert not out.exists()


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


def test_labels_of_a_dataset_are_examples(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    row = next(row for row in Run.open(finished.folder).rows() if row.word == "cat")
    name = f"cats {os.urandom(4).hex()}"
    dataset = fo.Dataset(name)
    path = finished.photos / row.file_name
    with Image.open(path) as image:
        x1, y1, x2, y2 = row.box
        box = [x1 / image.width, y1 / image.height]
        box += [(x2 - x1) / image.width, (y2 - y1) / image.height]
    labels = [fo.Detection(label="Puss", bounding_box=box), fo.Detection(label="dog")]
    dataset.add_sample(fo.Sample(str(path), theirs=fo.Detections(detections=labels)))
    words, out = tmp_path / "words.txt", tmp_path / "by dataset"
    words.write_text(f"zzz: @fiftyone:{name}/theirs=Puss\nperson\n")
    command = ["relabel", finished.folder, "--vocab", words, "--out", out]
    result = autolabel_cli(*command, "--label-field", "by_dataset")
    assert result.exit_code == 0, result.output
    found = {(row.file_name, row.box) for row in Run.open(out).rows() if row.word == "zzz"}
    assert (row.file_name, row.box) in found
    assert "complete already" in autolabel_cli(*command, "--label-field", "by_dataset").output
    for reference, message in (
        (f"{name}/theirs=hound", "has no box of 'hound' in 'theirs'; it has Puss, dog"),
        (f"{name}/ours=Puss", "has no field 'ours' of detections"),
        ("nowhere/theirs=Puss", "FiftyOne has no dataset 'nowhere'"),
        ("Puss", "expected fiftyone:DATASET/FIELD=LABEL"),
    ):
        words.write_text(f"x: @fiftyone:{reference}\n")
        result = autolabel_cli(*command[:-1], tmp_path / "new")
        assert result.exit_code == 1
        assert message in result.stderr
    dataset.delete()


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
