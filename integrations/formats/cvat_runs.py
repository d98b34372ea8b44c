"""CVAT's run lengths of a mask, there and back."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def mask_to_runs(mask: npt.NDArray[np.bool_]) -> tuple[list[int], int, int, int, int]:
    """Runs, left, top, width and height of a mask (H, W).

    The runs go row by row over the rectangle of the mask's pixels and begin with background. A
    mask without pixels is one pixel of background.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [1], 0, 0, 1, 1
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    flat = mask[top:bottom, left:right].ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    if flat[0]:
        runs.insert(0, 0)
    return runs, int(left), int(top), int(right - left), int(bottom - top)


def runs_to_mask(
    runs: Sequence[int], place: tuple[int, int, int, int], size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """The mask (H, W) of runs.

    Args:
        place: left, top, width and height of the rectangle that the runs fill.
        size: height and width of the image.

    Raises:
        ValueError: the runs do not fill the rectangle, or it leaves the image.
    """
    left, top, width, height = place
    inside = left >= 0 and top >= 0 and left + width <= size[1] and top + height <= size[0]
    if not inside or width < 1 or height < 1:
        raise ValueError(f"a mask at {place} leaves the image of {size[1]} x {size[0]} pixels")
    if min(runs, default=0) < 0 or sum(runs) != width * height:
        raise ValueError(f"a mask's runs must add up to {width} x {height} pixels")
    values = np.arange(len(runs)) % 2 == 1
    mask = np.zeros(size, np.bool_)
    mask[top : top + height, left : left + width] = np.repeat(values, runs).reshape(height, width)
    return mask
