"""One process or many, started by torchrun, that divide each step of a training."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from regionspot.config import resolve_device
from regionspot.head import RegionHead

# The others wait while the first extracts features or evaluates.
PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        device: of this process.
        rank: of this process, from 0.
        count: number of processes.
    """

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files, evaluates and reports."""
        return self.rank == 0

    def wrap(self, head: RegionHead) -> nn.Module:
        """The head, its gradients averaged over all processes in each backward pass."""
        if self.count == 1:
            return head
        # Without the map, the decoder's parameters get no gradient.
        return DistributedDataParallel(head, find_unused_parameters=not head.config.read_map)

    def all_reduce(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            distributed.barrier()


def no_sync(module: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """A context in which gradients are not yet averaged over processes, but for the last batch."""
    if is_last or not isinstance(module, DistributedDataParallel):
        return nullcontext()
    return module.no_sync()  # type: ignore[no-any-return, no-untyped-call, unused-ignore]


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """The processes of torchrun, joined while the context lasts, or this one alone.

    Args:
        device: `auto`, `cpu` or `cuda`; with many processes, each takes a GPU of its own.

    Raises:
        InputError: an unknown device, or `cuda` where there is none.
    """
    here = resolve_device(device)
    if here.type == "cuda":
        # Without it the order of sums on a GPU, and so the weights, would differ between runs.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    if "WORLD_SIZE" not in os.environ:
        yield Processes(here)
        return
    if here.type == "cuda":
        here = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(here)
    distributed.init_process_group("nccl" if here.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(here, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
