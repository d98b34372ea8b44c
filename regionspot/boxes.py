"""Conversions and operations on boxes, each named for what it does.

Inside the code a box is absolute-pixel `xyxy` float32 in the frame of the original image (after
EXIF orientation). Files use other forms; they are reached through the functions here only.
"""

import numpy as np
import numpy.typing as npt

from regionspot.errors import InputError

FloatArray = npt.NDArray[np.float32]


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
        width, height: of the image, in pixels.

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


def xyxy_to_xywh(boxes: FloatArray) -> FloatArray:
    """(N, 4) corner boxes to COCO's left, top, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xywh_to_xyxy(boxes: FloatArray) -> FloatArray:
    """(N, 4) COCO boxes to corners."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_relative_xywh(boxes: FloatArray, width: int, height: int) -> FloatArray:
    """(N, 4) corner boxes in pixels to FiftyOne's left, top, width, height in [0, 1]."""
    sides = np.array([width, height, width, height], np.float32)
    return np.asarray(xyxy_to_xywh(boxes) / sides, np.float32)


def relative_xywh_to_xyxy(boxes: FloatArray, width: int, height: int) -> FloatArray:
    """(N, 4) FiftyOne boxes to corner boxes in pixels."""
    return xywh_to_xyxy(boxes * np.array([width, height, width, height], np.float32))


def box_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union (N, M) of two sets of xyxy boxes (N, 4) and (M, 4)."""
    left_top = np.maximum(a[:, None, :2], b[None, :, :2])
    right_bottom = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(right_bottom - left_top, 0)
    overlap = sides[..., 0] * sides[..., 1]
    union = box_area(a)[:, None] + box_area(b)[None, :] - overlap
    return np.asarray(overlap / np.maximum(union, np.float32(1e-9)), np.float32)
