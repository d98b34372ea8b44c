"""Tasks shared out among the actors of Ray Data, each of which is built once and computes many.

Of an actor or a machine that dies, the tasks are computed again by others.
"""

import importlib.util
import logging
import os
import pickle
import re
import secrets
import shutil
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from integrations.progress import Reporter
from regionspot.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

MOST_BLOCKS = 4096  # of a data set of Ray's; a block holds one task or more
# An actor that dies is started again this often, and its task is tried again: an image may be what
# kills it. What fails all the same is left for another round, on the machines that are there then.
RESTARTS = 3
ERRORS_ALLOWED = -1  # any number
PROBE_SECONDS = 10  # for a first answer of a cluster's address
# Nothing is reported to Ray's makers, and nothing printed beside this program's own lines.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
}
_COLOUR = re.compile(r"(\x1b|\\x1b)\[[0-9;]*m")
NOT_INSTALLED = "Ray is not installed: pip install 'regionspot-autolabel[ray]'"

Compute = Callable[[Any], Any]  # from a task to its result
Build = Callable[[int], Compute]  # in an actor, from the number of its CPUs


@dataclass(frozen=True, kw_only=True)
class RayPool:
    """Actors that compute tasks.

    Attributes:
        address: of the cluster, as Ray has it: `auto` or HOST:PORT; empty: one of this machine's
            own, which ends with the tasks.
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
        """What the actors compute on: `cuda` or `cpu`."""
        return "cuda" if self.gpus_per_worker else "cpu"

    def map(
        self, build: Build, tasks: Mapping[int, object], kept: str, reporter: Reporter
    ) -> Iterator[tuple[int, Any]]:
        """Compute tasks, in the order in which they are done.

        Args:
            build: what computes a task, once an actor; it, tasks and results are pickled.
            tasks: by number.
            kept: where finished results are, for people.
            reporter: receives the number of actors.

        Raises:
            InputError: Ray or its cluster is not there, an actor cannot start or refused a task,
                or died again and again on the same task.
        """
        left = dict(tasks)
        with connected(self.address, self.count) as ray:
            while left:
                before = len(left)
                for index, result in self._round(ray, build, left, kept, reporter, ERRORS_ALLOWED):
                    del left[index]
                    yield index, result
                if len(left) == before:  # nothing but errors: this time the first ends the round
                    yield from self._round(ray, build, left, kept, reporter, 0)
                    return

    def _round(
        self,
        ray: "ModuleType",
        build: Build,
        tasks: Mapping[int, object],
        kept: str,
        reporter: Reporter,
        errors_allowed: int,
    ) -> Iterator[tuple[int, Any]]:
        """Compute tasks on the machines that are there now.

        Args:
            ray: connected to a cluster.
            build: as of `map`.
            tasks: those left.
            kept: as of `map`.
            reporter: as of `map`.
            errors_allowed: number of blocks whose tasks may fail; -1: any number.
        """
        from ray.exceptions import RayError

        resources = ray.cluster_resources()
        count = min(self.count or self._fitting(resources), len(tasks))
        nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        cpus = cpus_of_an_actor(nodes, count)
        reporter.message(f"starting {count} workers on {_machines(ray)}")
        rows = [{"index": index, "task": pickle.dumps(task)} for index, task in tasks.items()]
        ray.data.DataContext.get_current().max_errored_blocks = errors_allowed
        with warnings.catch_warnings():
            # The last two have no other name yet.
            warnings.simplefilter("ignore", DeprecationWarning)
            results = ray.data.from_items(
                rows, override_num_blocks=min(len(rows), MOST_BLOCKS)
            ).map_batches(
                PoolActor,
                fn_constructor_args=[build, cpus],
                batch_size=1,
                # A machine that died takes no actor again, so the round goes on with fewer.
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=count, initial_size=count),
                num_gpus=self.gpus_per_worker or None,
                num_cpus=cpus,
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
            )
        try:
            for row in results.iter_rows():
                yield int(row["index"]), pickle.loads(row["result"])
        except RayError as error:
            raise as_input_error(error, kept) from error

    def _fitting(self, resources: Mapping[str, float]) -> int:
        """Number of actors that a cluster has room for."""
        if self.gpus_per_worker:
            return max(1, int(resources.get("GPU", 0) / self.gpus_per_worker))
        return max(1, int(resources.get("CPU", 1)))


def cpus_of_an_actor(nodes: Sequence[float], count: int) -> int:
    """The most CPUs that each of some actors can have; 1 where there are too few.

    Args:
        nodes: CPUs of each machine, one of which holds the whole of an actor.
        count: number of actors.
    """
    most = int(max(nodes, default=1))
    fitting = (each for each in range(most, 0, -1) if sum(n // each for n in nodes) >= count)
    return next(fitting, 1)


def ray_pool(count: int, address: str, gpus_per_worker: float = 0.0) -> RayPool | None:
    """The actors that `--workers --ray --gpus-per-worker` ask for; None: this process alone.

    Raises:
        InputError: Ray is not installed, or the options do not go together.
    """
    if not count and not address:
        if gpus_per_worker:
            raise InputError("--gpus-per-worker goes with --workers or --ray")
        return None
    if importlib.util.find_spec("ray") is None:
        raise InputError(NOT_INSTALLED)
    return RayPool(address=address, count=count, gpus_per_worker=gpus_per_worker)


class PoolActor:
    """Computes one task a call; called by Ray Data."""

    def __init__(self, build: Build, cpus: int) -> None:
        self._compute = build(cpus)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The index and the result of a task, as columns."""
        (index,), (task,) = batch["index"], batch["task"]
        return {"index": [index], "result": [pickle.dumps(self._compute(pickle.loads(task)))]}


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
        settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _own_token()}
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        ray = _imported()
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        try:
            _probe(address)
            if own:
                cpus = max(workers, os.cpu_count() or 1)
                quiet |= {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": str(own)}
            with _without_stderr():  # says that it was told what to say
                ray.init("local" if own else address, **quiet)
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


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Standard error goes nowhere, also that of libraries that are not Python's."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@cache
def _own_token() -> str:
    """Of all clusters that this process starts: Ray reads it once a process."""
    return secrets.token_hex(32)


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


def as_input_error(error: BaseException, kept: str) -> InputError:
    """What an actor refused, or that actors died.

    Args:
        error: of Ray.
        kept: where finished results are, for people.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return InputError(str(cause))
        inner = getattr(cause, "cause", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__
    first = " ".join(_COLOUR.sub("", str(error)).split())[:200]
    return InputError(
        f"the workers failed ({type(error).__name__}: {first}); what they finished is in {kept}, "
        "and the same command then goes on"
    )
