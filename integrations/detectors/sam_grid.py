"""Boxes around whatever SAM segments from a grid of points, of COCO's classes or not.

Axes: M masks of a few points, h w rows and columns of their logits.
"""

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.amg import (
    batched_mask_to_box,
    build_point_grid,
    calculate_stability_score,
)
from torch.nn import functional as F

from integrations.detectors.base import MAX_BOXES, NMS_IOU, check_image, select
from regionspot.boxes import FloatArray
from regionspot.config import fast_dtype
from regionspot.localizers.sam import SamLocalizer
from regionspot.types import ImageArray, ImageEmbedding, Proposals

# The limits of segment-anything's generator, 0.88 and 0.95, suit SAM ViT-H. With MobileSAM they
# leave 35% of the boxes of training photos at IoU 0.5, these 66%.
_PREDICTED_IOU, _STABILITY = 0.7, 0.8
_STABILITY_OFFSET = 1.0  # of the logits, as the generator has it
_UPSCALE, _MARGIN = 4, 2  # from logits to pixels of the padded square; places around a mask


class SamGrid:
    """SAM's masks of a grid of points, as segment-anything's automatic mask generator has them.

    A box's score is the mask's predicted IoU times its stability (Kirillov et al. 2023,
    arXiv 2304.02643, appendix B). It says how well-defined the mask is, not how likely a
    person would call it an object, and is high for all that pass the filters. Other than the
    generator, it filters masks before they are upscaled, and upscales them around their boxes.
    """

    name = "sam-grid"

    def __init__(
        self,
        sam: Sam,
        max_boxes: int = MAX_BOXES,
        nms_iou: float = NMS_IOU,
        points_per_side: int = 16,
    ) -> None:
        """Wrap a model; it runs where its weights are.

        Args:
            sam: the localizer's own model; it is read, never changed.
            max_boxes: at most so many boxes an image.
            nms_iou: of two boxes that overlap by more than this, the one of lower score goes.
            points_per_side: of the grid; the time goes with its square. 8 finds two thirds of what
                16 finds; the generator's own 32 takes four times as long.
        """
        self.max_boxes = max_boxes
        self.nms_iou = nms_iou
        self.localizer = SamLocalizer(sam, fast_dtype(sam.device))
        self.points = build_point_grid(points_per_side)  # (points, 2) in [0, 1]

    @torch.inference_mode()
    def detect(self, image: ImageArray) -> Proposals:
        """See `Detector.detect`."""
        height, width = check_image(image)
        (embedding,) = self.localizer.encode_all([image])
        points = (self.points * [width, height]).astype(np.float32)
        boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
        for found in self.localizer.point_masks(embedding, points, _PREDICTED_IOU):
            logits = _inside(found.mask_logits, embedding)
            stability = calculate_stability_score(logits, 0.0, _STABILITY_OFFSET)  # (M,)
            stable = stability >= _STABILITY
            boxes.append(_boxes(logits[stable], embedding))
            scores.append((found.mask_iou * stability)[stable].cpu().numpy())
        score = np.clip(np.concatenate(scores), 0, 1)
        return select(
            Proposals(np.concatenate(boxes), score), (height, width), self.nms_iou, self.max_boxes
        )


def _inside(logits: torch.Tensor, embedding: ImageEmbedding) -> torch.Tensor:
    """The part of logits (M, h, w) over the padded square that the image takes."""
    rows, columns = (
        -(-side // _UPSCALE) for side in (embedding.input_height, embedding.input_width)
    )
    return logits[:, :rows, :columns]


def _boxes(logits: torch.Tensor, embedding: ImageEmbedding) -> FloatArray:
    """Boxes (M, 4) xyxy in pixels of the image, of mask logits (M, h, w)."""
    found = np.zeros((len(logits), 4), np.float32)
    coarse = batched_mask_to_box(logits > 0).cpu().tolist()  # outermost places
    for row, (mask, (x1, y1, x2, y2)) in enumerate(zip(logits, coarse, strict=True)):
        left, top = max(x1 - _MARGIN, 0), max(y1 - _MARGIN, 0)
        window = mask[top : y2 + _MARGIN + 1, left : x2 + _MARGIN + 1]
        fine = F.interpolate(window[None, None], scale_factor=_UPSCALE, mode="bilinear")
        inside = batched_mask_to_box(fine[0] > 0)[0].cpu().numpy()
        inside[2:] += 1  # from the outermost pixels to their borders
        found[row] = inside + _UPSCALE * np.array([left, top] * 2)
    scale = (embedding.width / embedding.input_width, embedding.height / embedding.input_height)
    return found * np.array(scale * 2, np.float32)
