"""Pillow's resizing on a device: windows of an image to one size, as two matrix products.

Each output row (and column) is a weighted mean of input rows, with Pillow's filters, whose width
grows with the reduction. Pillow rounds to whole levels after each direction, and so does this;
only means that lie between two levels may be rounded otherwise.

Axes: N windows, H W of the image, h w of the output.
"""

from collections.abc import Callable
from functools import lru_cache

import torch

Filter = Callable[[torch.Tensor], torch.Tensor]


def bilinear(x: torch.Tensor) -> torch.Tensor:
    """Pillow's triangle filter."""
    return (1 - x.abs()).clamp(min=0)


def bicubic(x: torch.Tensor) -> torch.Tensor:
    """Pillow's cubic filter, of a = -0.5."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


SUPPORT: dict[Filter, float] = {bilinear: 1.0, bicubic: 2.0}  # pixels of the output on each side
LARGEST = 1 << 28  # values that one product may give


def resize(image: torch.Tensor, size: tuple[int, int], kernel: Filter) -> torch.Tensor:
    """A whole image, uint8 (H, W, 3), as (3, h, w) of whole levels in [0, 255].

    Args:
        image: on any device.
        size: h and w.
        kernel: `bilinear` or `bicubic`.
    """
    H, W, _ = image.shape
    if size == (H, W):
        return image.permute(2, 0, 1).to(_dtype(image.device))
    down = _whole(H, size[0], kernel, image.device)[None]  # (1, h, H)
    across = _whole(W, size[1], kernel, image.device)[None]
    return _resampled(image, down, across)[0]


def resize_windows(
    image: torch.Tensor, windows: torch.Tensor, side: int, kernel: Filter
) -> torch.Tensor:
    """Windows of an image, each as a square (N, 3, side, side) of whole levels in [0, 255].

    Args:
        image: uint8 (H, W, 3).
        windows: (N, 4) float32 xyxy pixels, on the same device.
        side: of the squares.
        kernel: `bilinear` or `bicubic`.
    """
    H, W, _ = image.shape
    step = max(1, LARGEST // (3 * H * side))
    parts = []
    for x1, y1, x2, y2 in (part.T for part in torch.split(windows, step)):
        down = _weights(y1, y2, H, side, kernel)
        parts.append(_resampled(image, down, _weights(x1, x2, W, side, kernel)))
    return torch.cat(parts)


def _resampled(image: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """(N, 3, h, w), from weights (N, h, H) of rows and (N, w, W) of columns."""
    H, W, _ = image.shape
    N, w, _ = across.shape
    rows = image.permute(0, 2, 1).reshape(3 * H, W).to(down.dtype)
    narrow = _levels(rows @ across.flatten(0, 1).T)  # (3 H, N w)
    narrow = narrow.view(H, 3, N, w).permute(2, 0, 1, 3).reshape(N, H, 3 * w)
    return _levels(down @ narrow).view(N, -1, 3, w).transpose(1, 2)  # (N, h, 3 w)


def _levels(x: torch.Tensor) -> torch.Tensor:
    return (x + 0.5).floor_().clamp_(0, 255)


@lru_cache(maxsize=64)
def _whole(inputs: int, outputs: int, kernel: Filter, device: torch.device) -> torch.Tensor:
    """Weights (outputs, inputs) of a whole side."""
    first = torch.zeros(1, device=device)
    return _weights(first, first + inputs, inputs, outputs, kernel)[0]


def _weights(
    first: torch.Tensor, last: torch.Tensor, inputs: int, outputs: int, kernel: Filter
) -> torch.Tensor:
    """Weights (N, outputs, inputs) of windows from `first` to `last` (N,) of one side."""
    scale = ((last - first) / outputs)[:, None]  # (N, 1)
    width = scale.clamp(min=1)
    centre = first[:, None] + (torch.arange(outputs, device=first.device) + 0.5) * scale
    reach = SUPPORT[kernel] * width
    start, end = (centre - reach + 0.5).floor(), (centre + reach + 0.5).floor()  # (N, outputs)
    place = torch.arange(inputs, device=first.device)  # (inputs,)
    inside = (place >= start[..., None]) & (place < end[..., None])
    weights = kernel((place + 0.5 - centre[..., None]) / width[..., None]) * inside
    return (weights / weights.sum(-1, keepdim=True)).to(_dtype(first.device))


def _dtype(device: torch.device) -> torch.dtype:
    """Half precision holds the 256 levels, and the products add up in float32."""
    return torch.float16 if device.type == "cuda" else torch.float32
