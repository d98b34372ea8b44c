"""The detectors' protocol, the steps that all of them take, and several detectors as one.

Axes: N boxes of one image, H and W its sides in pixels.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torchvision.ops import nms

from regionspot.boxes import FloatArray, clip_boxes
from regionspot.errors import InputError
from regionspot.types import ImageArray, Proposals

NMS_IOU = 0.65
MAX_BOXES = 100


class Detector(Protocol):
    """Proposes boxes, whatever class is in them.

    Attributes:
        name: what the command line and the run's manifest call it.
    """

    name: str

    def detect(self, image: ImageArray) -> Proposals:
        """Boxes that may hold an object, whatever its class.

        Args:
            image: (H, W, 3) uint8 RGB, after EXIF orientation, of any size from 1 x 1.

        Returns:
            N proposals, N from 0: boxes (N, 4) float32 xyxy in pixels of `image`, clipped to it,
            and scores (N,) float32 in [0, 1], in descending order; no two boxes overlap by more
            than the detector's IoU limit.

        Raises:
            InputError: the image is of another shape or type.
        """
        ...


def check_image(image: ImageArray) -> tuple[int, int]:
    """The height and width of an image.

    Raises:
        InputError: it is no uint8 array (H, W, 3), or it has no pixels.
    """
    if image.dtype != "uint8" or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    return image.shape[0], image.shape[1]


def fit_longest(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width scaled until the longer is `side` pixels; neither is less than 1."""
    scale = side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def select(
    boxes: FloatArray,
    score: FloatArray,
    image_size: tuple[int, int],
    nms_iou: float,
    max_boxes: int,
) -> Proposals:
    """Clip boxes, drop those left empty, apply class-agnostic NMS and keep the best.

    Args:
        boxes: (N, 4) float32 xyxy pixels of the image.
        score: (N,) float32 in [0, 1].
        image_size: height and width in pixels.
        nms_iou: of two boxes that overlap by more than this, the one of lower score goes.
        max_boxes: at most so many are kept.

    Returns:
        The boxes kept, by descending score.
    """
    height, width = image_size
    boxes = clip_boxes(boxes, width, height)
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, score = boxes[inside], score[inside]
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(score), nms_iou)[:max_boxes].numpy()
    return Proposals(boxes[kept], score[kept])


class Ensemble:
    """The union of several detectors' proposals after class-agnostic non-maximum suppression.

    Each detector's scores are multiplied by its weight, which puts them on one scale.

    Axes: N boxes of all detectors.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        weights: Sequence[float],
        max_boxes: int = MAX_BOXES,
        nms_iou: float = NMS_IOU,
    ) -> None:
        """Join detectors.

        Args:
            detectors: in any order.
            weights: one a detector, in [0, 1].
            max_boxes: at most so many boxes an image, of all detectors together.
            nms_iou: of two boxes that overlap by more than this, the one of lower score goes.
        """
        self.name = "+".join(detector.name for detector in detectors)
        self.detectors = tuple(detectors)
        self.weights = tuple(weights)
        self.max_boxes = max_boxes
        self.nms_iou = nms_iou

    def detect(self, image: ImageArray) -> Proposals:
        """See `Detector.detect`."""
        size = check_image(image)
        found = [detector.detect(image) for detector in self.detectors]
        boxes = np.concatenate([proposals.boxes for proposals in found])  # (N, 4)
        score = np.concatenate(
            [
                proposals.score * np.float32(weight)
                for proposals, weight in zip(found, self.weights, strict=True)
            ]
        )
        return select(boxes, score, size, self.nms_iou, self.max_boxes)
