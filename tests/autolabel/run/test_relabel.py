"""Other words for a run, from its stored regions."""

from pathlib import Path

import fiftyone as fo

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
