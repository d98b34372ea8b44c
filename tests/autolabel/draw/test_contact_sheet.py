"""The layout of the contact sheet, and which colour a word gets."""

from pathlib import Path

import pytest
from PIL import Image

from autolabel.draw.contact_sheet import (
    GAP,
    MARGIN,
    ROW_HEIGHT,
    WIDTH,
    Cell,
    annotate,
    lay_out,
    word_colours,
)
from integrations.annotations import Annotation, LabelledImage


def make_image(width: int, height: int, *categories: int) -> LabelledImage:
    annotations = tuple(
        Annotation(category, (0, 0, width / 2, height / 2), score=0.5) for category in categories
    )
    return LabelledImage(1, "image.png", width, height, annotations)


@pytest.mark.parametrize(
    "sizes",
    [
        [(640, 480)],
        [(640, 480)] * 12,
        [(480, 640)] * 7,
        [(30_000, 40), (1, 1), (40, 30_000), (640, 480)],
    ],
)
def test_rows_fill_the_width_and_no_more(sizes: list[tuple[int, int]]) -> None:
    rows = lay_out([(make_image(*size), Path("x")) for size in sizes])
    assert sum(map(len, rows)) == len(sizes)
    for row in rows:
        used = sum(cell.width for cell in row) + GAP * (len(row) - 1)
        assert used <= WIDTH - 2 * MARGIN
        assert len({cell.height for cell in row}) == 1
        assert row[0].height >= ROW_HEIGHT / 2
        assert min(cell.width for cell in row) >= 100
    for row in rows[:-1]:
        used = sum(cell.width for cell in row) + GAP * (len(row) - 1)
        assert used > WIDTH - 2 * MARGIN - len(row) - 1


def test_no_image_is_no_row() -> None:
    assert lay_out([]) == []


def test_a_word_has_one_colour_on_the_whole_sheet() -> None:
    assert word_colours([make_image(4, 4, 7, 2), make_image(4, 4, 2, 5)]) == {7: 0, 2: 1, 5: 2}


def test_an_image_is_drawn_in_its_cell(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (64, 48), "black").save(path)
    image = make_image(64, 48, 1)
    drawn = annotate(Cell(image, path, 320, 240), ["cat"], {1: 0})
    assert drawn.shape == (240, 320, 3)
    assert drawn[200, 300].tolist() == [0, 0, 0]
    assert drawn[:120, :160].any()
