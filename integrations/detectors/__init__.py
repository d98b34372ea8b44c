"""Detectors propose boxes, whatever class is in them. `DETECTORS` maps a name to a builder:

| name | boxes | cost |
|---|---|---|
| `nanodet` | of things like COCO's 80 classes: NanoDet-g at 416 and 640 pixels | the default |
| `nanodet-416` | the same at the published 416 pixels alone: far fewer small things | a third |
| `sam-grid` | around whatever SAM segments from a grid of points | 0.1 s a point |
| `nanodet+sam-grid` | of both, class-agnostic NMS over their union | of both |

A further detector is a file that keeps the `Detector` protocol and a line in the table.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from segment_anything.modeling import Sam

from integrations.detectors.base import MAX_BOXES, NMS_IOU, Detector, Ensemble
from integrations.detectors.nanodet import PUBLISHED_SIDE, NanoDet
from integrations.detectors.sam_grid import SamGrid
from regionspot.errors import InputError

__all__ = ["DETECTORS", "Detector", "DetectorOptions", "build_detector"]

# NanoDet's score is a class probability; SAM's says how well-defined a mask is, be it a thing or a
# patch of wall. On training photos a box of SAM's grid meets a label of COCO one time in eight,
# whatever its score; NanoDet's do so at a score of 0.15. So SAM's boxes rank above NanoDet's
# guesses, for the sake of what COCO does not name, and below what NanoDet is sure of.
SAM_GRID_WEIGHT = 0.3


@dataclass(frozen=True)
class DetectorOptions:
    """What every detector is built from.

    Attributes:
        sam: the localizer's model, for the detectors that segment; None where there is none.
        device: where a detector with a network of its own runs it.
        max_boxes: at most so many boxes an image.
        nms_iou: of two boxes that overlap by more than this, the one of lower score goes.
    """

    sam: Sam | None = None
    device: str | torch.device = "cpu"
    max_boxes: int = MAX_BOXES
    nms_iou: float = NMS_IOU


def _nanodet(options: DetectorOptions) -> Detector:
    return NanoDet(options.device, options.max_boxes, options.nms_iou)


def _nanodet_416(options: DetectorOptions) -> Detector:
    sides = (PUBLISHED_SIDE,)
    return NanoDet(options.device, options.max_boxes, options.nms_iou, sides, name="nanodet-416")


def _sam_grid(options: DetectorOptions) -> Detector:
    if options.sam is None:
        raise InputError("the detector sam-grid needs the model of a SAM localizer")
    return SamGrid(options.sam, options.max_boxes, options.nms_iou)


def _both(options: DetectorOptions) -> Detector:
    detectors, weights = [_nanodet(options), _sam_grid(options)], [1.0, SAM_GRID_WEIGHT]
    return Ensemble(detectors, weights, options.max_boxes, options.nms_iou)


DETECTORS: dict[str, Callable[[DetectorOptions], Detector]] = {
    "nanodet": _nanodet,
    "nanodet-416": _nanodet_416,
    "sam-grid": _sam_grid,
    "nanodet+sam-grid": _both,
}


def build_detector(
    name: str,
    *,
    sam: Sam | None = None,
    device: str | torch.device = "cpu",
    max_boxes: int = MAX_BOXES,
    nms_iou: float = NMS_IOU,
) -> Detector:
    """The detector of a name in `DETECTORS`.

    Args:
        name: of the detector.
        sam: the localizer's model; `sam-grid` needs it.
        device: where a detector with a network of its own runs it.
        max_boxes: at most so many boxes an image.
        nms_iou: of two boxes that overlap by more than this, the one of lower score goes.

    Raises:
        InputError: no such name, `sam` is needed and missing, or a weight file cannot be had.
    """
    if name not in DETECTORS:
        raise InputError(f"unknown detector {name!r}; known are {', '.join(DETECTORS)}")
    return DETECTORS[name](DetectorOptions(sam, device, max_boxes, nms_iou))
