"""`contact_sheet.png`: the first labelled images with boxes, masks, words and scores.

Images lie in rows of one height, scaled so that each row fills the width.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import supervision as sv
from PIL import Image, ImageDraw

from integrations.annotations import Annotation, LabelledImage, as_rle
from integrations.drawing import BOLD, EMPTY, FAINT, INK, PAPER, distinct_colours, font, shortened
from integrations.images import UnreadableImage, read_image
from regionspot.files import atomic_write_bytes
from regionspot.types import ImageArray, decode_mask

IMAGES = 12
WIDTH, MARGIN, GAP = 1680, 24, 16
ROW_HEIGHT = 380
TITLE_HEIGHT, CAPTION_HEIGHT = 64, 26
LABEL_SIZE, LABEL_PADDING = 14, 4
# Aspect ratios of a cell; a longer panorama is shown smaller.
NARROWEST, WIDEST = 0.5, 2.4


@dataclass(frozen=True)
class Cell:
    """One image of the sheet, on the scale on which it is shown.

    Attributes:
        width, height: in pixels of the sheet.
    """

    image: LabelledImage
    path: Path
    width: int
    height: int


def draw_contact_sheet(
    path: Path,
    title: str,
    note: str,
    images: Iterable[LabelledImage],
    names: Sequence[str],
    root: Path,
) -> None:
    """Draw the sheet of a run and write it as PNG.

    Args:
        path: of the PNG.
        title: on the left of the heading.
        note: on its right.
        images: those without labels are left out, and all after the first IMAGES.
        names: the words of category 1, 2, ...
        root: folder that file names are relative to.
    """
    shown = list(islice((image for image in images if image.annotations), IMAGES))
    rows = lay_out([(image, root / image.file_name) for image in shown])
    height = TITLE_HEIGHT + sum(row[0].height + CAPTION_HEIGHT + GAP for row in rows) + MARGIN
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    if shown:
        title = f"{title}  ·  {len(shown)} images with labels"
    note, large = note if shown else "no label", font(22, bold=True)
    room = WIDTH - 2 * MARGIN - GAP - font(17).getlength(note)
    draw.text((MARGIN, 20), shortened(title, room, large), INK, large)
    draw.text((WIDTH - MARGIN, 24), note, FAINT, font(17), anchor="ra")
    colours = word_colours(shown)
    top = TITLE_HEIGHT
    for row in rows:
        left = MARGIN
        for cell in row:
            sheet.paste(Image.fromarray(annotate(cell, names, colours)), (left, top))
            caption = shortened(cell.image.file_name, cell.width, font(15), keep_end=True)
            draw.text((left, top + cell.height + 5), caption, FAINT, font(15))
            left += cell.width + GAP
        top += row[0].height + CAPTION_HEIGHT + GAP
    with atomic_write_bytes(path) as out:
        sheet.save(out, "PNG")


def lay_out(images: Sequence[tuple[LabelledImage, Path]]) -> list[list[Cell]]:
    """Rows of cells: as many as fit at ROW_HEIGHT, then scaled to the full width.

    The last row is not enlarged beyond ROW_HEIGHT.
    """
    rows: list[list[tuple[LabelledImage, Path, float]]] = [[]]
    for image, path in images:
        shape = min(max(image.width / image.height, NARROWEST), WIDEST)
        used = sum(each[2] for each in rows[-1]) * ROW_HEIGHT + GAP * len(rows[-1])
        if rows[-1] and used + shape * ROW_HEIGHT / 2 > WIDTH - 2 * MARGIN:
            rows.append([])
        rows[-1].append((image, path, shape))
    cells = []
    for row in rows:
        room = WIDTH - 2 * MARGIN - GAP * (len(row) - 1)
        height = room / sum(shape for *_, shape in row) if row else 0
        if row is rows[-1]:
            height = min(height, ROW_HEIGHT)
        cells.append([Cell(i, p, int(shape * height), int(height)) for i, p, shape in row])
    return [row for row in cells if row]


def word_colours(images: Sequence[LabelledImage]) -> dict[int, int]:
    """Index of each category's colour, in order of appearance, for the whole sheet."""
    ids = [each.category_id for image in images for each in image.annotations]
    return {category: number for number, category in enumerate(dict.fromkeys(ids))}


def annotate(cell: Cell, names: Sequence[str], colours: dict[int, int]) -> ImageArray:
    """A cell's pixels, uint8 (height, width, 3) RGB, with all labels of the image drawn."""
    image = cell.image
    scale = min(cell.width / image.width, cell.height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    offset = (cell.width - size[0]) // 2, (cell.height - size[1]) // 2
    canvas = Image.new("RGB", (cell.width, cell.height), EMPTY)
    # A file that has gone since it was labelled leaves its place empty.
    with suppress(UnreadableImage):
        pixels = Image.fromarray(read_image(cell.path))
        canvas.paste(pixels.resize(size, Image.Resampling.LANCZOS), offset)
    # Confident labels are drawn last and stay on top.
    annotations = sorted(image.annotations, key=lambda each: each.score or 0)
    boxes = np.array([each.box for each in annotations], np.float32) * scale
    detections = sv.Detections(
        xyxy=boxes + np.array([*offset, *offset], np.float32),
        mask=_masks(cell, annotations, size, offset),
        class_id=np.array([colours[each.category_id] for each in annotations]),
    )
    letters = font(LABEL_SIZE, bold=True)
    room = cell.width - letters.getlength(" 0.00") - 4 * LABEL_PADDING
    shown = [shortened(names[each.category_id - 1], room, letters) for each in annotations]
    labels = [f"{n} {each.score or 0:.2f}" for n, each in zip(shown, annotations, strict=True)]
    colour = sv.ColorPalette([sv.Color(*rgb) for rgb in distinct_colours(max(len(colours), 1))])
    drawn = np.array(canvas)[:, :, ::-1].copy()
    if detections.mask is not None:
        drawn = sv.MaskAnnotator(color=colour, opacity=0.38).annotate(drawn, detections)
    drawn = sv.BoxAnnotator(color=colour, thickness=2).annotate(drawn, detections)
    drawn = sv.RichLabelAnnotator(
        color=colour,
        font_path=str(BOLD),
        font_size=LABEL_SIZE,
        text_padding=LABEL_PADDING,
        border_radius=3,
        smart_position=True,
    ).annotate(drawn, detections, labels)
    return drawn[:, :, ::-1]


def _masks(
    cell: Cell, annotations: Sequence[Annotation], size: tuple[int, int], offset: tuple[int, int]
) -> npt.NDArray[np.bool_] | None:
    """Masks (N, height, width) of the cell, or None where the labels have none."""
    if not annotations or annotations[0].mask is None:
        return None
    masks = np.zeros((len(annotations), cell.height, cell.width), np.bool_)
    for canvas, each in zip(masks, annotations, strict=True):
        assert each.mask is not None, "either all labels of a run have masks or none"
        rle = as_rle(each.mask, cell.image.width, cell.image.height)
        whole = Image.fromarray(decode_mask(rle))
        small = np.asarray(whole.resize(size, Image.Resampling.NEAREST))
        canvas[offset[1] : offset[1] + size[1], offset[0] : offset[0] + size[0]] = small
    return masks
