"""A command that is killed anywhere ends, given again, with the bytes of one that never was.

`make torture` kills at every operation and prints how many there were; the suite at a few of them,
chosen by a seed.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations.fiftyone.session import connect
from tests.autolabel.helpers import FinishedRun

# Of each command; "all" for every one.
POINTS = os.environ.get("AUTOLABEL_KILL_POINTS", "3")
SEED = 15
VARIES = ("seconds", "started", "sha256")
# What a command says that was killed after its output was in place.
THERE_ALREADY = "or say --overwrite"


class Server:
    """The fork server; see `tests.autolabel.torture.server`."""

    def __init__(self) -> None:
        connect()  # MongoDB runs as long as this process
        folder = Path(os.environ["FIFTYONE_DATABASE_DIR"]).parent
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.autolabel.torture.server", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        )

    def run(
        self,
        argv: list[str],
        root: Path,
        kill_at: int | None = None,
        dataset: str | None = None,
    ) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"argv": argv, "root": str(root), "kill_at": kill_at, "dataset": dataset}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def content(folder: Path) -> dict[str, Any]:
    """Every file's bytes; of a run's manifest, what two runs may not differ in."""
    files: dict[str, Any] = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    for name in [name for name in files if name.endswith("run.json")]:
        manifest = json.loads(files[name])
        files[name] = {key: manifest[key] for key in manifest if key not in VARIES}
    return files


def points(operations: int) -> list[int]:
    every = list(range(1, operations + 1))
    if POINTS == "all":
        return every
    return sorted(random.Random(SEED).sample(every, min(int(POINTS), operations)))


def torture(
    server: Server, argv: list[str], root: Path, out: Path, dataset: str | None = None
) -> None:
    """Kill a command at its operations, each time from the same beginning.

    Args:
        server: runs it.
        argv: its arguments.
        root: below which files count.
        out: what it writes; where it is there before, that is its beginning.
        dataset: of FiftyOne that it makes, too; its name is free at the beginning.
    """
    beginning = root / "beginning"
    if out.exists():
        shutil.copytree(out, beginning)
    whole = server.run(argv, root, dataset=dataset)
    assert whole["code"] == 0, whole["output"]
    expected = content(out)
    failures = []
    chosen = points(whole["operations"])
    for number in chosen:
        reset(out, beginning, dataset)
        killed = server.run(argv, root, kill_at=number)
        assert killed["code"] == -9, f"operation {number} did not happen: {killed}"
        again = server.run(argv, root, dataset=dataset)
        left = [str(path) for path in root.rglob(".autolabel-*")]
        ended = again["code"] == 0 or THERE_ALREADY in again["output"]
        if not ended or content(out) != expected or again["state"] != whole["state"] or left:
            failures.append((number, left, again["output"][-500:]))
    reset(out, root / "none", dataset)
    print(f"{argv[0]}: killed at {len(chosen)} of {whole['operations']} operations")
    assert not failures, f"{len(failures)} of {len(chosen)}: {failures[:3]}"


def reset(out: Path, beginning: Path, dataset: str | None) -> None:
    shutil.rmtree(out, ignore_errors=True)
    if beginning.exists():
        shutil.copytree(beginning, out)
    if dataset is not None:
        import fiftyone as fo

        if fo.dataset_exists(dataset):
            fo.delete_dataset(dataset)


@pytest.fixture
def source(finished: FinishedRun, tmp_path: Path) -> Path:
    """A run folder of this test's own, without FiftyOne."""
    from autolabel.run.manifest import RunFolder, read_manifest

    folder = tmp_path / "source"
    shutil.copytree(finished.folder, folder)
    RunFolder(folder, read_manifest(folder)).update(fiftyone=None)
    return folder


def test_run(server: Server, finished: FinishedRun, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("cat.jpg", "rocket.jpg"):
        shutil.copyfile(finished.photos / name, photos / name)
    name = f"killed-{os.getpid()}"
    files = ["--vocab", str(finished.words), "--out", str(tmp_path / name)]
    argv = ["run", str(photos), *files, "--shard-size", "1"]
    torture(server, argv, tmp_path, tmp_path / name, dataset=name)


def test_relabel(server: Server, source: Path, tmp_path: Path) -> None:
    words = tmp_path / "coarse.txt"
    words.write_text("animal: cat, horse\nvehicle: motorcycle, rocket\n")
    out = tmp_path / "relabelled"
    torture(
        server, ["relabel", str(source), "--vocab", str(words), "--out", str(out)], tmp_path, out
    )


def test_export_over_an_earlier_one(server: Server, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    argv = ["export", str(source), "--out", str(out), "--format", "yolo", "--copy-images"]
    first = server.run([*argv, "--min-confidence", "0.9"], tmp_path)
    assert first["code"] == 0, first["output"]
    (out / "notes.txt").write_text("mine")
    torture(server, [*argv, "--overwrite"], tmp_path, out)


def test_convert(server: Server, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "converted"
    labels = ["convert", str(source / "labels.coco.json"), str(out), "--from", "coco"]
    torture(server, [*labels, "--to", "cvat"], tmp_path, out)


def test_evaluate(server: Server, source: Path, tmp_path: Path) -> None:
    out, labels = tmp_path / "report", str(source / "labels.coco.json")
    argv = ["evaluate", "--gt", labels, "--pred", labels, "--out", str(out), "--bootstrap", "5"]
    torture(server, argv, tmp_path, out)
