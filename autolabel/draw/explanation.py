"""The page of `autolabel explain`: a row for each region, with its box, attention and words."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from integrations.drawing import (
    ACCENT,
    FAINT,
    INK,
    PAPER,
    TRACK,
    attention_over,
    font,
    outlined,
    shortened,
)
from regionspot.boxes import FloatArray
from regionspot.types import ImageArray

PANEL_WIDTH, PANEL_HEIGHT = 560, 340
WORDS_WIDTH, WORD_HEIGHT = 380, 44
MARGIN, GAP, TITLE_HEIGHT, LINE_HEIGHT = 28, 24, 92, 26
FOOTER = (
    "Attention is a diagnostic, not a proof: it shows where the head's cross-attention lay, not "
    "why a word was chosen.",
    "Mean over all layers and heads; each picture is scaled to its own brightest place; the class "
    "token is left out of it.",
)


@dataclass(frozen=True)
class Explanation:
    """One region of the page.

    Attributes:
        box: (4,) float32 xyxy pixels of the image.
        words: the best words, best first, each with its softmax probability.
        presence: of the best word, in [0, 1]; does not depend on the other words.
        attention: (h, w) cross-attention weights over the map, the mean over layers and heads.
        class_token: cross-attention weight of the class token, in [0, 1].
    """

    box: FloatArray
    words: tuple[tuple[str, float], ...]
    presence: float
    attention: FloatArray
    class_token: float


def draw_page(
    image: ImageArray, regions: Sequence[Explanation], title: str, notes: Sequence[str] = ()
) -> Image.Image:
    """The page of some regions of an image, uint8 (H, W, 3) RGB.

    Args:
        image: uint8 (H, W, 3) RGB.
        regions: one panel each.
        title: first line of the page.
        notes: lines that are added at the bottom.
    """
    H, W, _ = image.shape
    scale = min(PANEL_WIDTH / W, PANEL_HEIGHT / H)
    size = max(1, round(W * scale)), max(1, round(H * scale))
    panel = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    row_height = max(size[1], (1 + max(len(each.words) for each in regions)) * WORD_HEIGHT) + GAP
    column = size[0] + GAP
    footer = (*FOOTER, *notes)
    width = max(MARGIN * 2 + 2 * column + WORDS_WIDTH, 1040)
    height = TITLE_HEIGHT + len(regions) * row_height + len(footer) * LINE_HEIGHT + 2 * MARGIN
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, 18), title, INK, font(22, bold=True))
    for left, heading in zip(
        (0, column, 2 * column), ("region", "attention", "best words"), strict=True
    ):
        draw.text((MARGIN + left, 58), heading, FAINT, font(16))
    for row, each in enumerate(regions):
        top = TITLE_HEIGHT + row * row_height
        page.paste(outlined(panel, each.box * scale), (MARGIN, top))
        heated = outlined(attention_over(panel, each.attention), each.box * scale)
        page.paste(heated, (MARGIN + column, top))
        _draw_words(draw, each, MARGIN + 2 * column, top, width - MARGIN)
    for line, text in enumerate(footer):
        y = page.height - MARGIN - LINE_HEIGHT * (len(footer) - line)
        draw.text((MARGIN, y), text, INK if line == 0 else FAINT, font(15))
    return page


def _draw_words(
    draw: ImageDraw.ImageDraw, region: Explanation, left: int, top: int, right: int
) -> None:
    for rank, (word, probability) in enumerate(region.words):
        y = top + rank * WORD_HEIGHT
        letters = font(17, bold=rank == 0)
        draw.text((left, y), shortened(word, right - left - 70, letters), INK, letters)
        draw.text((right, y), f"{100 * probability:.1f}%", INK, letters, anchor="ra")
        draw.rectangle((left, y + 26, right, y + 31), TRACK)
        if probability > 0.002:
            colour = ACCENT if rank == 0 else FAINT
            draw.rectangle((left, y + 26, left + probability * (right - left), y + 31), colour)
    y = top + len(region.words) * WORD_HEIGHT + 4
    presence = f"presence of the best word {region.presence:.2f}"
    on_class_token = f"{100 * region.class_token:.0f}% of the attention on the class token"
    draw.text((left, y), f"{presence}\n{on_class_token}", FAINT, font(14), spacing=6)
