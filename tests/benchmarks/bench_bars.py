"""All bars of speed in one run, those of a run of photos against an earlier commit.

make bench-bars AGAINST=COMMIT PHOTOS=8 LABELLED=coco_val    # a folder with images/

Both commits label the same photos in turns with masks, 25 words and one thread, each with its own
defaults and in a process of its own. What a process takes to start is measured by a run of one
photo, and taken off.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
import torch

from integrations.detectors.nanodet import COCO_CLASSES
from integrations.fiftyone.session import connect
from integrations.formats.coco import read_coco
from integrations.images import read_image
from regionspot import load_model
from regionspot.boxes import as_boxes, box_iou
from tests.benchmarks.bench_evaluate import MOST_OF_PYCOCOTOOLS, evaluate_share
from tests.benchmarks.bench_stored import (
    MOST_OF_RUN,
    fiftyone_share,
    measured_run,
    words_share,
)
from tests.benchmarks.measure import matmul_rate, processor, time_side_by_side
from tests.conftest import PHOTOS, photo_path

ROOT = Path(__file__).parents[2]
ROUNDS, WORDS, BOXES, SAME_BOX = 2, 25, 50, 0.9
LEAST_FASTER, MOST_OF_TOKENS, LEAST_OF_RATE, LEAST_SAME = 2.2, 0.35, 0.55, 0.98

# Tokens, masks and run lengths of boxes on a grid, without the towers. Both commits can run it.
TOKENS = """
import sys, time
from contextlib import contextmanager
import numpy as np
from integrations.images import read_image
from regionspot import load_model
model, image = load_model("mini", "cpu"), read_image(sys.argv[1])
height, width = image.shape[:2]
first = np.random.default_rng(0).uniform(0, 0.7, (int(sys.argv[2]), 2)) * (width, height)
boxes = np.concatenate([first, first + (0.3 * width, 0.3 * height)], axis=1).astype(np.float32)
embeddings, maps = [model.localizer.encode(image)], model.encoder.image_tokens([image])
best = float("inf")
for _ in range(4):
    seconds = 0.0
    @contextmanager
    def stage(name):
        global seconds
        start = time.process_time()
        yield
        seconds += (time.process_time() - start) * (name == "localizer")
    model.read([image], embeddings, maps, [boxes], True, stage)
    best = min(best, seconds)
print(best)
"""


@dataclass(frozen=True)
class Bar:
    """A measured value and the bound that it has to keep."""

    name: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        asked = f"{'at least' if self.at_least else 'at most'} {self.bound:.4g}"
        return f"  {self.name:52} {self.value:8.4f}  {asked:18} {'' if self.holds else 'MISSED'}"


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit in a folder of their own."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", "--quiet", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


@dataclass(frozen=True)
class Used:
    """Seconds of a process: of the clock and of the processor."""

    wall: float
    processor: float

    def less(self, other: "Used", images: int) -> "Used":
        return Used((self.wall - other.wall) / images, (self.processor - other.processor) / images)


def python(tree: Path, *arguments: object) -> tuple[Used, str]:
    """Run a program with the packages of a tree on one thread."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=tree, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, output
    return Used(time.perf_counter() - start, usage.ru_utime + usage.ru_stime), output


def photos(labelled: str | None, count: int) -> list[Path]:
    if labelled is None:
        return [photo_path(name) for name in PHOTOS][:count]
    return sorted(Path(labelled, "images").glob("*.jpg"))[:count]


def label_both(trees: dict[str, Path], paths: list[Path], folder: Path) -> dict[str, Used]:
    """Seconds an image of `autolabel run` of each tree, the fastest of the rounds.

    The run of the last round lies in `folder`, under the tree's name.
    """
    few, many, words = folder / "few", folder / "many", folder / "words.txt"
    for place, some in ((few, paths[:1]), (many, paths)):
        place.mkdir()
        for path in some:
            shutil.copy(path, place)
    words.write_text("\n".join(COCO_CLASSES[:WORDS]))
    found: dict[str, list[Used]] = {name: [] for name in trees}
    for _ in range(ROUNDS):
        for name, tree in trees.items():
            both = []
            for place in (few, many):
                out = folder / name / place.name
                shutil.rmtree(out, ignore_errors=True)
                options = ("--vocab", words, "--out", out, "--no-fiftyone")
                quiet = ("--conf-threshold", "0.05", "--quiet")
                command = ("-m", "autolabel", "run", place, *options, *quiet)
                both.append(python(tree, *command)[0])
            found[name].append(both[1].less(both[0], len(paths) - 1))
    return {
        name: Used(min(each.wall for each in uses), min(each.processor for each in uses))
        for name, uses in found.items()
    }


