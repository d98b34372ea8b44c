"""Conversions and operations on boxes, each named for what it does.

Inside the code a box is absolute-pixel `xyxy` float32 in the frame of the original image (after
EXIF orientation). Files use other forms; they are reached through the functions here only. Each
conversion takes an array (N, 4), whose dtype it keeps, or one box as a tuple of four numbers.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from regionspot.errors import InputError

FloatArray = npt.NDArray[np.float32]
Floats = TypeVar("Floats", npt.NDArray[np.float32], npt.NDArray[np.float64])
Box = tuple[float, float, float, float]


def as_boxes(boxes: npt.ArrayLike) -> FloatArray:
    """Return `boxes` as a float32 array (N, 4); an empty list becomes (0, 4).

    Raises:
        InputError: the shape is not (N, 4), or there is something else than numbers.
    """
    try:
        array = np.asarray(boxes, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"boxes must be numbers (N, 4) xyxy pixels, got {error}") from error
    if array.size == 0 and array.ndim < 2:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"boxes must be (N, 4) xyxy pixels, got {array.shape}")
    return array


def check_boxes(boxes: FloatArray, width: int, height: int) -> None:
    """Refuse boxes that are no region of the image.

    Args:
        boxes: (N, 4) xyxy pixels.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Raises:
        InputError: NaN or infinity, a reversed or empty box, or one that leaves the image.
    """
    tests = (
        (~np.isfinite(boxes).all(axis=1), "must be finite"),
        (
            (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1]),
            "must have x1 < x2 and y1 < y2",
        ),
        (
            (boxes[:, 0] < 0) | (boxes[:, 1] < 0) | (boxes[:, 2] > width) | (boxes[:, 3] > height),
            f"must lie inside the image of {width} x {height} pixels; clip them with clip_boxes",
        ),
    )
    for bad, expected in tests:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(f"boxes {expected}, got {boxes[row].tolist()} in row {row}")


def clip_boxes(boxes: FloatArray, width: int, height: int) -> FloatArray:
    """Clip xyxy boxes (N, 4) to the image. A box outside of it becomes empty."""
    limit = np.array([width, height, width, height], np.float32)
    return np.clip(boxes, np.float32(0), limit)


def box_area(boxes: FloatArray) -> FloatArray:
    """Areas (N,) of xyxy boxes in square pixels; reversed boxes count as empty."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


class _Conversion(Protocol):
    @overload
    def __call__(self, boxes: Box, /, *sides: int) -> Box: ...
    @overload
    def __call__(self, boxes: Floats, /, *sides: int) -> Floats: ...


def _conversion(formula: Callable[..., Box]) -> _Conversion:
    """Let a formula of four coordinates, and an image's width and height, take an array too."""

    @wraps(formula)
    def convert(boxes: Any, *sides: int) -> Any:
        if isinstance(boxes, np.ndarray):
            return np.stack(formula(*boxes.T, *sides), axis=-1)  # four (N,) to (N, 4)
        return formula(*boxes, *sides)

    return cast(_Conversion, convert)


@_conversion
def xyxy_to_xywh(x1: float, y1: float, x2: float, y2: float) -> Box:
    """Corners to COCO's left, top, width, height."""
    return x1, y1, x2 - x1, y2 - y1


@_conversion
def xywh_to_xyxy(left: float, top: float, width: float, height: float) -> Box:
    """COCO's left, top, width, height to corners."""
    return left, top, left + width, top + height


@_conversion
def relative_to_pixels(a: float, b: float, c: float, d: float, width: int, height: int) -> Box:
    """Fractions of an image's sides to pixels, xyxy and xywh alike."""
    return a * width, b * height, c * width, d * height


@_conversion
def xyxy_to_relative_xywh(x1: float, y1: float, x2: float, y2: float, w: int, h: int) -> Box:
    """Corners in pixels to FiftyOne's left, top, width, height in fractions of the sides."""
    return x1 / w, y1 / h, (x2 - x1) / w, (y2 - y1) / h


@_conversion
def relative_xywh_to_xyxy(x: float, y: float, width: float, height: float, w: int, h: int) -> Box:
    """FiftyOne's left, top, width, height in fractions of the sides to corners in pixels."""
    return x * w, y * h, (x + width) * w, (y + height) * h


@_conversion
def xyxy_to_relative_cxcywh(x1: float, y1: float, x2: float, y2: float, w: int, h: int) -> Box:
    """Corners in pixels to YOLO's centre, width, height in fractions of the sides."""
    return (x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h


@_conversion
def relative_cxcywh_to_xyxy(x: float, y: float, width: float, height: float, w: int, h: int) -> Box:
    """YOLO's centre, width, height in fractions of the sides to corners in pixels."""
    left, top = x - width / 2, y - height / 2
    return left * w, top * h, (x + width / 2) * w, (y + height / 2) * h


def rounded(box: Box, digits: int) -> Box:
    """A box of numbers with at most so many decimals."""
    x1, y1, x2, y2 = box
    return round(x1, digits), round(y1, digits), round(x2, digits), round(y2, digits)


def box_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union (N, M) of two sets of xyxy boxes (N, 4) and (M, 4)."""
    left_top = np.maximum(a[:, None, :2], b[None, :, :2])
    right_bottom = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(right_bottom - left_top, 0)
    overlap = sides[..., 0] * sides[..., 1]
    union = box_area(a)[:, None] + box_area(b)[None, :] - overlap
    return np.asarray(overlap / np.maximum(union, np.float32(1e-9)), np.float32)
