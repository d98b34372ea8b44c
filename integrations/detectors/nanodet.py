"""NanoDet-g, a small one-stage detector trained on COCO, as a proposer of boxes.

Axes: P cells of all levels, N boxes above the threshold, h and w sides of the network's input.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from integrations.detectors.base import MAX_BOXES, NMS_IOU, check_image, fit_longest, select
from integrations.detectors.nanodet_network import BINS, STRIDES, build_network
from regionspot.boxes import FloatArray
from regionspot.types import ImageArray, Proposals

PUBLISHED_SIDE = 416
_MEAN_BGR = (103.53, 116.28, 123.675)
_STD_BGR = (57.375, 57.12, 58.395)


def decode(distances: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Boxes from the distribution of each side's distance to the centre of its cell.

    (Generalized Focal Loss, Li et al. 2020, arXiv 2006.04388, section 3.)

    Args:
        distances: (P, 4, 11) logits of left, top, right and bottom, in units of the stride.
        height: of the network's input, in pixels; multiples of 32.
        width: of the network's input, in pixels; multiples of 32.

    Returns:
        (P, 4) xyxy boxes in pixels of the input.
    """
    centres, strides = [], []
    for stride in STRIDES:
        rows, columns = torch.arange(height // stride), torch.arange(width // stride)
        y, x = torch.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
        # (h / stride, w / stride, 2) to (cells, 2)
        centres.append(torch.stack([x, y], dim=-1).flatten(0, 1) * stride)
        strides.append(torch.full((len(centres[-1]), 1), float(stride)))
    centre = torch.cat(centres).to(distances)
    bins = torch.arange(BINS).to(distances)
    # (P, 4, 11) @ (11,) to (P, 4), times (P, 1)
    sides = (distances.softmax(dim=-1) @ bins) * torch.cat(strides).to(distances)
    return torch.cat([centre - sides[:, :2], centre + sides[:, 2:]], dim=1)


def _whole_cells(pixels: int) -> int:
    return math.ceil(pixels / STRIDES[-1]) * STRIDES[-1]


class NanoDet:
    """NanoDet-g used class-agnostically: a box's score is its highest class score.

    The network was published for a longest side of 416 pixels, at which it misses most small
    things. Here it runs at two sizes, and NMS chooses among the boxes of both.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        max_boxes: int = MAX_BOXES,
        nms_iou: float = NMS_IOU,
        sides: tuple[int, ...] = (PUBLISHED_SIDE, 640),
        score_threshold: float = 0.02,
        name: str = "nanodet",
    ) -> None:
        """Load the network.

        Args:
            device: where torch runs it.
            max_boxes: at most so many boxes an image.
            nms_iou: of two boxes that overlap by more than this, the one of lower score goes.
            sides: the longest sides, in pixels, that the image is resized to; multiples of 32.
            score_threshold: boxes of a lower score are left out.
            name: what the command line and the run's manifest call it.

        Raises:
            InputError: a weight file cannot be had.
        """
        self.name = name
        self.network = build_network().to(device)
        self.max_boxes = max_boxes
        self.nms_iou = nms_iou
        self.sides = sides
        self.score_threshold = score_threshold
        self._mean = torch.tensor(_MEAN_BGR, device=device).view(3, 1, 1)
        self._std = torch.tensor(_STD_BGR, device=device).view(3, 1, 1)

    def preprocess(self, image: ImageArray, side: int) -> tuple[torch.Tensor, FloatArray]:
        """Resize, pad with black at right and bottom to whole cells, and normalise.

        Args:
            image: (H, W, 3) uint8 RGB.
            side: the longest side, in pixels.

        Returns:
            (1, 3, h, w) normalised BGR, h and w multiples of 32, and (4,) what its xyxy boxes
            are multiplied by to become the image's.
        """
        height, width = check_image(image)
        inner_height, inner_width = fit_longest(height, width, side)
        # Resized before it moves: CUDA does not resize bytes.
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
        size = (inner_height, inner_width)
        pixels = F.interpolate(pixels[None], size, mode="bilinear", antialias=True)
        # A square, as published, gives the same boxes and takes half as long again.
        padded_size = (_whole_cells(inner_height), _whole_cells(inner_width))
        padded = torch.zeros(1, 3, *padded_size, device=self._mean.device)
        padded[..., :inner_height, :inner_width] = pixels.flip(1)
        scale = np.array([width / inner_width, height / inner_height] * 2, np.float32)
        return (padded - self._mean) / self._std, scale

    @torch.inference_mode()
    def detect(self, image: ImageArray) -> Proposals:
        """See `Detector.detect`."""
        boxes, score = [], []
        for side in self.sides:
            x, scale = self.preprocess(image, side)
            scores, distances = self.network(x)
            best = scores[0].amax(dim=1)  # (P, 80) to (P,)
            likely = best > self.score_threshold
            found = decode(distances[0], *x.shape[-2:])[likely]  # (N, 4)
            boxes.append(found.cpu().numpy() * scale)
            score.append(best[likely].cpu().numpy())
        return select(
            np.concatenate(boxes),
            np.concatenate(score),
            check_image(image),
            self.nms_iou,
            self.max_boxes,
        )
