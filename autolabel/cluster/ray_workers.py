"""Shards of a run computed by the actors of Ray Data, each of which holds the towers once.

An actor reads its images by path and writes its shards into the run folder, so both lie on a file
system that all machines share. The driver alone writes the manifest, the label files and FiftyOne.
What a run ends with has the same bytes as on one machine.
"""

import importlib.util
import json
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolabel.run.growth import EarlierRegions
from autolabel.run.images import ImageRef
from autolabel.run.inference import RegionComputer, StageTimer
from autolabel.run.manifest import RunFolder, Shard, read_manifest
from autolabel.run.pipeline import Todo, WrittenShard, detector_of, provenance_of, write_shards
from autolabel.run.plan import Plan
from integrations.progress import NullReporter, Reporter
from regionspot import load_model
from regionspot.devices.runtime import TORCH
from regionspot.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

MOST_BLOCKS = 4096  # of a data set of Ray's; a block holds one shard or more
# An actor that dies is started again this often, and its shard is tried again: an image may be what
# kills it. What fails all the same is left for another round, on the machines that are there then.
RESTARTS = 3
ERRORS_ALLOWED = -1  # any number
PROBE_SECONDS = 10  # for a first answer of a cluster's address
# Nothing is reported to Ray's makers, and nothing printed beside this program's own lines.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
}
_COLOUR = re.compile(r"(\x1b|\\x1b)\[[0-9;]*m")
NOT_INSTALLED = "Ray is not installed: pip install 'regionspot-autolabel[ray]'"


@dataclass(frozen=True)
class _Job:
    """What an actor needs to know of a run.

    Attributes:
        plan: without its images.
        folder: the run folder.
        started: of the run's manifest.
        device: what the actor is to compute on.
        overlap: whether it has several CPUs, and computes several images at once.
    """

    plan: Plan
    folder: Path
    started: str
    device: str
    overlap: bool = True


