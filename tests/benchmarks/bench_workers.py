"""One and two workers on this machine, one thread each, and what Ray adds to a shard.

Seconds are of the processor, since other processes of the machine slow the clock's.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import torch

from autolabel.options import Options
from autolabel.run.images import open_source
from autolabel.run.inference import RegionComputer, StageTimer
from integrations.cluster.ray_pool import RayPool
from integrations.detectors import build_detector
from integrations.progress import NullReporter
from regionspot import load_model
from tests.conftest import PHOTOS, photo_path

SHARDS, PHOTOS_OF_SHARD = 8, len(PHOTOS)
FEW, MANY = 64, 1064  # shards without work
LEAST_EFFICIENCY = 0.8  # images a second of the processor, of two workers over one


@dataclass(frozen=True)
class Computed:
    """What an actor took for a shard: images, processor seconds, and when on the clock."""

    images: int
    seconds: float
    start: float
    end: float


class PhotoActor:
    """Computes regions, with masks, of photos."""

    def __init__(self, paths: Sequence[Path], _cpus: int = 1) -> None:
        torch.set_num_threads(1)
        model, source = load_model("mini", "cpu"), open_source(list(paths))
        detector = build_detector("nanodet", sam=None, device=model.device, max_boxes=100)
        timer = StageTimer()
        self.computer = RegionComputer(source, detector, model, Options(), timer, 0.1, False)
        self(0)  # compiles

    def __call__(self, _: int) -> Computed:
        clock, used = time.time(), time.process_time()
        batches = self.computer.batches(self.computer.source.images)
        images = len(list(self.computer.images(batches)))
        return Computed(images, time.process_time() - used, clock, time.time())


class IdleActor:
    """Gives a task back, and takes no time."""

    def __init__(self, _cpus: int = 1) -> None:
        pass

    def __call__(self, task: int) -> int:
        return task


def computed(workers: int) -> list[Computed]:
    build = partial(PhotoActor, [photo_path(name) for name in PHOTOS])
    tasks = dict.fromkeys(range(SHARDS), 0)
    return [done for _, done in RayPool(count=workers).map(build, tasks, "", NullReporter())]


def tree_seconds() -> float:
    """Processor seconds of this process and of all that it started and that still run."""
    here = psutil.Process()
    total = 0.0
    for each in (here, *here.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def idle(tasks: int) -> float:
    """Processor seconds of this process and Ray's from the first result to the last."""
    results = RayPool(count=1).map(IdleActor, dict.fromkeys(range(tasks), 0), "", NullReporter())
    next(results)
    first = tree_seconds()
    left = tasks - 1
    for _ in results:
        left -= 1
        if not left:
            last = tree_seconds()
    return last - first


def test_two_workers() -> None:
    rates: Mapping[int, list[Computed]] = {workers: computed(workers) for workers in (1, 2)}
    per_second = {}
    for workers, shards in rates.items():
        images, seconds = sum(s.images for s in shards), sum(s.seconds for s in shards)
        wall = max(s.end for s in shards) - min(s.start for s in shards)
        per_second[workers] = images / seconds
        print(
            f"\n{workers} workers, {len(shards)} shards of {PHOTOS_OF_SHARD} photos: "
            f"{seconds / images:.2f} s of the processor an image, {images / wall:.2f} images a "
            f"second of the clock, {seconds / wall:.2f} cores had"
        )
    efficiency = per_second[2] / per_second[1]
    print(f"efficiency of two workers, by seconds of the processor: {efficiency:.2f}")
    assert efficiency > LEAST_EFFICIENCY


def test_what_ray_adds_to_a_shard() -> None:
    few, many = idle(FEW), idle(MANY)
    each = (many - few) / (MANY - FEW)
    print(f"\nRay adds {1e3 * each:.1f} ms of the processor to a shard")
    assert 0 < each < 0.1
