"""A command that is broken off anywhere ends, given again, with the bytes of one that never was.

It is killed, or the disk is full from then on, or MongoDB is gone. `make torture` does so at every
operation and prints how many there were; the suite at a few of them, chosen by a seed.
"""

import functools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from autolabel.run.manifest import CONTACT_SHEET, MANIFEST
from integrations.fiftyone.session import connect
from tests.autolabel.helpers import FinishedRun

# Of each command; "all" for every one.
POINTS = os.environ.get("AUTOLABEL_KILL_POINTS", "3")
SEED = 15
VARIES = ("seconds", "started", "sha256")
# What a command says whose output is whole, because what broke did not matter to it.
THERE_ALREADY = "or say --overwrite"


class Server:
    """The fork server; see `tests.autolabel.torture.server`."""

    def __init__(self, folder: Path) -> None:
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
        at: int | None = None,
        fault: str = "kill",
        dataset: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job: dict[str, Any] = {"argv": argv, "root": str(root), "at": at, "fault": fault}
        job |= {"dataset": dataset, "environ": dict(environ or {})}
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
    connect()  # MongoDB runs as long as this process
    server = Server(Path(os.environ["FIFTYONE_DATABASE_DIR"]).parent)
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
    server: Server,
    argv: list[str],
    root: Path,
    out: Path,
    dataset: str | None = None,
    environ: Mapping[str, str] | None = None,
    faults: Sequence[str] = ("kill", "disk"),
    copy_of: str | None = None,
) -> None:
    """Break a command at its operations, each time from the same beginning.

    Args:
        server: runs it.
        argv: its arguments.
        root: below which files count.
        out: what it writes; where it is there before, that is its beginning.
        dataset: of FiftyOne that it makes, too; its name is free at the beginning.
        environ: of the command, beside this process's.
        faults: each as the server has it.
        copy_of: the dataset that `dataset` is a copy of at the beginning; None: it is not there.
    """
    run = functools.partial(server.run, argv, root, environ=environ or {})
    beginning = root / "beginning"
    if out.exists():
        shutil.copytree(out, beginning)
    failures = []
    for fault in faults:
        reset(out, beginning, dataset, copy_of)
        whole = run(dataset=dataset, fault=fault)
        assert whole["code"] == 0, whole["output"]
        expected = content(out)
        chosen = points(whole["operations"])
        for number in chosen:
            reset(out, beginning, dataset, copy_of)
            broken = run(at=number, fault=fault)
            again = run(dataset=dataset)
            left = [str(path) for path in root.rglob(".autolabel-*")]
            ended = again["code"] == 0 or (broken["code"] == 0 and THERE_ALREADY in again["output"])
            found = content(out)
            other = [name for name in expected | found if expected.get(name) != found.get(name)]
            same = not other and again["state"] == whole["state"]
            if not (ended_well(broken, fault) and ended and same and not left):
                outputs = broken["output"], again["output"][-500:]
                failures.append((fault, number, other, left, *outputs))
        print(f"{argv[0]}: {fault} at {len(chosen)} of {whole['operations']} operations")
    reset(out, root / "none", dataset)
    assert not failures, f"{len(failures)}: {failures[:3]}"


def ended_well(broken: Mapping[str, Any], fault: str) -> bool:
    """Whether a command ended as it must when something breaks: in one line, if it can say one."""
    if fault == "kill":
        return broken["code"] == -9
    if broken["code"] == 0:  # what was left to do needs no room
        return fault == "disk"
    lines = [line for line in broken["output"].splitlines() if "error:" in line]
    return broken["code"] in (1, 4) and len(lines) == 1 and "Traceback" not in broken["output"]


def reset(out: Path, beginning: Path, dataset: str | None, copy_of: str | None = None) -> None:
    shutil.rmtree(out, ignore_errors=True)
    if beginning.exists():
        shutil.copytree(beginning, out)
    if dataset is not None:
        import fiftyone as fo

        if fo.dataset_exists(dataset):
            fo.delete_dataset(dataset)
        if copy_of is not None:
            fo.load_dataset(copy_of).clone(dataset, persistent=True)


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


