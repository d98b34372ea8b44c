"""Masks before their pixels are filled; polygons are x, y, x, y, ... in pixels."""

from collections.abc import Sequence

from regionspot.boxes import Box
from regionspot.errors import InputError

# The most pixels of an image that Pillow opens; a mask of more would only fill the memory.
MOST_PIXELS = 178_956_970
# No image has such a pixel, and the corners of what is clipped would be inexact.
LARGEST_COORDINATE = 1e9


def clip_polygons(
    polygons: Sequence[Sequence[float]], width: int, height: int
) -> tuple[tuple[float, ...], ...]:
    """The polygons, of which those that reach further out than the image is wide are clipped to it.

    The pixels inside the image stay the same. pycocotools walks along every outline pixel by pixel,
    and ends in a segmentation fault where that is a way of a thousand million.

    Args:
        polygons: of one mask.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Returns:
        As many polygons, less those that lie outside of the image.

    Raises:
        InputError: a coordinate is not finite or larger than `LARGEST_COORDINATE`.
    """
    kept = []
    for polygon in polygons:
        points = tuple(map(float, polygon))
        xs, ys = points[0::2], points[1::2]
        if not all(abs(side) <= LARGEST_COORDINATE for side in points):
            raise InputError("a polygon has a corner that no image can have; mend or remove it")
        if not (-width <= min(xs) <= max(xs) <= 2 * width) or not (
            -height <= min(ys) <= max(ys) <= 2 * height
        ):
            for axis, low, high in ((0, 0.0, float(width)), (1, 0.0, float(height))):
                points = _clip(points, axis, low, 1)
                points = _clip(points, axis, high, -1)
        if points:
            kept.append(points)
    return tuple(kept)


def _clip(points: tuple[float, ...], axis: int, border: float, sign: int) -> tuple[float, ...]:
    """The part of a polygon on one side of a border (Sutherland and Hodgman 1974)."""
    corners = list(zip(points[0::2], points[1::2], strict=True))
    kept: list[float] = []
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        is_in, is_next_in = ((each[axis] - border) * sign >= 0 for each in (start, end))
        if is_in:
            kept += start
        if is_in != is_next_in:
            part = (border - start[axis]) / (end[axis] - start[axis])
            crossing = [a + (b - a) * part for a, b in zip(start, end, strict=True)]
            crossing[axis] = border
            kept += crossing
    return tuple(kept)


def box_outline(box: Box) -> tuple[float, ...]:
    """A box as a polygon, with its corners in the order in which pycocotools writes it."""
    x1, y1, x2, y2 = box
    return (x1, y1, x1, y2, x2, y2, x2, y1)
