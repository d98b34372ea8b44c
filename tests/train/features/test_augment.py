"""Views change pixels and boxes together: a coloured rectangle is found where its box says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionspot.boxes import FloatArray, box_area
from regionspot.errors import InputError
from regionspot.types import ImageArray
from train.features.augment import IDENTITY, MIN_VISIBLE, View, parse_view

RED = (255, 0, 0)
views = st.builds(View, st.booleans(), st.sampled_from([0.5, 0.75, 1.0, 1.25, 1.6]))


@st.composite
def drawings(draw: st.DrawFn) -> tuple[ImageArray, FloatArray]:
    """A blue image with one red rectangle, and its box in whole pixels."""
    width, height = draw(st.integers(60, 90)), draw(st.integers(60, 90))
    left, top = draw(st.integers(0, width - 20)), draw(st.integers(0, height - 20))
    right, bottom = draw(st.integers(left + 12, width)), draw(st.integers(top + 12, height))
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = 255
    image[top:bottom, left:right] = RED
    return image, np.array([[left, top, right, bottom]], np.float32)


def find_red(image: ImageArray) -> FloatArray:
    rows, columns = np.nonzero(image[..., 0].astype(int) - image[..., 2] > 60)
    return np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)


@given(drawings(), views)
@settings(deadline=None)
def test_boxes_move_with_pixels(drawing: tuple[ImageArray, FloatArray], view: View) -> None:
    image, box = drawing
    height, width = image.shape[:2]
    seen = view.pixels(image)
    boxes, kept = view.boxes(box, width, height)
    assert seen.shape == image.shape
    assert boxes.dtype == np.float32
    assert len(boxes) == len(kept)
    if kept:
        # Resampling blurs an edge by less than the size of a source pixel.
        np.testing.assert_allclose(find_red(seen), boxes, atol=1.2 * max(1, view.scale))
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()


@given(drawings())
def test_flipping_twice_is_the_identity(drawing: tuple[ImageArray, FloatArray]) -> None:
    image, box = drawing
    flip, width, height = View(flip=True), image.shape[1], image.shape[0]
    assert np.array_equal(flip.pixels(flip.pixels(image)), image)
    twice, _ = flip.boxes(flip.boxes(box, width, height)[0], width, height)
    assert np.array_equal(twice, box)


def test_the_identity_changes_nothing() -> None:
    boxes = np.array([[0.1, 0.2, 33.3, 44.4]], np.float32)
    same, kept = IDENTITY.boxes(boxes, 60, 50)
    assert np.array_equal(same, boxes)
    assert kept == [0]


def test_a_cut_drops_what_it_leaves_too_little_of() -> None:
    # The middle half of 100 x 100: from 25 to 75.
    boxes = np.array(
        [[0, 40, 30, 60], [20, 40, 40, 60], [30, 30, 70, 70], [0, 0, 10, 10]], np.float32
    )
    seen, kept = View(scale=2).boxes(boxes, 100, 100)
    assert kept == [1, 2]
    assert seen.tolist() == [[0, 30, 30, 70], [10, 10, 90, 90]]
    assert box_area(seen)[0] / 4 >= MIN_VISIBLE * box_area(boxes[1:2])[0]


def test_no_boxes() -> None:
    for view in (IDENTITY, View(True), View(True, 0.5), View(False, 2)):
        boxes, kept = view.boxes(np.zeros((0, 4), np.float32), 10, 10)
        assert boxes.shape == (0, 4)
        assert kept == []


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("flip", View(flip=True)),
        ("scale=0.75", View(scale=0.75)),
        ("flip,scale=1.5", View(True, 1.5)),
        ("scale=1", IDENTITY),
    ],
)
def test_views_as_the_command_line_writes_them(text: str, view: View) -> None:
    assert parse_view(text) == view
    assert View(scale=2) == View(scale=2.0)
    assert view == IDENTITY or parse_view(str(view)) == view


@pytest.mark.parametrize("text", ["", "flop", "scale", "scale=", "scale=nan", "scale=0", "flip=1"])
def test_views_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="view"):
        parse_view(text)
