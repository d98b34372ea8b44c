"""Masks as one polygon each, for formats that hold no run lengths and no parts."""

import cv2
import numpy as np
import numpy.typing as npt

from integrations.annotations import Polygons, Tally, as_rle
from regionspot.boxes import Box
from regionspot.types import Rle, decode_mask

Points = npt.NDArray[np.float64]
_SIMPLER = 0.5
_MOST_PARTS = 50


def outline(
    mask: Rle | Polygons | None, box: Box, size: tuple[int, int], place: str, tally: Tally
) -> tuple[float, ...]:
    """One polygon x, y, x, y, ... in pixels, inside the image.

    Several parts are joined by lines of no width, there and back between their nearest corners.

    Args:
        mask: of an annotation; without one, the polygon is the box.
        box: of the annotation, xyxy pixels inside the image.
        size: width and height of the image.
        place: for the tally.
        tally: counts what the polygon does not have of the mask.

    Raises:
        InputError: the run lengths are those of an image of another size.
    """
    parts = [] if mask is None else _parts(mask, size, place, tally)
    if not parts:
        reason = "it has no mask; its four corners are written"
        tally.change("box", reason, place)
        x1, y1, x2, y2 = box
        return (x1, y1, x2, y1, x2, y2, x1, y2)
    if len(parts) > 1:
        tally.change("mask", "its parts are joined by lines of no width", place)
    if len(parts) > _MOST_PARTS:
        reason = f"a mask has more than {_MOST_PARTS}, and the largest are kept"
        tally.leave_out("part of a mask", reason, place, len(parts) - _MOST_PARTS)
    joined = parts[0]
    for part in parts[1:_MOST_PARTS]:
        joined = _joined(joined, part)
    return tuple(round(float(each), 6) for each in joined.ravel())


def _parts(mask: Rle | Polygons, size: tuple[int, int], place: str, tally: Tally) -> list[Points]:
    """Polygons (P, 2), the largest first."""
    if isinstance(mask, dict):
        parts = _contours(mask, size, place, tally)
    else:
        parts = []
        for polygon in mask:
            points = np.array(polygon, np.float64).reshape(-1, 2)
            inside = np.clip(points, 0, size)
            if np.abs(points - inside).max(initial=0) > 1e-3:
                tally.change("mask", "it reaches out of the image and is clipped", place)
            if len(points) >= 3:
                parts.append(inside)
    return sorted(parts, key=_area, reverse=True)


def _contours(mask: Rle, size: tuple[int, int], place: str, tally: Tally) -> list[Points]:
    pixels = decode_mask(as_rle(mask, *size)).astype(np.uint8)
    # Of twice the size, the outermost pixels of a contour tell where the pixels of the mask end.
    doubled = pixels.repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return []
    is_hole = hierarchy[0, :, 3] >= 0
    if is_hole.any():
        tally.change("mask", "its holes are filled", place)
    parts = []
    for contour, hole in zip(contours, is_hole, strict=True):
        if not hole:
            # (P, 1, 2) to (P, 2)
            edges = ((contour[:, 0].astype(np.int32) + 1) // 2).astype(np.float32)
            simple = cv2.approxPolyDP(edges[:, None], _SIMPLER, True)[:, 0]
            parts.append((simple if len(simple) >= 3 else edges).astype(np.float64))
    return parts


def _area(points: Points) -> float:
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _joined(polygon: Points, part: Points) -> Points:
    """A polygon with another one spliced in at their nearest corners."""
    distances = np.square(polygon[:, None] - part[None]).sum(axis=2)  # (P, Q)
    at, start = np.unravel_index(int(distances.argmin()), distances.shape)
    around = np.roll(part, -start, axis=0)
    return np.concatenate([polygon[: at + 1], around, around[:1], polygon[at:]])