def same_words(one: Path, other: Path) -> float:
    """The share of boxes, labelled in both runs, that have the same word."""
    theirs = {image.file_name: image.annotations for image in read_coco(other).images}
    same = []
    for image in read_coco(one).images:
        labels = theirs.get(image.file_name, ())
        if image.annotations and labels:
            boxes = (as_boxes([each.box for each in some]) for some in (image.annotations, labels))
            overlap = box_iou(*boxes)  # (N, M)
            for mine, row in zip(image.annotations, overlap, strict=True):
                if row.max() >= SAME_BOX:
                    same.append(mine.category_id == labels[int(row.argmax())].category_id)
    assert same
    print(f"  {sum(same)} of {len(same)} boxes have the same word")
    return sum(same) / len(same)


def tower_rates(path: Path) -> list[Bar]:
    """Each tower's operations a second over those of a bfloat16 product of large matrices."""
    device, image = torch.device("cpu"), read_image(path)
    model = load_model("mini", "cpu")
    full = load_model("mini", "cpu", dtype=torch.float32, runtime="torch")
    work, counted = (
        {
            "MobileSAM": lambda m=each: m.localizer.encode(image),
            "EfficientNet": lambda m=each: m.encoder.image_tokens([image]),
        }
        for each in (model, full)
    )
    timings = time_side_by_side(work, device, rounds=6, counted=counted)
    rate = matmul_rate(device, torch.bfloat16)
    return [
        Bar(f"{name}, share of the bf16 rate", each.rate / rate, LEAST_OF_RATE, at_least=True)
        for name, each in timings.items()
    ]


def run_bars(trees: dict[str, Path], paths: list[Path], folder: Path) -> Iterator[Bar]:
    """The bars of a run of photos."""
    seconds = label_both(trees, paths, folder)
    for name, each in seconds.items():
        print(f"  {name:7} {each.processor:.2f} s of the processor an image, {each.wall:.2f} s")
    before, now = (seconds[name] for name in trees)
    faster = before.processor / now.processor
    yield Bar("images a second of the processor", faster, LEAST_FASTER, at_least=True)
    tokens = [
        float(python(tree, "-c", TOKENS, paths[0], BOXES)[1].split()[-1]) for tree in trees.values()
    ]
    yield Bar("tokens, masks and run lengths", tokens[1] / tokens[0], MOST_OF_TOKENS)
    yield from tower_rates(paths[0])
    again = folder / "same options"
    options = ("--detector-weight", "0", "--containment", "1", "--out", again, "--quiet")
    words = ("--vocab", folder / "words.txt", "--conf-threshold", "0.05")
    python(ROOT, "-m", "autolabel", "relabel", folder / "now/many", *words, *options)
    runs = (folder / "before/many/labels.coco.json", again / "labels.coco.json")
    yield Bar("boxes with the same word", same_words(*runs), LEAST_SAME, at_least=True)


def stored_bars(folder: Path, images: int) -> Iterator[Bar]:
    """The bars of stored regions and of labels, against this commit's own run."""
    connect()
    measured = measured_run(folder / "stored")
    for count in (80, 1203):
        share = words_share(measured, folder / f"{count} words", count)
        yield Bar(f"{count} other words over the run", share, MOST_OF_RUN[count])
    share, _ = fiftyone_share(measured, folder / "fiftyone", images)
    yield Bar("stored regions into FiftyOne over the run", share, MOST_OF_RUN["FiftyOne"])
    yield Bar("evaluate over pycocotools", evaluate_share(), MOST_OF_PYCOCOTOOLS)


def test_all_bars(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    option = request.config.getoption
    commit = option("--against")
    if commit is None:
        pytest.exit("bench_bars needs --against COMMIT", 2)
    paths = photos(option("--labelled"), int(option("--photos")))
    print(f"\n{len(paths)} photos, {processor(torch.device('cpu'))}, against {commit}")
    bars = []
    with worktree(commit, tmp_path / "tree") as before:
        of_run = run_bars({"before": before, "now": ROOT}, paths, tmp_path)
        for bar in chain(of_run, stored_bars(tmp_path, int(option("--images")))):
            print(bar, flush=True)
            bars.append(bar)
    assert all(each.holds for each in bars)
