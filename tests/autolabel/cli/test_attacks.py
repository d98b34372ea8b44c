"""Names and files made to break a command: it ends in one line, and no traceback is printed."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from integrations.text import printable
from tests.autolabel.helpers import Autolabel, FinishedRun

NAMES = [
    "[/x]",
    "[bold]a[/bold]",
    ":cat:",
    "line\nbreak",
    "\x1b[31mred\x1b]0;title\x07",
    "invoice\u202egpj",
    "$\\frac$",
    "=HYPERLINK(1)",
    "@SUM(A1)",
    "<script>alert(1)</script>",
    "x" * 250,
]
ACTING = ("\x1b", "\x07", "\u202e")


def write_coco(path: Path, names: list[str], file_name: str = "a.jpg", **changes: Any) -> Path:
    boxes = [[10 * n, 0, 8, 8] for n in range(len(names))]
    content = {
        "images": [{"id": 1, "file_name": file_name, "width": 500, "height": 100}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": n, "bbox": box, "score": 0.9}
            for n, box in enumerate(boxes, 1)
        ],
    }
    path.write_text(json.dumps(content | changes))
    return path


def test_a_report_on_any_class_names(autolabel_cli: Autolabel, tmp_path: Path) -> None:
    # A path can hold a closing tag: the folder is called "[".
    truth, predicted = tmp_path / "[/x]\x1b.json", tmp_path / "=p\u202e.json"
    truth.parent.mkdir()
    write_coco(truth, NAMES)
    write_coco(predicted, NAMES[::-1])
    out = tmp_path / "report [/x]"
    result = autolabel_cli(
        *("evaluate", "--gt", truth, "--pred", predicted, "--out", out, "--bootstrap", "0")
    )
    assert result.exit_code == 0, result.output
    page = (out / "index.html").read_text(encoding="utf-8")
    for text in (result.output, page):
        assert not any(mark in text for mark in ACTING)
    assert "<script>" not in page
    for name in ("words.csv", "confusions.csv"):
        with (out / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
        assert any("'=HYPERLINK(1)" in row for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_over_any_names(
    autolabel_cli: Autolabel, words: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name.replace("/", "_")
    folder.mkdir()
    file = name.replace("/", "_")[:240]
    Image.new("RGB", (8, 8)).save(folder / f"{file}.png")
    (folder / f"{file}.psd").write_bytes(b"8BPS")
    result = autolabel_cli("run", folder, "--vocab", words, "--no-fiftyone", "--dry-run")
    assert result.exit_code == 0, result.output
    assert not any(mark in result.output for mark in ACTING)
    assert printable(f"{file}.psd") in result.output


def test_names_that_are_not_utf8(autolabel_cli: Autolabel, words: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (8, 8)).save(photos / "a.png")
    Image.new("RGB", (8, 8)).save(Path(os.fsdecode(bytes(photos) + b"/caf\xe9.png")))
    command = ["run", photos, "--vocab", words, "--no-fiftyone", "--dry-run"]
    listed = autolabel_cli(*command)
    assert listed.exit_code == 0
    assert "caf\\udce9.png: the file name is not UTF-8" in listed.output
    other = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    refused = autolabel_cli(*command, "--out", other)
    assert refused.exit_code == 1
    assert "caf\\udce9 is not UTF-8; rename" in refused.output
    photos.rename(other)
    refused = autolabel_cli("run", other, *command[2:])
    assert refused.exit_code == 1
    assert "caf\\udce9 is not UTF-8; rename" in refused.output


def test_a_cache_of_any_name(autolabel_cli: Autolabel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONSPOT_CACHE", "/nowhere/[/x]\x1b\udce9")
    for command in ("list", "verify"):
        result = autolabel_cli("models", command)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output


def test_arguments_that_are_not_understood_act_on_nothing(autolabel_cli: Autolabel) -> None:
    for command in (["\x1b[31m[/x]"], ["--\x1b[31m"], ["verify", "a", "b\x1b[31m"]):
        result = autolabel_cli(*command)
        assert result.exit_code == 2
        assert "\x1b[31m" not in result.output


@pytest.mark.parametrize(
    ("number", "mend"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "can be written to"), (errno.EACCES, "perm")],
)
def test_a_system_that_refuses_is_one_line(
    autolabel_cli: Autolabel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    mend: str,
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    source = write_coco(tmp_path / "labels.json", ["cat"])
    monkeypatch.setattr(os, "fsync", fail)
    commands: list[Callable[[], Any]] = [
        lambda: autolabel_cli(*CONVERT, source, tmp_path / "out [/x].json"),
        lambda: autolabel_cli(
            *("evaluate", "--gt", source, "--pred", source, "--bootstrap", "0"),
            *("--out", tmp_path / "out [/x]"),
        ),
    ]
    for command in commands:
        result = command()
        assert result.exit_code == 4, result.output
        last = result.output.splitlines()[-1]
        assert last.startswith("error: ")
        assert "out [/x]" in last
        assert mend in last
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [source]


CONVERT = ("convert", "--from", "coco", "--to", "lvis")
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        DEEP,
        f'{{"images": {DEEP}',
        '{"images": [{"id": "' + "1" * 6000 + '"}]}',
        '{"images": [{"id": ' + "1" * 6000 + "}]}",
        '{"images": [{"id": 1e400, "file_name": "a.jpg"}]}',
        '{"images": [{"id": 1, "file_name": "\\ud800.jpg"}]}',
        '{"images": [{"id": 1, "file_name": ["a"]}]}',
        '{"images": {}, "annotations": 3}',
    ],
)
def test_label_files_that_were_edited_are_one_line(
    autolabel_cli: Autolabel, tmp_path: Path, text: str
) -> None:
    source = tmp_path / "labels.json"
    source.write_text(text)
    result = autolabel_cli(*CONVERT, source, tmp_path / "out.json")
    assert result.exit_code == 1, result.output
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1
    assert len(result.output) < 1000


@pytest.mark.parametrize(
    "edit",
    [
        "[" * 100_000,
        "null",
        '{"options": {}, "shards": [], "schema_version": 3}',
        '{"options": {}, "shards": [], "schema_version": 3, "name": "\\ud800"}',
        '{"options": {}, "shards": [], "schema_version": ' + "1" * 6000 + "}",
    ],
)
def test_a_manifest_that_was_edited_is_one_line(
    autolabel_cli: Autolabel, tmp_path: Path, edit: str
) -> None:
    (tmp_path / "run.json").write_text(edit)
    for command in (["verify", tmp_path], ["export", tmp_path, "--out", tmp_path / "out"]):
        result = autolabel_cli(*command)
        assert result.exit_code == 1
        assert result.output.startswith("error: ")
        assert result.output.count("\n") == 1
        assert len(result.output) < 1000


@pytest.mark.parametrize("line", ["{", "null", '{"file_name": 3}', '{"a": 1}', "\udcff"])
def test_a_list_of_skipped_images_that_was_edited_is_one_line(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path, line: str
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_bytes((finished.folder / "run.json").read_bytes())
    (run / "skipped.jsonl").write_bytes(line.encode("utf-8", "surrogateescape") + b"\n")
    from autolabel.run.outputs import read_skipped
    from regionspot.errors import InputError

    with pytest.raises(InputError, match=r"skipped\.jsonl"):
        read_skipped(run)


def test_sigterm_is_one_line_and_exit_code_143(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    program = "from autolabel.cli import main; main()"
    command = ["run", str(tmp_path), "--vocab", str(pipe), "--no-fiftyone"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *command], stderr=subprocess.PIPE, text=True
    )
    with pipe.open("w"):  # returns once the command reads
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert err == "stopped; give `autolabel run` again, which keeps what is finished\n"
