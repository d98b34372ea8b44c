"""Boxes around whatever SAM segments from a grid of points, of COCO's classes or not."""

import numpy as np
import torch
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from integrations.detectors.base import MAX_BOXES, NMS_IOU, check_image, fit_longest, select
from regionspot.boxes import as_boxes, xywh_to_xyxy
from regionspot.types import ImageArray, Proposals

# The generator's own limits, 0.88 and 0.95, suit SAM ViT-H. With MobileSAM they leave 35% of the
# boxes of training photos at IoU 0.5, these 66%.
_PREDICTED_IOU, _STABILITY = 0.7, 0.8
# Of points. On a CPU a batch that outgrows its caches takes twice as long for each.
_CPU_BATCH, _GPU_BATCH = 2, 64


class SamGrid:
    """segment-anything's automatic mask generator; only the boxes of its masks are kept.

    A box's score is the mask's predicted IoU times its stability (Kirillov et al. 2023,
    arXiv 2304.02643, appendix B). It says how well-defined the mask is, not how likely a
    person would call it an object, and is high for all that pass the filters.
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
            points_per_side: of the grid; the time goes with its square, about 0.1 s a point on
                one core. 8 finds two thirds of what 16 finds; the generator's own 32 takes four
                times as long.
        """
        self.max_boxes = max_boxes
        self.nms_iou = nms_iou
        self.side = sam.image_encoder.img_size
        self.generator = SamAutomaticMaskGenerator(
            sam,
            points_per_side=points_per_side,
            points_per_batch=_CPU_BATCH if sam.device.type == "cpu" else _GPU_BATCH,
            pred_iou_thresh=_PREDICTED_IOU,
            stability_score_thresh=_STABILITY,
            crop_n_layers=0,
            output_mode="uncompressed_rle",
        )

    @torch.inference_mode()
    def detect(self, image: ImageArray) -> Proposals:
        """See `Detector.detect`."""
        height, width = check_image(image)
        # SAM sees no more pixels than these; masks of the original size would only cost memory.
        small_height, small_width = fit_longest(height, width, min(self.side, max(height, width)))
        small = Image.fromarray(image).resize((small_width, small_height))
        found = self.generator.generate(np.asarray(small))
        boxes = xywh_to_xyxy(as_boxes([mask["bbox"] for mask in found]))  # (N, 4) of `small`
        boxes[:, 2:] += 1  # the generator's corners are the outermost pixels, ours their borders
        score = [mask["predicted_iou"] * mask["stability_score"] for mask in found]
        scale = np.array([width / small_width, height / small_height] * 2, np.float32)
        proposals = Proposals(boxes * scale, np.clip(np.array(score, np.float32), 0, 1))
        return select(proposals, (height, width), self.nms_iou, self.max_boxes)
