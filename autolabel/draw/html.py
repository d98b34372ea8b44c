"""Pages of HTML that load nothing: their style, templates and pictures in the page itself."""

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from PIL import Image, ImageDraw

from integrations.drawing import ACCENT
from integrations.text import printable
from regionspot.boxes import Box
from regionspot.types import ImageArray

TEMPLATES = Path(__file__).parents[1] / "data"
CROP_SIDE = 240  # pixels, of the longer side
CONTEXT = 0.3  # of the box's longer side, around it
JPEG_QUALITY = 80


def render_page(template: str, filters: dict[str, Any], **content: Any) -> str:
    """A page from a template of the package.

    Args:
        template: name of its file.
        filters: further ones of the template, by name.
        content: what the template shows; names cannot change the order of what follows them.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_shown
    )
    environment.filters |= filters
    source = (TEMPLATES / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**content) + "\n"


def _shown(value: object) -> object:
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def crop_uri(image: ImageArray, box: Box) -> str:
    """A box with what surrounds it, outlined, as a JPEG in a `data:` address.

    Args:
        image: uint8 (H, W, 3) RGB.
        box: x1, y1, x2, y2 in pixels, of which a part lies in the image.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    around = CONTEXT * max(x2 - x1, y2 - y1)
    left, top = max(0, int(x1 - around)), max(0, int(y1 - around))
    right, bottom = min(width, int(x2 + around) + 1), min(height, int(y2 + around) + 1)
    crop = Image.fromarray(image[top:bottom, left:right])
    scale = CROP_SIDE / max(crop.size)
    crop = crop.resize([max(1, round(side * scale)) for side in crop.size])
    corners = [((x - left) * scale, (y - top) * scale) for x, y in ((x1, y1), (x2, y2))]
    ImageDraw.Draw(crop).rectangle(corners, outline=ACCENT, width=2)
    buffer = io.BytesIO()
    crop.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
