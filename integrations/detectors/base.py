"""The detectors' protocol, the steps that all of them take, and several detectors as one.

Axes: N boxes of one image, E classes of the detector, H and W the image's sides in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from segment_anything.modeling import Sam
from torchvision.ops import nms

from regionspot.boxes import FloatArray, clip_boxes
from regionspot.devices.runtime import TORCH, Runtime
from regionspot.errors import InputError
from regionspot.types import ImageArray, IntArray, Proposals

NMS_IOU = 0.65
MAX_BOXES = 100
MIN_SCORE = 0.02
# Where words are none of a detector's classes: it says less of their objects.
OTHER_WORDS_MAX_BOXES = 200
OTHER_WORDS_MIN_SCORE = 0.005


@dataclass(frozen=True)
class DetectorOptions:
    """What a detector is built from.

    Attributes:
        argument: what follows the first colon of its name on the command line, or empty.
        words: of the vocabulary, synonyms too, for detectors that look for words.
        sam: the localizer's model, for the detectors that segment; None where there is none.
        device: where a detector with a network of its own runs it.
        max_boxes: at most so many boxes an image.
        nms_iou: of two boxes that overlap by more than this, the one of lower score goes.
        min_score: boxes of a lower score are left out; None: the detector's own limit.
        runtime: what computes a network that it knows.
    """

    argument: str = ""
    words: tuple[str, ...] = ()
    sam: Sam | None = None
    device: str | torch.device = "cpu"
    max_boxes: int = MAX_BOXES
    nms_iou: float = NMS_IOU
    min_score: float | None = None
    runtime: Runtime = TORCH


class Detector(Protocol):
    """Proposes boxes.

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
            than the detector's IoU limit. Where the detector names classes: `class_names` and
            `class_scores` (N, E), of which a box's score is the highest.

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
    found: Proposals, image_size: tuple[int, int], nms_iou: float, max_boxes: int
) -> Proposals:
    """Clip boxes, drop those left empty, apply class-agnostic NMS and keep the best.

    Args:
        found: N boxes in pixels of the image, in any order.
        image_size: height and width in pixels.
        nms_iou: of two boxes that overlap by more than this, the one of lower score goes.
        max_boxes: at most so many are kept.

    Returns:
        The boxes kept, by descending score.
    """
    height, width = image_size
    found = replace(found, boxes=clip_boxes(found.boxes, width, height))
    boxes = found.boxes
    found = found[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    kept = nms(torch.from_numpy(found.boxes), torch.from_numpy(found.score), nms_iou)
    return found[kept[:max_boxes].numpy()]


def one_class_scores(class_id: IntArray, score: FloatArray, classes: int) -> FloatArray:
    """Scores (N, E) of all classes for boxes of which one class and its score are known.

    The rest of a box's score, to 1, is spread evenly over the other classes; none of them gets
    more than the box's own.

    Args:
        class_id: (N,) index of the class of each box.
        score: (N,) in [0, 1], of that class.
        classes: E, their number.
    """
    others = np.minimum((1 - score) / max(classes - 1, 1), score)  # (N,)
    scores = np.repeat(others[:, None], classes, axis=1)  # (N, E)
    scores[np.arange(len(score)), class_id] = score
    return scores.astype(np.float32)


class Ensemble:
    """The union of several detectors' proposals after class-agnostic non-maximum suppression.

    Each detector's scores are multiplied by its weight, which puts them on one scale.
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
        self.name = ",".join(detector.name for detector in detectors)
        self.detectors = tuple(detectors)
        self.weights = tuple(weights)
        self.max_boxes = max_boxes
        self.nms_iou = nms_iou

    def detect(self, image: ImageArray) -> Proposals:
        """See `Detector.detect`."""
        size = check_image(image)
        found = [
            _weighted(detector.detect(image), weight)
            for detector, weight in zip(self.detectors, self.weights, strict=True)
        ]
        return select(Proposals.joined(found), size, self.nms_iou, self.max_boxes)


def _weighted(found: Proposals, weight: float) -> Proposals:
    by_class = found.class_scores
    return replace(
        found,
        score=found.score * np.float32(weight),
        class_scores=None if by_class is None else by_class * np.float32(weight),
    )
