"""Outlines of shapes that are no upright boxes, as polygons x, y, x, y, ... in pixels.

Angles are degrees, clockwise as a person sees the image (y points down), as in CVAT and Label
Studio.
"""

import math
from collections.abc import Iterable

from regionspot.boxes import Box
from regionspot.errors import InputError

Outline = tuple[float, ...]
# Of an ellipse; the polygon lacks 0.1 % of its area.
CORNERS = 72
_DIGITS = 6  # drops what sines and cosines add to a file's own decimals


def enclosing_box(polygons: Iterable[Outline]) -> Box:
    """The upright box x1, y1, x2, y2 around one or more polygons."""
    x, y = zip(*((each[::2], each[1::2]) for each in polygons), strict=True)
    return min(map(min, x)), min(map(min, y)), max(map(max, x)), max(map(max, y))


def parse_degrees(value: object, where: str) -> float:
    """An angle as an attribute holds it; 0 where there is none, and for whole turns.

    Raises:
        InputError: it is no finite number; the message begins with `where`.
    """
    try:
        return math.fmod(float(str(value or 0)), 360)
    except ValueError as error:  # `fmod` raises it for infinity
        raise InputError(f"{where}: rotation must be in degrees, got {value!r:.40}") from error


def rotated_box(box: Box, degrees: float, pivot: tuple[float, float] | None = None) -> Outline:
    """The four corners of a box that was rotated.

    Args:
        box: x1, y1, x2, y2 before the rotation.
        degrees: clockwise.
        pivot: x, y that the box is rotated about; None: its centre, as in CVAT.
    """
    x1, y1, x2, y2 = box
    x, y = pivot or ((x1 + x2) / 2, (y1 + y2) / 2)
    corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    return _rotated([(left - x, top - y) for left, top in corners], degrees, (x, y))


def ellipse(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0
) -> tuple[Box, Outline]:
    """The box around an ellipse, and its outline.

    Args:
        centre: x, y.
        radii: along x and y before the rotation.
        degrees: clockwise about the centre.
    """
    (x, y), (radius_x, radius_y) = centre, radii
    angles = [math.tau * corner / CORNERS for corner in range(CORNERS)]
    offsets = [(radius_x * math.cos(angle), radius_y * math.sin(angle)) for angle in angles]
    cos, sin = _direction(degrees)
    half_x, half_y = (
        round(math.hypot(*pair), _DIGITS)
        for pair in ((radius_x * cos, radius_y * sin), (radius_x * sin, radius_y * cos))
    )
    box = (x - half_x, y - half_y, x + half_x, y + half_y)
    return box, _rotated(offsets, degrees, centre)


def _rotated(
    offsets: Iterable[tuple[float, float]], degrees: float, pivot: tuple[float, float]
) -> Outline:
    cos, sin = _direction(degrees)
    return tuple(
        round(value, _DIGITS)
        for x, y in offsets
        for value in (pivot[0] + x * cos - y * sin, pivot[1] + x * sin + y * cos)
    )


def _direction(degrees: float) -> tuple[float, float]:
    angle = math.radians(degrees % 360)
    return math.cos(angle), math.sin(angle)
