"""Recall of small objects in a mosaic of photos, without tiles and with them.

pytest -s -o python_files="bench_*.py" tests/benchmarks/bench_tiling.py --labelled DIR

DIR holds `instances.json` (COCO) and `images/`. Its first photos are put side by side at their own
size until they fill 4,000 x 4,000 pixels. Small objects are those of less than 32 x 32 pixels.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autolabel.evaluation.proposals import ProposalMetrics, proposal_metrics
from integrations.annotations import Annotation, LabelledImage
from integrations.detectors import build_detector
from integrations.formats.coco import read_coco
from integrations.images import read_image
from regionspot.types import ImageArray

SIDE = 4000
TILE = 640
LIMITS = (500, 1000)  # boxes of the mosaic, with and without tiles


def mosaic_of(folder: Path) -> tuple[ImageArray, LabelledImage]:
    """A mosaic of the first photos of a labelled folder, in rows from top to bottom."""
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    annotations: list[Annotation] = []
    x = y = row_height = 0
    for image in read_coco(folder / "instances.json", folder / "images").images:
        photo = read_image(folder / "images" / image.file_name)
        height, width = photo.shape[:2]
        if x + width > SIDE:
            x, y, row_height = 0, y + row_height, 0
        if y + height > SIDE:
            break
        canvas[y : y + height, x : x + width] = photo
        for each in image.annotations:
            x1, y1, x2, y2 = each.box
            moved = (x1 + x, y1 + y, x2 + x, y2 + y)
            annotations.append(replace(each, box=moved, mask=None))
        x, row_height = x + width, max(row_height, height)
    return canvas, LabelledImage(1, "mosaic", SIDE, SIDE, tuple(annotations))


def measured(
    tile: int | None, mosaic: ImageArray, labels: LabelledImage, device: torch.device
) -> list[ProposalMetrics]:
    """Metrics at each limit."""
    detector = build_detector("nanodet", device=device, max_boxes=max(LIMITS), tile=tile)
    start = time.perf_counter()
    found = detector.detect(mosaic)
    seconds = time.perf_counter() - start
    return [
        proposal_metrics([labels], [found[np.arange(min(limit, len(found)))]], seconds, limit)
        for limit in LIMITS
    ]


def test_recall_of_small_objects(request: pytest.FixtureRequest, device: torch.device) -> None:
    folder = request.config.getoption("--labelled")
    if not folder:
        pytest.fail("give a labelled folder: --labelled DIR")
    mosaic, labels = mosaic_of(Path(folder))
    objects = [each for each in labels.annotations if not each.is_crowd]
    print(f"\n{len(objects)} objects in {SIDE} x {SIDE} pixels")
    small = []
    for name, tile in (("whole image", None), (f"tiles of {TILE}", TILE)):
        for limit, found in zip(LIMITS, measured(tile, mosaic, labels, device), strict=True):
            print(
                f"  {name:12} {limit:5} boxes: recall at IoU 0.5 {found.recall_50:6.1%}, of small "
                f"objects {found.small_recall_50:6.1%}; AP of boxes {found.average_precision:6.1%};"
                f" {found.seconds_an_image:.1f} s"
            )
        small.append(found.small_recall_50)
    assert small[1] > 0
    assert small[1] >= 2 * small[0]
