"""Conversions and operations on boxes, also of empty and reversed ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionspot import boxes as b
from regionspot.boxes import as_boxes, box_area, box_iou, clip_boxes, xywh_to_xyxy, xyxy_to_xywh
from regionspot.errors import InputError

BOXES = np.array([[0, 0, 10, 20], [5, 5, 15, 25], [30, 30, 31, 31]], np.float32)
NOTHING = np.zeros((0, 4), np.float32)
WIDTH, HEIGHT = 64, 48
PAIRS = {
    "xywh": (b.xyxy_to_xywh, b.xywh_to_xyxy, ()),
    "relative xywh": (b.xyxy_to_relative_xywh, b.relative_xywh_to_xyxy, (WIDTH, HEIGHT)),
    "relative cxcywh": (b.xyxy_to_relative_cxcywh, b.relative_cxcywh_to_xyxy, (WIDTH, HEIGHT)),
}
FORMS = {
    "xywh": (4, 6, 20, 10),
    "relative xywh": (4 / 64, 6 / 48, 20 / 64, 10 / 48),
    "relative cxcywh": (14 / 64, 11 / 48, 20 / 64, 10 / 48),
}


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


@pytest.mark.parametrize("form", PAIRS)
def test_the_form_is_the_one_that_it_is_named_for(form: str) -> None:
    there, back, sides = PAIRS[form]
    assert there((4, 6, 24, 16), *sides) == pytest.approx(FORMS[form])
    assert back(FORMS[form], *sides) == pytest.approx((4, 6, 24, 16))


@pytest.mark.parametrize("form", PAIRS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(st.lists(st.tuples(*[st.floats(-100, 100, width=32)] * 4), max_size=3))
def test_arrays_keep_their_type_and_say_what_single_boxes_say(
    form: str, dtype: type, rows: list[tuple[float, float, float, float]]
) -> None:
    there, back, sides = PAIRS[form]
    array = np.array(rows, dtype).reshape(-1, 4)
    for convert in (there, back):
        found = convert(array, *sides)
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        if dtype is np.float64:
            assert found.tolist() == [list(convert(row, *sides)) for row in rows]
    np.testing.assert_allclose(back(there(array, *sides), *sides), array, atol=1e-4)


def test_whole_numbers_of_a_single_box_stay_whole() -> None:
    assert [type(side) for side in b.xyxy_to_xywh((1, 2, 3, 4.5))] == [int, int, int, float]


def test_fractions_of_the_sides_become_pixels() -> None:
    assert b.relative_to_pixels((0.25, 0.5, 1, 1), WIDTH, HEIGHT) == (16, 24, 64, 48)
    found = b.relative_to_pixels(np.array([[0.25, 0.5, 1, 1]], np.float32), WIDTH, HEIGHT)
    assert (found.tolist(), found.dtype) == ([[16, 24, 64, 48]], np.float32)


def test_a_conversion_says_what_it_does() -> None:
    assert b.xyxy_to_xywh.__doc__ == "Corners to COCO's left, top, width, height."
