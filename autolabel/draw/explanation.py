"""The page of `autolabel explain`: a row for each region, with its box, attention and words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from regionspot.boxes import FloatArray
from regionspot.types import ImageArray

PANEL_WIDTH, PANEL_HEIGHT = 560, 340
WORDS_WIDTH, WORD_HEIGHT = 380, 44
MARGIN, GAP, TITLE_HEIGHT, LINE_HEIGHT = 28, 24, 92, 26
PAPER, INK, FAINT, TRACK, ACCENT = "#f6f5f2", "#1d1d1f", "#6b6b70", "#e1dfd9", "#c8371b"
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
BOLD = FONT.with_name("DejaVuSans-Bold.ttf")
FOOTER = (
    "Attention is a diagnostic, not a proof: it shows where the head's cross-attention lay, not "
    "why a word was chosen.",
    "Mean over all layers and heads; each picture is scaled to its own brightest place; the class "
    "token is left out of it.",
)


@dataclass(frozen=True)
class Explanation:
    """What is drawn of one region.

    Attributes:
        box: (4,) float32 xyxy pixels of the image.
        words: the best words, best first, each with its share of the softmax in [0, 1].
        presence: in [0, 1], of the best word, whatever the other words are.
        attention: (h, w) weights of the map's places, the mean over layers and heads.
        class_token: share in [0, 1] of the attention that lay on the class token instead.
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
    draw.text((MARGIN, 18), title, INK, _font(22, BOLD))
    for left, heading in zip(
        (0, column, 2 * column), ("region", "attention", "best words"), strict=True
    ):
        draw.text((MARGIN + left, 58), heading, FAINT, _font(16))
    for row, each in enumerate(regions):
        top = TITLE_HEIGHT + row * row_height
        page.paste(outlined(panel, each.box * scale), (MARGIN, top))
        heated = outlined(attention_over(panel, each.attention), each.box * scale)
        page.paste(heated, (MARGIN + column, top))
        _draw_words(draw, each, MARGIN + 2 * column, top, width - MARGIN)
    for line, text in enumerate(footer):
        y = page.height - MARGIN - LINE_HEIGHT * (len(footer) - line)
        draw.text((MARGIN, y), text, INK if line == 0 else FAINT, _font(15))
    return page


def attention_over(panel: Image.Image, attention: FloatArray) -> Image.Image:
    """An image darkened where little attention lies, and lit up where much of it does.

    Args:
        attention: (h, w), not negative; scaled to its greatest value.
    """
    weights = Image.fromarray(
        np.asarray(attention / max(float(attention.max()), 1e-12), np.float32)
    )
    smooth = np.asarray(weights.resize(panel.size, Image.Resampling.BICUBIC)).clip(0, 1)
    colours = matplotlib.colormaps["inferno"](smooth)[..., :3] * 255
    grey = np.asarray(panel.convert("L"), np.float32)[..., None]
    share = 0.45 + 0.35 * smooth[..., None]
    return Image.fromarray(np.asarray(grey * (1 - share) + colours * share, np.uint8))


def outlined(panel: Image.Image, box: FloatArray) -> Image.Image:
    """A copy with an xyxy pixel box drawn on it, readable on any ground."""
    copy = panel.copy()
    draw = ImageDraw.Draw(copy)
    x1, y1, x2, y2 = (float(v) for v in box)
    corners = (x1, y1, max(x1, min(x2, copy.width - 1)), max(y1, min(y2, copy.height - 1)))
    draw.rectangle(corners, outline="white", width=5)
    draw.rectangle(
        (corners[0] + 1, corners[1] + 1, corners[2] - 1, corners[3] - 1), None, ACCENT, 3
    )
    return copy


def _draw_words(
    draw: ImageDraw.ImageDraw, region: Explanation, left: int, top: int, right: int
) -> None:
    for rank, (word, share) in enumerate(region.words):
        y = top + rank * WORD_HEIGHT
        font = _font(17, BOLD if rank == 0 else FONT)
        draw.text((left, y), shortened(word, right - left - 70, font), INK, font)
        draw.text((right, y), f"{100 * share:.1f}%", INK, font, anchor="ra")
        draw.rectangle((left, y + 26, right, y + 31), TRACK)
        if share > 0.002:
            colour = ACCENT if rank == 0 else FAINT
            draw.rectangle((left, y + 26, left + share * (right - left), y + 31), colour)
    y = top + len(region.words) * WORD_HEIGHT + 4
    said = f"presence of the best word {region.presence:.2f}"
    on_class_token = f"{100 * region.class_token:.0f}% of the attention on the class token"
    draw.text((left, y), f"{said}\n{on_class_token}", FAINT, _font(14), spacing=6)


def shortened(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """The beginning of a text, as much of it as fits into so many pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _font(size: int, path: Path = FONT) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
