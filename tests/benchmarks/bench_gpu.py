"""Images a second of `bl` with 50 boxes each in batches, on seeded weights: for a GPU.

On an H200 (bf16 products of side 8,192 at 770 TFLOP/s): images a second, the share of that rate,
and how often a batch of 8 waits for the device. Above, the code before images of a batch went
through the towers together, which needs 1,119 GFLOP an image; below, 1,332, of which the difference
is the bias of SAM's attention as a part of its products.

    batch                                   1            8           32    waits
    one image at a time              21.5, 3.1%   29.3, 4.3%   30.9, 4.5%      235
    images of a batch together       43.3, 7.4%  106.3, 18.2% 120.2, 20.6%       1
"""

import warnings

import torch

from regionspot.boxes import FloatArray
from regionspot.config import fast_dtype
from regionspot.model import RegionSpot
from regionspot.types import ImageArray
from tests.benchmarks.bench_throughput import BOXES, seeded_bl
from tests.benchmarks.measure import (
    Work,
    count_flops,
    matmul_rate,
    peak_megabytes,
    processor,
    time_side_by_side,
)
from tests.regionspot.factories import noise_image, random_boxes

BATCHES = {"cuda": (1, 8, 32), "cpu": (1, 2)}
CHECKED = 8  # images of the batch whose waits are counted


def test_batches(device: torch.device) -> None:
    model = seeded_bl(device, fast_dtype(device))
    image, boxes = noise_image(768, 1024), random_boxes(BOXES, 1024, 768)
    flops = flops_of(seeded_bl(device, torch.float32), image, boxes)
    rate = matmul_rate(device, fast_dtype(device))
    print(f"\nbl with {BOXES} boxes on {processor(device)}, {flops / 1e9:.0f} GFLOP an image")
    single = model.regions([image], [boxes])[0].embedding
    for size in BATCHES[device.type]:

        def work(size: int = size) -> object:
            return model.regions([image] * size, [boxes] * size)

        timing = time_side_by_side({"all": work}, device, rounds=5, counted={"all": lambda: None})
        seconds = timing["all"].seconds / size
        print(
            f"  batch {size:3} {1 / seconds:8.1f} images a second  {flops / seconds / rate:6.1%} "
            f"of the matmul rate  {peak_megabytes(work, device):6.0f} MB"
        )
        last = model.regions([image] * size, [boxes] * size)[-1].embedding
        error = float((last - single).norm() / single.norm())
        assert error < 0.05, "a batch gives what a single image gives, up to bf16's rounding"
    if device.type == "cuda":
        print(
            f"  {waits(lambda: model.regions([image] * CHECKED, [boxes] * CHECKED))} waits a batch"
        )


def flops_of(model: RegionSpot, image: ImageArray, boxes: FloatArray) -> float:
    """Operations of labelling an image; in float32, as torch cannot count some under autocast."""
    return count_flops(lambda: model.regions([image], [boxes]))


def waits(call: Work) -> int:
    """How often a call waits for the device, as torch notices it."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in seen)
