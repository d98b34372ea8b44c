"""Summaries of commands: as JSON, quiet, of the first images."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from autolabel.cli.tables import WORDS_SHOWN, print_run
from autolabel.run.manifest import RunFolder, read_manifest
from integrations.output import Output
from tests.autolabel.helpers import Autolabel, FinishedRun


def summary(result: Result) -> dict[str, Any]:
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Three images, the second with a crowd region, which YOLO cannot mark."""
    boxes = [(1, 0), (2, 1), (3, 0)]
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": 40, "height": 30}
            for number, _ in boxes
        ],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [1, 2, 10, 12],
                "area": 120,
                "iscrowd": crowd,
                "score": 0.5,
            }
            for number, crowd in boxes
        ],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    return path


def test_a_conversion_counts_what_is_left_out(
    autolabel_cli: Autolabel, coco: Path, tmp_path: Path
) -> None:
    command = ("convert", coco, tmp_path / "yolo", "--from", "coco", "--to", "yolo")
    result = autolabel_cli(*command, "--json")
    found = summary(result)
    assert (found["images"], found["labels"], found["format"]) == (3, 2, "yolo")
    assert found["path"] == str(tmp_path / "yolo")
    assert found["limit"] is None
    assert sum(each["count"] for each in found["left_out"]) >= 1
    assert all(each.keys() == {"kind", "reason", "count", "first"} for each in found["left_out"])
    assert "left out: " in result.stderr
    quiet = autolabel_cli(*command, "--overwrite", "--quiet")
    assert quiet.stdout == ""
    assert "left out: " in quiet.stderr


def test_a_conversion_of_the_first_images(
    autolabel_cli: Autolabel, coco: Path, tmp_path: Path
) -> None:
    command = ("convert", coco, tmp_path / "voc", "--from", "coco", "--to", "voc", "--limit", "1")
    result = autolabel_cli(*command)
    assert "1 labels of 1 images (the first 1 at most: --limit)" in result.output
    assert summary(autolabel_cli(*command, "--overwrite", "--json"))["limit"] == 1


def test_an_evaluation_of_the_first_images(
    autolabel_cli: Autolabel, coco: Path, tmp_path: Path
) -> None:
    files = ("--gt", coco, "--pred", coco, "--bootstrap", "0", "--out", tmp_path / "report")
    found = summary(autolabel_cli("evaluate", *files, "--json", "--limit", "1"))
    assert found["images"] == 1
    assert found["results"][0]["boxes"]["AP"]["value"] == pytest.approx(1)
    assert found["results"][0]["boxes"]["AP"]["low"] is None
    assert found["report"] == str(tmp_path / "report" / "index.html")
    assert {"changed", "left_out"} <= found.keys()


@pytest.mark.parametrize(
    "command",
    [
        ("run", "nowhere", "--vocab", "nothing.txt"),
        ("relabel", "nowhere", "--vocab", "nothing.txt"),
        ("export", "nowhere", "--out", "out"),
        ("convert", "nowhere", "out", "--from", "coco", "--to", "yolo"),
        ("evaluate",),
        ("models", "pull", "nothing"),
        ("train",),
    ],
)
def test_an_error_is_one_line_on_either_output(
    autolabel_cli: Autolabel, command: tuple[str, ...]
) -> None:
    result = autolabel_cli(*command, "--json")
    assert result.exit_code == 1
    assert f"error: {summary(result)['error']}\n" in result.stderr


def test_photos_that_are_not_read_are_listed(
    autolabel_cli: Autolabel, words: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    contents = {
        "a.jpg": b"\xff\xd8\xff\xe0",
        "IMG_0002.HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "raw.dng": b"II*\0\x08\0\0\0",
        "scan001": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        "notes.txt": b"notes",
    }
    for name, content in contents.items():
        (photos / name).write_bytes(content)
    command = ("run", photos, "--vocab", words, "--dry-run", "--no-fiftyone")
    found = summary(autolabel_cli(*command, "--json"))
    assert found["images"] == 1
    assert {each["file_name"] for each in found["skipped_images"]} == contents.keys() - {
        "a.jpg",
        "notes.txt",
    }
    assert found["other_files"] == {".txt": 1}
    output = autolabel_cli(*command).output
    assert "skipped: scan001: a JPEG image by its content; rename it to scan001.jpg" in output
    assert "skipped: raw.dng: a camera's raw file" in output
    assert "1 other files (1 .txt)" in output


def test_a_dry_run_says_the_limit(autolabel_cli: Autolabel, finished: FinishedRun) -> None:
    command = ("run", finished.photos, "--vocab", finished.words, "--dry-run", "--no-fiftyone")
    result = autolabel_cli(*command, "--out", finished.folder.parent / "no", "--limit", "2")
    assert "2 (the first of 5: --limit) in" in result.output


def test_words_that_were_not_found_are_named(
    finished: FinishedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_manifest(finished.folder)
    manifest.counts["by_word"] = {"cat": 1} | {f"word {number}": 0 for number in range(20)}
    with Output() as output:
        print_run(RunFolder(finished.folder, manifest), output)
    shown = " ".join(capsys.readouterr().out.split())
    assert "words not found 20: word 0, word 1" in shown
    assert f"word {WORDS_SHOWN - 1} and 5 more" in shown
    with Output(as_json=True) as output:
        print_run(RunFolder(finished.folder, manifest), output)
    assert len(json.loads(capsys.readouterr().out)["words_not_found"]) == 20


def test_relabelling_and_export_of_the_first_images(
    autolabel_cli: Autolabel, finished: FinishedRun, words: Path, tmp_path: Path
) -> None:
    """The third of five images lies in the middle of a shard of two."""
    first = finished.folder
    command = ("relabel", first, "--vocab", words, "--out", tmp_path / "some", "--limit", "3")
    found = summary(autolabel_cli(*command, "--label-field", "first_three", "--json"))
    assert (found["images"], found["labelled"], found["limit"]) == (3, 3, 3)
    manifest = read_manifest(tmp_path / "some")
    assert [shard.images for shard in manifest.shards] == [2, 1]
    assert (manifest.dataset["limit"], manifest.dataset["of"]) == (3, 5)
    found = summary(
        autolabel_cli("export", first, "--out", tmp_path / "out", "--limit", "2", "--json")
    )
    assert (found["images"], found["limit"], found["changed"]) == (2, 2, [])
