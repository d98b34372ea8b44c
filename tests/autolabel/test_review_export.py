"""After the run: the App at what is unsure, labels as a person left them, other words."""

import json
import os
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from pycocotools.coco import COCO

from tests.autolabel.helpers import Autolabel, FinishedRun, said_first, start_review

TIMEOUT_S = 240


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def coarse(autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path) -> Path:
    """The finished run with other words: a run that a test may change."""
    words = tmp_path / "coarse.txt"
    words.write_text("animal: cat, horse\nvehicle: motorcycle, rocket\n")
    out = tmp_path / "coarse run"
    result = autolabel_cli(
        *("relabel", finished.folder, "--vocab", words, "--out", out),
        *("--label-field", f"coarse_{os.urandom(4).hex()}"),
    )
    assert result.exit_code == 0, result.output
    return out


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
    for arguments, said in (
        (["--conf-threshold", "0.01"], "--conf-threshold must be 0.05 or more"),
        (["--out", finished.folder], "is the run itself"),
        (["--label-field", "predictions"], "has a field 'predictions' already"),
    ):
        command = ["relabel", finished.folder, "--vocab", words, "--out", tmp_path / "x"]
        result = autolabel_cli(*command, *arguments)
        assert result.exit_code == 1
        assert said in result.stderr
    result = autolabel_cli("relabel", tmp_path, "--vocab", words)
    assert "is no run folder" in result.stderr


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
    (drawn,) = [each for each in coco.anns.values() if "segmentation" not in each]
    assert "score" not in corrected
    assert "score" not in drawn
    width, height = busy.metadata.width, busy.metadata.height
    assert drawn["bbox"] == [width / 4, height / 4, width / 2, height / 2]


def test_review_serves_the_app_on_this_machine_only(finished: FinishedRun) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start_review([str(finished.folder), "--no-browser", "--port", str(port)])
    try:
        said = said_first(process)
        assert f"FiftyOne at http://127.0.0.1:{port}" in said
        assert "'needs review'" in said
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
            assert b"FiftyOne" in page.read()
        assert listening_addresses(port) == {"127.0.0.1"}
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0
    finally:
        process.kill()
        process.communicate()


def listening_addresses(port: int) -> set[str]:
    """Addresses that any process of this machine listens on at a port."""
    import psutil

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = {
            each.laddr.ip
            for each in psutil.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN and each.laddr.port == port
        }
        if found:
            return found
    return set()


def test_review_and_export_say_what_is_missing(
    autolabel_cli: Autolabel, finished: FinishedRun, words: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    photos = tmp_path / "photos"
    photos.mkdir()
    os.link(finished.photos / "cat.jpg", photos / "cat.jpg")
    command = ["run", photos, "--vocab", words, "--out", plain, "--no-fiftyone"]
    assert autolabel_cli(*command).exit_code == 0
    for arguments, said in (
        (["review", tmp_path], "is no run folder"),
        (["review", plain], "has no labels in FiftyOne"),
        (["export", plain, "--only-reviewed", "--out", tmp_path / "out"], "has no labels in"),
        (["export", finished.folder, "--format", "csv", "--out", tmp_path], "unknown format 'csv'"),
    ):
        result = autolabel_cli(*arguments)
        assert result.exit_code == 1
        assert said in result.stderr
    assert not (tmp_path / "out").exists()
