"""What all benchmarks share: timing side by side, operations counted, and the machine's rate."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], object]
# Side of the square matrices whose product says what the machine can do; a small one leaves most of
# a GPU idle.
RATE_SIDES = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Timing:
    """Seconds of the fastest of some rounds, and operations counted in one.

    Attributes:
        flops: two for each multiplication and addition of a matrix product.
    """

    seconds: float
    flops: float

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.flops / self.seconds


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def time_side_by_side(
    work: Mapping[str, Work],
    device: torch.device,
    rounds: int = 3,
    counted: Mapping[str, Work] | None = None,
) -> dict[str, Timing]:
    """Time several ways of doing the same in turns, so that a busy machine slows all alike.

    Args:
        work: by name.
        device: that the work runs on.
        rounds: of all ways; the fastest counts.
        counted: the same work in float32, whose operations are counted instead: torch cannot count
            an einsum under autocast.
    """
    best = dict.fromkeys(work, float("inf"))
    flops = {name: count_flops(call) for name, call in (counted or work).items()}
    for _ in range(rounds):
        for name, call in work.items():
            wait(device)
            start = time.perf_counter()
            call()
            wait(device)
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: Timing(best[name], flops[name]) for name in work}


def count_flops(call: Work) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product here and now."""
    side = RATE_SIDES[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    timing = time_side_by_side({"product": lambda: a @ b}, device, rounds=8)
    return timing["product"].rate


def peak_megabytes(call: Work, device: torch.device) -> float:
    """Memory that one call adds at its height; on a CPU, Linux's count of resident pages."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return float(torch.cuda.max_memory_allocated(device) - before) / 1e6
    peak = PeakMemory()
    call()
    return peak.megabytes()


class PeakMemory:
    """Memory of this process above what it held at the beginning, by Linux's count of resident
    pages."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is held now
        self._before = _resident("VmRSS")

    def megabytes(self) -> float:
        """The peak until now."""
        return (_resident("VmHWM") - self._before) / 1e3


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(field)))


def processor(device: torch.device) -> str:
    """What the figures were taken on, and which bfloat16 instructions it has."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    amx = "AMX" if torch.cpu._is_amx_tile_supported() else "no AMX"
    avx = "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else "no AVX512-BF16"
    return f"CPU, {torch.get_num_threads()} threads, {amx}, {avx}"


def tell(title: str, timings: Mapping[str, Timing], rates: Mapping[str, float]) -> None:
    """Print a row for each timing: seconds, operations, and the share of the machine's rate.

    Args:
        title: of the table.
        timings: by name.
        rates: for each timing's name, the rate of its precision.
    """
    print(f"\n{title}")
    for name, timing in timings.items():
        print(
            f"  {name:32} {1e3 * timing.seconds:9.1f} ms  {timing.flops / 1e9:8.1f} GFLOP  "
            f"{timing.rate / 1e9:8.1f} GFLOP/s  {timing.rate / rates[name]:5.0%} of its matmul rate"
        )
