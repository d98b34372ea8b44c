"""The style of all pictures: colours that can be read, names that fit, attention that shows."""

import numpy as np
import pytest
from PIL import Image

from integrations.drawing import (
    BRIGHTEST,
    LUMINANCE,
    attention_over,
    distinct_colours,
    font,
    outlined,
    shortened,
)


@pytest.mark.parametrize("size", [0, 1, 40])
def test_white_letters_can_be_read_on_every_colour(size: int) -> None:
    colours = distinct_colours(size)
    assert len(set(colours)) == size
    for colour in colours:
        assert np.array(colour) / 255 @ LUMINANCE <= BRIGHTEST + 0.01


def test_the_end_of_a_long_name_is_shown() -> None:
    letters = font(15, bold=True)
    assert shortened("cat.jpg", 500, letters, keep_end=True) == "cat.jpg"
    short = shortened("a/very/long/name/of/a/folder/cat.jpg", 90, letters, keep_end=True)
    assert short.startswith("…")
    assert short.endswith("cat.jpg")
    assert letters.getlength(short) <= 90


def test_long_words_are_cut_at_their_end() -> None:
    letters = font(17)
    assert shortened("cat", 100, letters) == "cat"
    assert shortened("a" * 99, 100, letters).endswith("a…")


def test_bright_where_attention_is() -> None:
    attention = np.zeros((4, 4), np.float32)
    attention[1, 2] = 0.3
    drawn = np.asarray(attention_over(Image.new("RGB", (80, 80), "grey"), attention), np.float32)
    assert drawn[20:40, 40:60].mean() > 1.5 * drawn[60:, :20].mean()


def test_a_box_is_drawn_on_a_copy_and_inside_of_it() -> None:
    panel = Image.new("RGB", (40, 30), "grey")
    drawn = np.asarray(outlined(panel, np.array([5, 5, 90, 90], np.float32)))
    assert np.asarray(panel).std() == 0
    assert (drawn[29, 39] != 128).any()
    assert drawn[2, 2].tolist() == [128, 128, 128]