@dataclass(frozen=True, kw_only=True)
class RayWorkers:
    """Actors that compute the regions of a run.

    Attributes:
        address: of the cluster, as Ray has it: `auto` or HOST:PORT; empty: one of this machine's
            own, which ends with the run.
        count: number of actors; 0: one for each GPU share of the cluster, or for each CPU.
        gpus_per_worker: GPUs that an actor takes, such as 1 or 0.5; 0: it computes on the CPU.
    """

    address: str = ""
    count: int = 0
    gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 0 or self.gpus_per_worker < 0:
            raise InputError("--workers and --gpus-per-worker must be 0 or more")

    @property
    def device(self) -> str:
        """What the actors compute on, as a run's manifest has it."""
        return "cuda" if self.gpus_per_worker else "cpu"

    def write(
        self, plan: Plan, reporter: Reporter, run: RunFolder, todo: Todo
    ) -> Iterator[WrittenShard]:
        """Write shards into the run folder, in the order in which they are done.

        Raises:
            InputError: Ray or its cluster is not there, an actor cannot start, or one died again
                and again on the same shard.
        """
        images = replace(plan.source, images=(), skipped=())  # a shard's come with it
        folder, started = run.folder.resolve(), run.manifest.started
        job = _Job(replace(plan, source=images), folder, started, self.device)
        left = dict(todo)
        with connected(self.address, self.count) as ray:
            while left:
                before = len(left)
                for written in self._round(ray, job, left, reporter, ERRORS_ALLOWED):
                    del left[written.index]
                    yield written
                if len(left) == before:  # nothing but errors: this time the first ends the round
                    yield from self._round(ray, job, left, reporter, 0)
                    return

    def _round(
        self, ray: "ModuleType", job: _Job, todo: Todo, reporter: Reporter, errors_allowed: int
    ) -> Iterator[WrittenShard]:
        """Compute shards on the machines that are there now.

        Args:
            ray: connected to a cluster.
            job: the run.
            todo: shards to compute.
            reporter: receives the progress.
            errors_allowed: number of blocks whose shards may fail; -1: any number.
        """
        from ray.exceptions import RayError

        resources = ray.cluster_resources()
        count = min(self.count or self._fitting(resources), len(todo))
        cpus = self._cpus(resources, count)
        job = replace(job, overlap=cpus > 1)
        reporter.message(f"starting {count} workers on {_machines(ray)}")
        rows = [
            {"index": index, "images": json.dumps([astuple(each) for each in refs])}
            for index, refs in todo.items()
        ]
        ray.data.DataContext.get_current().max_errored_blocks = errors_allowed
        with warnings.catch_warnings():
            # The last two have no other name yet.
            warnings.simplefilter("ignore", DeprecationWarning)
            shards = ray.data.from_items(
                rows, override_num_blocks=min(len(rows), MOST_BLOCKS)
            ).map_batches(
                ShardActor,
                fn_constructor_args=[job],
                batch_size=1,
                # A machine that died takes no actor again, so the round goes on with fewer.
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=count, initial_size=count),
                num_gpus=self.gpus_per_worker or None,
                num_cpus=cpus,
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
            )
        try:
            for row in shards.iter_rows():
                shard = Shard(**json.loads(row["shard"]))
                reporter.advance(shard.images)
                yield WrittenShard(int(row["index"]), shard, json.loads(row["seconds"]))
        except RayError as error:
            raise _as_input_error(error, job.folder) from error

    def _fitting(self, resources: Mapping[str, float]) -> int:
        """Number of actors that a cluster has room for."""
        if self.gpus_per_worker:
            return max(1, int(resources.get("GPU", 0) / self.gpus_per_worker))
        return max(1, int(resources.get("CPU", 1)))

    def _cpus(self, resources: Mapping[str, float], count: int) -> float:
        """CPUs of an actor: those of the cluster, shared out."""
        return max(1, int(resources.get("CPU", 1)) // count)


def ray_workers(count: int, address: str, gpus_per_worker: float) -> RayWorkers | None:
    """The workers that `run --workers --ray --gpus-per-worker` ask for; None: this process.

    Raises:
        InputError: Ray is not installed, or the options do not go together.
    """
    if not count and not address:
        if gpus_per_worker:
            raise InputError("--gpus-per-worker goes with --workers or --ray")
        return None
    if importlib.util.find_spec("ray") is None:
        raise InputError(NOT_INSTALLED)
    return RayWorkers(address=address, count=count, gpus_per_worker=gpus_per_worker)


class ShardActor:
    """Computes and writes one shard a call; called by Ray Data.

    Raises:
        InputError: the folders are not there on this machine, or its models are other ones.
    """

    def __init__(self, job: _Job) -> None:
        self._run = _run_folder(job)
        options = job.plan.request.options
        device = job.device if options.device == "auto" else options.device
        expected = self._run.manifest.model
        runtime = expected.get("runtime", TORCH.name).partition(" ")[0]
        model = load_model(options.model, device, options.checkpoint or None, runtime=runtime)
        own = provenance_of(job.plan, model) | {"device": job.device}
        if other := sorted(name for name, value in expected.items() if own.get(name) != value):
            raise InputError(
                f"the worker on {socket.gethostname()} has other {', '.join(other)} than the run; "
                "install the same versions and weights on all machines"
            )
        self._timer = StageTimer()
        detector = job.plan.boxes or detector_of(job.plan, model)
        self._computer = RegionComputer(
            job.plan.source,
            detector,
            model,
            options,
            self._timer,
            job.plan.lowest_score,
            job.overlap,
        )
        self._earlier = EarlierRegions(self._run.folder, self._run.manifest.earlier)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The index, the manifest's entry and the seconds by stage of a shard, as columns."""
        before = self._timer.seconds()
        (index,), (images,) = batch["index"], batch["images"]
        todo = {int(index): [ImageRef(*each) for each in json.loads(images)]}
        (written,) = write_shards(self._computer, self._earlier, NullReporter(), self._run, todo)
        seconds = {name: value - before[name] for name, value in self._timer.seconds().items()}
        return {
            "index": [written.index],
            "shard": [json.dumps(asdict(written.shard))],
            "seconds": [json.dumps(seconds)],
        }


@contextmanager
def connected(address: str, workers: int) -> "Iterator[ModuleType]":
    """Ray, connected to a cluster until the block ends.

    Args:
        address: of the cluster; empty: a new one of this machine, which ends with the block.
        workers: number of actors that it must have CPUs for.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """
    own = Path(tempfile.mkdtemp(prefix="ray-")) if not address else None
    settings = QUIET | {name: os.environ[name] for name in QUIET if name in os.environ}
    if own:  # it listens on all of the machine's addresses, and answers to this token alone
        settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        ray = _imported()
        quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        try:
            _probe(address)
            if own:
                cpus = max(workers, os.cpu_count() or 1)
                ray.init(
                    "local", num_cpus=cpus, include_dashboard=False, _temp_dir=str(own), **quiet
                )
            else:
                ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            where = address or "this machine"
            raise InputError(
                f"no Ray cluster answers at {where} ({str(error).splitlines()[0]}); start one with "
                "`ray start --head`, or leave --ray out"
            ) from error
        try:
            yield ray
        finally:
            ray.shutdown()
    finally:
        for name, value in before.items():  # a later cluster has another token, or none
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        if own:
            shutil.rmtree(own, ignore_errors=True)


def _probe(address: str) -> None:
    """Raise an OSError where nothing listens at HOST:PORT; Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "://" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()


def _imported() -> "ModuleType":
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(NOT_INSTALLED) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def _machines(ray: "ModuleType") -> str:
    count = sum(node["Alive"] for node in ray.nodes())
    return "this machine" if count == 1 else f"{count} machines"


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


def _as_input_error(error: BaseException, folder: Path) -> InputError:
    """What an actor refused, or that actors died."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return InputError(str(cause))
        inner = getattr(cause, "cause", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__
    first = " ".join(_COLOUR.sub("", str(error)).split())[:200]
    return InputError(
        f"the workers failed ({type(error).__name__}: {first}); what they finished is in {folder}, "
        "and the same command then goes on"
    )
