"""Run-length masks of regions, from the mask decoder's low-resolution logits.

Axes: N regions, h w rows and columns of the embedding, X Y columns and rows of an image.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from regionspot.boxes import FloatArray
from regionspot.types import ImageEmbedding, RegionTokens, Rle, encode_window

ENLARGEMENT = 4  # pixels of the padded square a side of a low-resolution logit
MARGIN = 2  # logits around a box: more than bilinear sampling reaches


def masks_of_all(
    tokens: Sequence[RegionTokens],
    embeddings: Sequence[ImageEmbedding],
    boxes: Sequence[FloatArray],
) -> list[tuple[tuple[Rle, ...], FloatArray]]:
    """The masks of the regions of each image, and the localizer's estimate of each mask's IoU."""
    found = []
    for each, embedding, rows in zip(tokens, embeddings, boxes, strict=True):
        assert each.mask_iou is not None, "ask the localizer for masks"
        masks = run_length_masks(each, embedding, rows)
        found.append((masks, each.mask_iou.float().cpu().numpy()))
    return found


def run_length_masks(
    tokens: RegionTokens, embedding: ImageEmbedding, boxes: FloatArray, threshold: float = 0.0
) -> tuple[Rle, ...]:
    """The masks of the regions in the original image's frame, each cut to its own box.

    Low-resolution logits are enlarged bilinearly to the padded square and sampled at the pixels
    of the box alone, so that a large image costs no more than its boxes.

    Args:
        tokens: of the N regions, with `mask_logits`.
        embedding: of the image.
        boxes: (N, 4) xyxy pixels of the original image.
        threshold: on the logits; 0 is SAM's own.
    """
    assert tokens.mask_logits is not None, "ask the localizer for masks"
    result = []
    for logits, box in zip(tokens.mask_logits, boxes, strict=True):
        x1, y1 = (int(v) for v in np.floor(box[:2]))
        x2, y2 = (int(v) for v in np.ceil(box[2:]))
        x2, y2 = min(x2, embedding.width), min(y2, embedding.height)
        # Pixel centres of the original image, in pixels of the padded square.
        across = (torch.arange(x1, x2) + 0.5) * (embedding.input_width / embedding.width)
        down = (torch.arange(y1, y2) + 0.5) * (embedding.input_height / embedding.height)
        mask = _sampled(logits.float(), across, down) > threshold
        result.append(encode_window(mask.cpu().numpy(), x1, y1, embedding.width, embedding.height))
    return tuple(result)


def _sampled(logits: torch.Tensor, across: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Logits at places of the padded square, as if they were enlarged to its size.

    Only the part around the places is enlarged: what is farther than MARGIN cells has no influence
    on them.

    Args:
        logits: (4 h, 4 w), each of ENLARGEMENT pixels of the square a side.
        across: (X,) ascending pixels of the square.
        down: (Y,) ascending pixels of the square.

    Returns:
        (Y, X).
    """
    (left, right), (top, bottom) = (
        (
            max(0, int(at[0]) // ENLARGEMENT - MARGIN),
            min(side, int(at[-1]) // ENLARGEMENT + MARGIN + 1),
        )
        for at, side in ((across, logits.shape[1]), (down, logits.shape[0]))
    )
    part = logits[None, None, top:bottom, left:right]
    enlarged = F.interpolate(part, scale_factor=ENLARGEMENT, mode="bilinear")
    height, width = enlarged.shape[2:]
    columns = (2 * (across - ENLARGEMENT * left) / width - 1).to(logits.device)
    rows = (2 * (down - ENLARGEMENT * top) / height - 1).to(logits.device)
    # (1, Y, X, 2), x first
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    return F.grid_sample(enlarged, grid, padding_mode="border", align_corners=False)[0, 0]
