"""Run-length masks of regions, from the mask decoder's low-resolution logits.

Axes: N regions, h w rows and columns of the embedding, X Y columns and rows of an image.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from regionspot.boxes import FloatArray
from regionspot.devices.transfer import to_device, to_host
from regionspot.types import ImageEmbedding, RegionTokens, Rle, encode_window

ENLARGEMENT = 4  # pixels of the padded square a side of a low-resolution logit
MARGIN = 2  # logits around a box: more than bilinear sampling reaches
COPIED_PIXELS = 1 << 24  # of masks, by one wait for a device


class _Window(NamedTuple):
    """A mask (h, w), booleans, inside an image of a width and height in pixels."""

    mask: torch.Tensor
    left: int
    top: int
    width: int
    height: int


def masks_of_all(
    tokens: Sequence[RegionTokens],
    embeddings: Sequence[ImageEmbedding],
    boxes: Sequence[FloatArray],
) -> list[tuple[tuple[Rle, ...], FloatArray]]:
    """The masks of the regions of each image, and the localizer's estimate of each mask's IoU."""
    estimates = to_host([_there(each.mask_iou).float() for each in tokens])
    windows = map(_windows, tokens, embeddings, boxes)
    masks = _run_lengths(chain.from_iterable(windows))
    return [
        (tuple(islice(masks, len(rows))), estimate.numpy())
        for rows, estimate in zip(boxes, estimates, strict=True)
    ]


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
    return tuple(_run_lengths(_windows(tokens, embedding, boxes, threshold)))


def _windows(
    tokens: RegionTokens, embedding: ImageEmbedding, boxes: FloatArray, threshold: float = 0.0
) -> Iterator[_Window]:
    """The mask of each region, arguments as of `run_length_masks`."""
    for logits, box in zip(_there(tokens.mask_logits), boxes, strict=True):
        x1, y1 = (int(v) for v in np.floor(box[:2]))
        x2, y2 = (int(v) for v in np.ceil(box[2:]))
        x2, y2 = min(x2, embedding.width), min(y2, embedding.height)
        # Pixel centres of the original image, in pixels of the padded square.
        across, down = (
            (np.arange(first, last, dtype=np.float32) + 0.5) * scale
            for first, last, scale in (
                (x1, x2, embedding.input_width / embedding.width),
                (y1, y2, embedding.input_height / embedding.height),
            )
        )
        mask = _sampled(logits.float(), across, down) > threshold
        yield _Window(mask, x1, y1, embedding.width, embedding.height)


def _run_lengths(windows: Iterable[_Window]) -> Iterator[Rle]:
    """Run lengths of masks, which are copied from a device by one wait for `COPIED_PIXELS`."""
    waiting: list[_Window] = []
    pixels = 0
    for each in windows:
        waiting.append(each)
        pixels += each.mask.numel()
        if pixels >= COPIED_PIXELS:
            yield from _encoded(waiting)
            waiting, pixels = [], 0
    yield from _encoded(waiting)


def _encoded(windows: Sequence[_Window]) -> list[Rle]:
    masks = to_host([each.mask for each in windows])
    return [
        encode_window(mask.numpy(), each.left, each.top, each.width, each.height)
        for mask, each in zip(masks, windows, strict=True)
    ]


def _there(values: torch.Tensor | None) -> torch.Tensor:
    assert values is not None, "ask the localizer for masks"
    return values


def _sampled(logits: torch.Tensor, across: FloatArray, down: FloatArray) -> torch.Tensor:
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
    columns, rows = (
        to_device(2 * (at - ENLARGEMENT * start) / side - 1, logits.device)
        for at, start, side in ((across, left, width), (down, top, height))
    )
    # (1, Y, X, 2), x first
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    return F.grid_sample(enlarged, grid, padding_mode="border", align_corners=False)[0, 0]
