"""Several detectors as one."""

from collections.abc import Sequence

import numpy as np

from integrations.detectors.base import MAX_BOXES, NMS_IOU, Detector, check_image, select
from regionspot.types import ImageArray, Proposals


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
