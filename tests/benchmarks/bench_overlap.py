"""Regions of photos with a thread for each step over those with one thread for all steps.

Other processes of a machine slow both. So cores are counted twice: those that the process had, and
those that it wanted, in which its threads that waited for a core count, too.
"""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from autolabel.options import Options
from autolabel.run.images import open_source
from autolabel.run.inference import RegionComputer, StageTimer
from autolabel.run.shards import ImageRegions, write_shard
from integrations.detectors import build_detector
from regionspot import load_model
from tests.benchmarks.measure import PeakMemory, processor
from tests.conftest import PHOTOS, photo_path

REPEATS = 4  # of the photos
MIN_SCORE = 0.1
LEAST_WANTED = 1.7  # cores, with one thread a step
MOST_GROWTH = 1.1  # of the peak of all images over that of the first half


@dataclass(frozen=True)
class Measured:
    """Cores that were had and wanted, wall-clock and processor seconds, and peaks of memory after
    the first half and at the end, in MB."""

    had: float
    wanted: float
    wall: float
    processor: float
    peaks: tuple[float, float]
    regions: Sequence[ImageRegions]


def waited() -> dict[str, float]:
    """Seconds that each thread of this process has waited for a core."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            found[task.name] = int((task / "schedstat").read_text().split()[1]) / 1e9
        except OSError:  # it has ended
            continue
    return found


def measured(computer: RegionComputer) -> Measured:
    before, start, used = waited(), time.perf_counter(), time.process_time()
    batches, regions, peaks = computer.batches(computer.source.images), [], []
    peak, later = PeakMemory(), before
    with closing(computer.images(batches)) as found:
        for each in found:
            regions.append(each)
            later = later | waited()
            if len(regions) in (len(batches) // 2, len(batches)):
                peaks.append(peak.megabytes())
    wall, seconds = time.perf_counter() - start, time.process_time() - used
    waiting = sum(value - before.get(task, 0) for task, value in later.items())
    wanted = (seconds + waiting) / wall
    return Measured(seconds / wall, wanted, wall, seconds, (peaks[0], peaks[1]), regions)


def test_a_thread_a_step(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(REPEATS):
        for name in PHOTOS:
            shutil.copy(photo_path(name), folder / f"{i}-{photo_path(name).name}")
    model = load_model("mini", "cpu")
    model.prepare(print)
    detector = build_detector("nanodet", sam=None, device=torch.device("cpu"), max_boxes=100)
    source = open_source(str(folder))
    overlapping = RegionComputer(source, detector, model, Options(), StageTimer(), MIN_SCORE)
    ways = {"one thread": replace(overlapping, overlap=False), "a thread a step": overlapping}
    list(replace(overlapping, source=source.first(1)).images([source.images[:1]]))  # warms up
    found = {name: measured(computer) for name, computer in ways.items()}
    print(f"\n{len(source.images)} photos, {model.runtime.name}, {processor(torch.device('cpu'))}")
    for name, each in found.items():
        print(
            f"  {name:16} {each.wall:6.1f} s, {each.processor:6.1f} s of the processor; of "
            f"{os.cpu_count()} cores had {each.had:.2f}, wanted {each.wanted:.2f}; peak after "
            f"a half {each.peaks[0]:.0f} MB, at the end {each.peaks[1]:.0f} MB"
        )
    (one, steps), names = found.values(), (tmp_path / "one", tmp_path / "steps")
    shards = [write_shard(n, 0, each.regions) for n, each in zip(names, (one, steps), strict=True)]
    assert shards[0] == shards[1]  # the same sha256
    assert steps.peaks[1] <= MOST_GROWTH * steps.peaks[0]
    if torch.get_num_threads() == 1:
        assert steps.wanted > LEAST_WANTED > one.wanted
