"""The style of all pictures: colours, fonts, shortened names, boxes, and attention over an image.

Axes: h w rows and columns of an attention map.
"""

import colorsys
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from integrations.text import printable
from regionspot.boxes import FloatArray

PAPER, EMPTY, TRACK, INK, FAINT, ACCENT = (
    "#f6f5f2",
    "#e3e2de",
    "#e1dfd9",
    "#1d1d1f",
    "#77777c",
    "#c8371b",
)
REGULAR = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
BOLD = REGULAR.with_name("DejaVuSans-Bold.ttf")

# Hues that follow one another by the golden ratio never come close; green and yellow look brighter
# than they are, and are darkened to what white letters can be read on.
GOLDEN_RATIO, LIGHTNESS, SATURATION = 0.618034, (0.40, 0.33, 0.46), 0.78
LUMINANCE, BRIGHTEST = np.array([0.30, 0.59, 0.11]), 0.40


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of all pictures, in a size in pixels."""
    return ImageFont.truetype(BOLD if bold else REGULAR, size)


def shortened(text: str, width: float, font: ImageFont.FreeTypeFont, keep_end: bool = False) -> str:
    """The beginning of a text, or its end, as much of it as fits into `width` pixels.

    What is in one line and can be printed: see `printable`.
    """
    shown = text = printable(text)
    while text and font.getlength(shown) > width:
        text = text[1:] if keep_end else text[:-1]
        shown = f"…{text}" if keep_end else f"{text}…"
    return shown


def distinct_colours(size: int) -> list[tuple[int, int, int]]:
    """RGB colours that differ as much as so many can, dark enough for white letters."""
    colours = []
    for number in range(size):
        hue = (0.02 + number * GOLDEN_RATIO) % 1
        lightness = LIGHTNESS[number % len(LIGHTNESS)]
        rgb = np.array(colorsys.hls_to_rgb(hue, lightness, SATURATION))
        rgb *= min(1.0, BRIGHTEST / float(rgb @ LUMINANCE))
        red, green, blue = (round(255 * part) for part in rgb.tolist())
        colours.append((red, green, blue))
    return colours


def attention_over(panel: Image.Image, attention: FloatArray) -> Image.Image:
    """An image under the heat map of an attention map; dark where little attention is.

    Args:
        panel: RGB picture of the image.
        attention: (h, w), not negative; scaled to its maximum.
    """
    scaled = np.asarray(attention / max(float(attention.max()), 1e-12), np.float32)
    heat = Image.fromarray(scaled).resize(panel.size, Image.Resampling.BICUBIC)
    smooth = np.asarray(heat).clip(0, 1)  # (H, W) of the panel
    colours = matplotlib.colormaps["inferno"](smooth)[..., :3] * 255
    grey = np.asarray(panel.convert("L"), np.float32)[..., None]
    alpha = 0.45 + 0.35 * smooth[..., None]
    return Image.fromarray(np.asarray(grey * (1 - alpha) + colours * alpha, np.uint8))


def outlined(panel: Image.Image, box: FloatArray) -> Image.Image:
    """A copy with a box (4,), xyxy pixels of the panel, drawn so that any background shows it."""
    copy = panel.copy()
    draw = ImageDraw.Draw(copy)
    x1, y1, x2, y2 = (float(v) for v in box)
    x2, y2 = max(x1, min(x2, copy.width - 1)), max(y1, min(y2, copy.height - 1))
    draw.rectangle((x1, y1, x2, y2), outline="white", width=5)
    draw.rectangle((x1 + 1, y1 + 1, x2 - 1, y2 - 1), outline=ACCENT, width=3)
    return copy
