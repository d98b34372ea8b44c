"""`contact_sheet.png`: the first labelled images with boxes, masks, words and scores.

Images lie in rows of one height, scaled so that each row fills the width.
"""

import colorsys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import matplotlib
import numpy as np
import supervision as sv
from PIL import Image, ImageDraw, ImageFont

from autolabel.options import CONTACT_SHEET_IMAGES
from autolabel.run.outputs import Outputs
from integrations.annotations import Annotation, LabelledImage, as_rle
from integrations.images import UnreadableImage, read_image
from regionspot.files import atomic_write_bytes
from regionspot.types import decode_mask

WIDTH, MARGIN, GAP = 1680, 24, 16
ROW_HEIGHT = 380
TITLE_HEIGHT, CAPTION_HEIGHT = 64, 26
# A panorama is shown in a cell of this shape at most.
NARROWEST, WIDEST = 0.5, 2.4
# Hues that follow one another by the golden ratio never come close; green and yellow look brighter
# than they are, and are darkened to what white letters can be read on.
GOLDEN_RATIO, LIGHTNESS = 0.618034, (0.40, 0.33, 0.46)
LUMINANCE, BRIGHTEST = np.array([0.30, 0.59, 0.11]), 0.40
PAPER, INK, FAINT = "#f6f5f2", "#1d1d1f", "#77777c"
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
BOLD = FONT.with_name("DejaVuSans-Bold.ttf")


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


def draw_contact_sheet(path: Path, outputs: Outputs) -> None:
    """Draw the sheet of a run and write it as PNG."""
    root = Path(outputs.manifest.dataset["root"])
    labelled = (image for _, image in outputs.labelled() if image.annotations)
    shown = list(islice(labelled, CONTACT_SHEET_IMAGES))
    names = outputs.labeller.vocabulary.names
    rows = lay_out([(image, root / image.file_name) for image in shown])
    height = TITLE_HEIGHT + sum(row[0].height + CAPTION_HEIGHT + GAP for row in rows) + MARGIN
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    manifest = outputs.manifest
    title = f"{manifest.name}  ·  {len(shown)} images with labels" if shown else manifest.name
    draw.text((MARGIN, 20), title, INK, _font(22, BOLD))
    right = f"{manifest.options.model}, {len(names)} words" if shown else "no label"
    draw.text((WIDTH - MARGIN, 24), right, FAINT, _font(17), anchor="ra")
    colours = word_colours(shown)
    top = TITLE_HEIGHT
    for row in rows:
        left = MARGIN
        for cell in row:
            sheet.paste(Image.fromarray(annotate(cell, names, colours)), (left, top))
            caption = shortened(cell.image.file_name, cell.width, _font(15))
            draw.text((left, top + cell.height + 5), caption, FAINT, _font(15))
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
    """A number for each category in order of appearance; it is the word's colour everywhere."""
    ids = [each.category_id for image in images for each in image.annotations]
    return {category: number for number, category in enumerate(dict.fromkeys(ids))}


def palette(size: int) -> sv.ColorPalette:
    """Colours that differ as much as so many can, dark enough for white letters."""
    colours = []
    for number in range(max(size, 1)):
        hue = (0.02 + number * GOLDEN_RATIO) % 1
        rgb = np.array(colorsys.hls_to_rgb(hue, LIGHTNESS[number % len(LIGHTNESS)], 0.78))
        rgb *= min(1.0, BRIGHTEST / float(rgb @ LUMINANCE))
        colours.append(sv.Color(*(round(255 * part) for part in rgb)))
    return sv.ColorPalette(colours)


def annotate(cell: Cell, names: Sequence[str], colours: dict[int, int]) -> np.ndarray:
    """A cell's pixels, uint8 (height, width, 3) RGB, with all that the image was labelled with."""
    image = cell.image
    scale = min(cell.width / image.width, cell.height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    offset = (cell.width - size[0]) // 2, (cell.height - size[1]) // 2
    canvas = Image.new("RGB", (cell.width, cell.height), "#e3e2de")
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
    labels = [f"{names[each.category_id - 1]} {each.score or 0:.2f}" for each in annotations]
    colour = palette(len(colours))
    drawn = np.array(canvas)[:, :, ::-1].copy()
    if detections.mask is not None:
        drawn = sv.MaskAnnotator(color=colour, opacity=0.38).annotate(drawn, detections)
    drawn = sv.BoxAnnotator(color=colour, thickness=2).annotate(drawn, detections)
    drawn = sv.RichLabelAnnotator(
        color=colour,
        font_path=str(BOLD),
        font_size=14,
        text_padding=4,
        border_radius=3,
        smart_position=True,
    ).annotate(drawn, detections, labels)
    return drawn[:, :, ::-1]


def _masks(
    cell: Cell, annotations: Sequence[Annotation], size: tuple[int, int], offset: tuple[int, int]
) -> np.ndarray | None:
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


def shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The end of a text, as much of it as fits into so many pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text


def _font(size: int, path: Path = FONT) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
