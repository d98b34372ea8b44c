"""Conversions and operations on boxes, also of empty and reversed ones."""

import numpy as np
import pytest

from regionspot.boxes import as_boxes, box_area, box_iou, clip_boxes, xywh_to_xyxy, xyxy_to_xywh
from regionspot.errors import InputError

BOXES = np.array([[0, 0, 10, 20], [5, 5, 15, 25], [30, 30, 31, 31]], np.float32)
NOTHING = np.zeros((0, 4), np.float32)


def test_conversions_are_each_others_inverse() -> None:
    np.testing.assert_array_equal(xyxy_to_xywh(BOXES)[1], [5, 5, 10, 20])
    np.testing.assert_array_equal(xywh_to_xyxy(xyxy_to_xywh(BOXES)), BOXES)
    assert xyxy_to_xywh(NOTHING).shape == xywh_to_xyxy(NOTHING).shape == (0, 4)


def test_clipped_boxes_lie_inside_the_image() -> None:
    clipped = clip_boxes(np.array([[-3, 2, 99, 7], [50, 50, 60, 60]], np.float32), 40, 30)
    np.testing.assert_array_equal(clipped, [[0, 2, 40, 7], [40, 30, 40, 30]])
    assert clip_boxes(NOTHING, 40, 30).shape == (0, 4)


def test_areas_and_overlaps() -> None:
    assert box_area(BOXES).tolist() == [200, 200, 1]
    assert box_area(BOXES[:, [2, 3, 0, 1]]).tolist() == [0, 0, 0]
    iou = box_iou(BOXES, BOXES)
    np.testing.assert_allclose(np.diag(iou), 1)
    assert iou[0, 1] == pytest.approx(75 / 325)
    assert iou[0, 2] == 0
    assert box_iou(BOXES, NOTHING).shape == (3, 0)


@pytest.mark.parametrize("boxes", [np.zeros(4), np.zeros((2, 5)), np.zeros((1, 1, 4))])
def test_boxes_of_another_shape_are_refused(boxes: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"boxes must be \(N, 4\) xyxy pixels, got \("):
        as_boxes(boxes)
    assert as_boxes([]).shape == (0, 4)
