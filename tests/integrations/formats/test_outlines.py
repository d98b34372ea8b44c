"""Rotated boxes and ellipses: corners, enclosing boxes, areas."""

import math

import numpy as np
import pytest

from integrations.formats.outlines import ellipse, enclosing_box, rotated_box


def area_of(outline: tuple[float, ...]) -> float:
    x, y = np.array(outline[::2]), np.array(outline[1::2])
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def test_a_box_rotated_about_its_centre() -> None:
    corners = rotated_box((20, 30, 80, 50), 90)
    assert corners == (60, 10, 60, 70, 40, 70, 40, 10)
    assert enclosing_box([corners]) == (40, 10, 60, 70)
    assert rotated_box((20, 30, 80, 50), 360) == (20, 30, 80, 30, 80, 50, 20, 50)


def test_a_box_rotated_about_its_corner() -> None:
    corners = rotated_box((10, 10, 30, 20), 45, (10, 10))
    half = math.sqrt(0.5)
    assert corners[:2] == (10, 10)
    assert corners[2:4] == pytest.approx((10 + 20 * half, 10 + 20 * half))
    assert corners[6:] == pytest.approx((10 - 10 * half, 10 + 10 * half))
    assert area_of(corners) == pytest.approx(200)


@pytest.mark.parametrize("degrees", [0, 30, 90, -45, 405])
def test_an_ellipse(degrees: float) -> None:
    box, outline = ellipse((50, 40), (10, 5), degrees)
    assert enclosing_box([outline]) == pytest.approx(box, abs=0.02)
    assert area_of(outline) == pytest.approx(math.pi * 50, rel=0.002)
    if degrees == 0:
        assert box == (40, 35, 60, 45)
    if degrees == 90:
        assert box == pytest.approx((45, 30, 55, 50))


def test_the_box_around_several_polygons() -> None:
    assert enclosing_box([(0, 1, 2, 3, 4, 5), (-1, 9, 3, 3, 3, 0)]) == (-1, 0, 4, 9)
