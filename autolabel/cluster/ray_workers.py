"""Shards of a run computed by Ray's actors, each of which holds the towers once.

An actor reads its images by path and writes its shards into the run folder, so both lie on a file
system that all machines share. The driver alone writes the manifest, the label files and FiftyOne.
What a run ends with has the same bytes as on one machine.
"""

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from autolabel.run.growth import EarlierRegions
from autolabel.run.images import ImageRef
from autolabel.run.inference import StageTimer
from autolabel.run.manifest import RunFolder, read_manifest
from autolabel.run.pipeline import (
    Todo,
    WrittenShard,
    detector_of,
    provenance_of,
    region_computer,
    write_shards,
)
from autolabel.run.plan import Plan
from integrations.cluster.ray_pool import RayPool, ray_pool
from integrations.progress import NullReporter, Reporter
from regionspot import load_model
from regionspot.devices.runtime import TORCH
from regionspot.errors import InputError


@dataclass(frozen=True)
class _Job:
    """What an actor needs to know of a run.

    Attributes:
        plan: without its images.
        folder: the run folder.
        started: of the run's manifest.
        device: what the actor is to compute on.
    """

    plan: Plan
    folder: Path
    started: str
    device: str


@dataclass(frozen=True)
class RayWorkers:
    """Actors that compute the regions of a run."""

    pool: RayPool

    @property
    def device(self) -> str:
        """What the actors compute on, as a run's manifest has it."""
        return self.pool.device

    def write(
        self, plan: Plan, reporter: Reporter, run: RunFolder, todo: Todo
    ) -> Iterator[WrittenShard]:
        """Write shards into the run folder, in the order in which they are done.

        Raises:
            InputError: as of `RayPool.map`.
        """
        images = replace(plan.source, images=(), skipped=())  # a shard's come with it
        folder, started = run.folder.resolve(), run.manifest.started
        job = _Job(replace(plan, source=images), folder, started, self.device)
        tasks = {index: (index, refs) for index, refs in todo.items()}
        for _, written in self.pool.map(partial(ShardActor, job), tasks, str(folder), reporter):
            reporter.advance(written.shard.images)
            yield written


def ray_workers(count: int, address: str, gpus_per_worker: float) -> RayWorkers | None:
    """The workers that `run --workers --ray --gpus-per-worker` ask for; None: this process.

    Raises:
        InputError: as of `ray_pool`.
    """
    pool = ray_pool(count, address, gpus_per_worker)
    return RayWorkers(pool) if pool else None


class ShardActor:
    """Computes and writes shards of a run, in a process of its own.

    Raises:
        InputError: the folders are not there on this machine, or its models are other ones.
    """

    def __init__(self, job: _Job, cpus: int = 1) -> None:
        self._run = _run_folder(job)
        options = job.plan.request.options
        device = job.device if options.device == "auto" else options.device
        expected = self._run.manifest.model
        runtime = expected.get("runtime", TORCH.name).partition(" ")[0]
        model = load_model(options.model, device, options.checkpoint or None, runtime=runtime)
        detector = job.plan.boxes or detector_of(job.plan, model)
        own = provenance_of(job.plan, model) | {"device": job.device}
        if other := sorted(name for name, value in expected.items() if own.get(name) != value):
            raise InputError(
                f"the worker on {socket.gethostname()} has other {', '.join(other)} than the run; "
                "install the same versions and weights on all machines"
            )
        self._timer = StageTimer()
        self._computer = region_computer(job.plan, detector, model, self._timer, overlap=cpus > 1)
        self._earlier = EarlierRegions(self._run.folder, self._run.manifest.earlier)

    def __call__(self, task: tuple[int, Sequence[ImageRef]]) -> WrittenShard:
        """Write the shard of an index and its images; with the seconds by stage that it took."""
        index, images = task
        before = self._timer.seconds()
        todo = {index: images}
        (written,) = write_shards(self._computer, self._earlier, NullReporter(), self._run, todo)
        seconds = {name: value - before[name] for name, value in self._timer.seconds().items()}
        return replace(written, seconds=seconds)


def _run_folder(job: _Job) -> RunFolder:
    """The run folder as this machine sees it."""
    host = socket.gethostname()
    if not job.plan.source.root.is_dir():
        raise InputError(
            f"the worker on {host} has no folder {job.plan.source.root}; the images must lie on a "
            "file system that all machines share"
        )
    reason = ""
    try:
        manifest = read_manifest(job.folder)
        if manifest.started == job.started:
            return RunFolder(job.folder, manifest)
    except InputError as error:
        reason = f": {error}"
    raise InputError(
        f"the worker on {host} does not see the run folder {job.folder}{reason}; choose an "
        "--out on a file system that all machines share"
    )