def test_run_into_the_dataset_of_another(
    server: Server, finished: FinishedRun, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The other run's labels stay, and what a person reviewed of them is carried over."""
    import fiftyone as fo

    photos, out = tmp_path / "photos", tmp_path / "other"
    photos.mkdir()
    shutil.copyfile(finished.photos / "cat.jpg", photos / "cat.jpg")
    name = f"first-{os.getpid()}"
    command = ["run", str(photos), "--vocab", str(finished.words), "--no-masks"]
    first = server.run([*command, "--out", str(tmp_path / name)], tmp_path)
    assert first["code"] == 0, first["output"]
    dataset = fo.load_dataset(name)
    sample = dataset.first()
    sample.predictions.detections[0].label = "tabby"
    sample.save()
    request.addfinalizer(dataset.clone(f"{name} before", persistent=True).delete)
    into = ["--into", str(tmp_path / name), "--carry-reviewed", "--out", str(out)]
    # A full disk ends where a kill does, and the suite has no time for both.
    faults = ("kill", "disk") if POINTS == "all" else ("kill",)
    torture(server, [*command, *into], tmp_path, out, name, {}, faults, f"{name} before")


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


def test_training_resumes(server: Server, finished: FinishedRun, tmp_path: Path) -> None:
    """`tests.train.features.test_extract` kills the extraction, which has processes of its own."""
    data, out = tmp_path / "data", tmp_path / "trained"
    shutil.copytree(finished.photos, data / "images")
    shutil.copyfile(finished.folder / "labels.coco.json", data / "instances.json")
    argv = ["train", "stage1", "--data", str(data), "--preset", "mini", "--no-curves"]
    for setting in ("iterations=3", "save_every=1", "images_per_step=2"):
        argv += ["--set", setting]
    argv += ["--cache", str(out / "features"), "--run-folder", str(out / "state")]
    first = server.run(argv, tmp_path)
    assert first["code"] == 0, first["output"]
    shutil.rmtree(out / "state")
    torture(server, argv, tmp_path, out)


def test_weights_are_pulled(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    cache = {"REGIONSPOT_CACHE": str(out)}
    torture(server, ["models", "pull", "minilm-tokenizer"], tmp_path, out, environ=cache)


def test_run_whose_database_dies(finished: FinishedRun, tmp_path: Path) -> None:
    """The labels are in the run folder all the same, and the same command brings them in."""
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copyfile(finished.photos / "cat.jpg", photos / "cat.jpg")
    server = Server(tmp_path / "fiftyone")

    def argv(name: str) -> list[str]:
        files = ["--vocab", str(finished.words), "--out", str(tmp_path / name)]
        return ["run", str(photos), *files, "--database", str(tmp_path / "fiftyone")]

    def labels(name: str) -> dict[str, Any]:
        named = (MANIFEST, CONTACT_SHEET)  # these have the run's name
        return {key: value for key, value in content(tmp_path / name).items() if key not in named}

    def in_database(answer: dict[str, Any]) -> list[Any]:
        return [
            (photo, label["label"], label["bounding_box"], label["confidence"])
            for photo, sample in answer["state"]["samples"]
            for label in sample["predictions"]["detections"]
        ]

    try:
        # Sets up the database, which takes commands, too.
        first = server.run(argv("first"), tmp_path)
        assert first["code"] == 0, first["output"]
        whole = server.run(argv("whole"), tmp_path, fault="database", dataset="whole")
        assert whole["code"] == 0, whole["output"]
        chosen = points(whole["operations"])
        for number in chosen if POINTS == "all" else chosen[:1]:  # each starts MongoDB twice
            name = f"run-{number}"
            started = time.monotonic()
            broken = server.run(argv(name), tmp_path, at=number, fault="database")
            assert time.monotonic() - started < 120, "a database that is gone is not waited for"
            assert ended_well(broken, "database"), broken["output"]
            assert labels(name) == labels("whole")
            again = server.run(argv(name), tmp_path, dataset=name)
            assert again["code"] == 0, again["output"]
            assert in_database(again) == in_database(whole)
            assert again["state"]["claims"] == 0
        print(f"run: database at {len(chosen)} of {whole['operations']} commands")
    finally:
        server.close()
