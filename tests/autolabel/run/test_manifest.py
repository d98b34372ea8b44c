"""`run.json`: what is written is read back, and what is wrong in it is named."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autolabel.options import Options
from autolabel.run.manifest import (
    LOCK,
    FiftyOneTarget,
    Manifest,
    RunFolder,
    Shard,
    UnusableManifest,
    damaged_files,
    locked,
    read_manifest,
    time_of_start,
)
from autolabel.run.plan import find_run
from regionspot.errors import InputError
from regionspot.weights import sha256_of

MANIFEST = Manifest(
    name="pets",
    status="complete",
    dataset={"kind": "folder", "root": "/pets", "images": 3, "sha256": "ab"},
    vocabulary={"words": ["cat"], "synonyms": [["cat", "kitten"]], "sha256": "cd"},
    options=Options(conf_threshold=0.25),
    model={"torch": "2.6"},
    shards=(Shard(file="regions/0", images=3, skipped=1, regions=9, sha256="ef"),),
    counts={"images": 3, "labelled": 2, "labels": 4, "by_word": {"cat": 4}, "skipped": 1},
    fiftyone=FiftyOneTarget(dataset="pets", label_field="predictions", run_key="pets"),
    seconds={"reading": 0.5},
    started="2026-01-01T00:00:00+00:00",
)


def test_runs_of_one_second_are_told_apart() -> None:
    """FiftyOne's registration of a run names its start: an equal one would pass for written."""
    started = [time_of_start()]
    while len(set(started)) < 3:
        started.append(time_of_start())
    assert len({each.split(".")[0] for each in started}) < 3


def written(folder: Path, **changes: Any) -> Path:
    """A run folder whose manifest has other values; dotted names reach into its objects."""
    RunFolder(folder, MANIFEST).update()
    content = json.loads((folder / "run.json").read_text())
    for name, value in changes.items():
        *parents, key = name.split(".")
        at = content
        for parent in parents:
            at = at[parent]
        at[key] = value
    (folder / "run.json").write_text(json.dumps(content))
    return folder


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_manifest(written(tmp_path)) == MANIFEST
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["schema_version"] == 3
    assert content["options"]["conf_threshold"] == 0.25


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("options.conf_threshold", "0.3", "must be a valid number, got '0.3'"),
        ("options.iou", 7, "must be from 0 to 1, got 7"),
        ("options.batch_size", 0, "must be 1 or more, got 0"),
        ("options.batch_size", 2.5, "must be a valid integer"),
        ("options.device", "abacus", "must be one of auto, cpu, cuda, cuda:N, mps, got 'abacus'"),
        ("options.masks", 1, "must be a valid boolean, got 1"),
        ("options.colour", "red", "is unknown"),
        ("dataset.images", "3", "must be a valid integer, got '3'"),
        ("vocabulary.words", "cat", "must be a valid array"),
        ("shards", [{"file": "x"}], "is missing"),
        ("counts.by_word", {"cat": "four"}, "must be a valid integer"),
        ("note", "mine", "is unknown"),
        ("seconds", None, "must be"),
    ],
)
def test_a_wrong_value_is_one_line_with_file_and_field(
    tmp_path: Path, name: str, value: object, expected: str
) -> None:
    with pytest.raises(UnusableManifest) as caught:
        read_manifest(written(tmp_path, **{name: value}))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'run.json'}: {name}")
    assert expected in message
    assert "run again with --overwrite" in message
    assert "\n" not in message


@pytest.mark.parametrize(("version", "came"), [(4, "4"), (None, "None"), ("2", "2")])
def test_another_schema_version_says_what_to_do(tmp_path: Path, version: object, came: str) -> None:
    with pytest.raises(UnusableManifest) as caught:
        read_manifest(written(tmp_path, schema_version=version))
    assert f"schema_version must be 3, got {came}; run again with --overwrite" in str(caught.value)


def test_a_manifest_without_a_version_is_overwritten_only_when_told(tmp_path: Path) -> None:
    folder = written(tmp_path)
    content = json.loads((folder / "run.json").read_text())
    del content["schema_version"]
    (folder / "run.json").write_text(json.dumps(content))
    with pytest.raises(UnusableManifest, match="schema_version must be 3, got none"):
        find_run(folder, MANIFEST, overwrite=False)
    assert find_run(folder, MANIFEST, overwrite=True) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "app", "schema_version": 3}'])
def test_what_is_no_runs_manifest_is_never_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is not a run's manifest"):
            find_run(tmp_path, MANIFEST, overwrite)


@pytest.mark.parametrize(
    ("name", "value"),
    [("vocabulary.words", ["dog"]), ("model", {"torch": "2.7"}), ("options.iou", 0.7)],
)
def test_an_edited_value_is_noticed(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(UnusableManifest, match="was changed after it was written"):
        read_manifest(written(tmp_path, **{name: value}))


def test_another_layout_of_the_same_values_is_the_same_manifest(tmp_path: Path) -> None:
    RunFolder(tmp_path, MANIFEST).update()
    content = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(dict(reversed(content.items())), indent=4))
    assert read_manifest(tmp_path) == MANIFEST


def test_files_that_are_lost_cut_or_changed_are_named(tmp_path: Path) -> None:
    names = ("labels.coco.json", "labels.lvis.json", "skipped.jsonl")
    for name in names:
        (tmp_path / name).write_text(name)
    files = {name: sha256_of(tmp_path / name) for name in names}
    manifest = dataclasses.replace(MANIFEST, shards=(), files=files)
    assert damaged_files(tmp_path, manifest) == []
    (tmp_path / names[0]).unlink()
    os.truncate(tmp_path / names[1], 5)
    assert damaged_files(tmp_path, manifest) == [*names[:2]]


def test_a_folder_with_what_a_killed_process_left_is_free(tmp_path: Path) -> None:
    """It was killed before its first `run.json` took its name."""
    process = subprocess.run(
        [sys.executable, "-c", KILLED_IN_ITS_FIRST_WRITE, str(tmp_path / "run")], check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert [path.suffix for path in (tmp_path / "run").iterdir() if path.name != LOCK] == [".part"]
    assert find_run(tmp_path / "run", MANIFEST, overwrite=False) is None
    with locked(tmp_path / "run"):
        RunFolder(tmp_path / "run", MANIFEST).update()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


KILLED_IN_ITS_FIRST_WRITE = """
import os, signal, sys
from pathlib import Path
from autolabel.run.manifest import RunFolder, locked
from tests.autolabel.run.test_manifest import MANIFEST

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
with locked(Path(sys.argv[1])):
    RunFolder(Path(sys.argv[1]), MANIFEST).update()
"""


def test_who_holds_a_folder_is_named(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(InputError, match=f"process {os.getpid()} on .*, since 20"),
        locked(tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir())
