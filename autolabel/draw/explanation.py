"""`autolabel explain`: a page with a row for each region, its box, cross-attention and best words.

Axes: N regions, K words, h w rows and columns of the encoder's map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from integrations.detectors import build_detector
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
from integrations.images import read_image
from integrations.vocabulary_file import read_words
from regionspot.attention import attended
from regionspot.boxes import FloatArray, as_boxes, check_boxes
from regionspot.errors import InputError
from regionspot.files import atomic_write_bytes
from regionspot.model import RegionModel, RegionSpot, load_model
from regionspot.scoring import class_probabilities, class_scores
from regionspot.scoring import presence as presence_of
from regionspot.types import ImageArray, Regions

PANEL_WIDTH, PANEL_HEIGHT = 560, 340
WORDS_WIDTH, WORD_HEIGHT = 380, 44
MARGIN, GAP, TITLE_HEIGHT, LINE_HEIGHT = 28, 24, 92, 26
ATTENTION = (
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
        attention: (h, w) cross-attention weights over the map, the mean over layers and heads; None
            of a model without a head.
        class_token: cross-attention weight of the class token, in [0, 1]; 0 likewise.
    """

    box: FloatArray
    words: tuple[tuple[str, float], ...]
    presence: float
    attention: FloatArray | None
    class_token: float


def draw_page(
    image: ImageArray, regions: Sequence[Explanation], title: str, notes: Sequence[str] = ()
) -> Image.Image:
    """The page of some regions of an image, uint8 (H, W, 3) RGB.

    Args:
        image: uint8 (H, W, 3) RGB.
        regions: one panel each.
        title: first line of the page.
        notes: lines at the bottom.
    """
    H, W, _ = image.shape
    scale = min(PANEL_WIDTH / W, PANEL_HEIGHT / H)
    size = max(1, round(W * scale)), max(1, round(H * scale))
    panel = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    row_height = max(size[1], (1 + max(len(each.words) for each in regions)) * WORD_HEIGHT) + GAP
    column = size[0] + GAP
    with_attention = any(each.attention is not None for each in regions)
    left_of_words = (2 if with_attention else 1) * column
    width = max(MARGIN * 2 + left_of_words + WORDS_WIDTH, 1040)
    height = TITLE_HEIGHT + len(regions) * row_height + len(notes) * LINE_HEIGHT + 2 * MARGIN
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    large = font(22, bold=True)
    draw.text((MARGIN, 18), shortened(title, width - 2 * MARGIN, large), INK, large)
    headings = {"region": 0, "attention": column, "best words": left_of_words}
    for heading, left in headings.items():
        if with_attention or heading != "attention":
            draw.text((MARGIN + left, 58), heading, FAINT, font(16))
    for row, each in enumerate(regions):
        top = TITLE_HEIGHT + row * row_height
        page.paste(outlined(panel, each.box * scale), (MARGIN, top))
        if each.attention is not None:
            heated = outlined(attention_over(panel, each.attention), each.box * scale)
            page.paste(heated, (MARGIN + column, top))
        _draw_words(draw, each, MARGIN + left_of_words, top, width - MARGIN)
    for line, text in enumerate(notes):
        y = page.height - MARGIN - LINE_HEIGHT * (len(notes) - line)
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
    if region.attention is not None:
        share = f"{100 * region.class_token:.0f}% of the attention on the class token"
        presence = f"{presence}\n{share}"
    draw.text((left, y), presence, FAINT, font(14), spacing=6)


BEST_WORDS = 5
PROPOSED_BOXES = 6
POOLED = "This model also reads features pooled inside the box, which no picture here shows."


def explain(
    image_path: Path,
    vocab: Path,
    out: Path,
    boxes: Sequence[str] = (),
    model: str = "mini",
    device: str = "auto",
    checkpoint: Path | None = None,
) -> list[Explanation]:
    """Draw the page of an image and write it as PNG.

    Args:
        image_path: of the image.
        vocab: vocabulary file.
        out: PNG to write.
        boxes: `x1,y1,x2,y2` in pixels of the upright image; without any, the detector's best.
        model: name, as of `load_model`.
        device: `auto`, `cpu` or `cuda`.
        checkpoint: the trained head; by default the model's own.

    Raises:
        InputError: an image, words, boxes or a model that cannot be used, or no box was found.
    """
    listed = read_words(vocab)
    if any(listed.examples):
        raise InputError(f"{vocab}: explain takes words of text alone; leave out the examples (@)")
    words = listed.as_mapping()
    image = read_image(image_path)
    given = parse_boxes(boxes)
    check_boxes(given, image.shape[1], image.shape[0])
    if out.suffix.lower() != ".png":
        raise InputError(f"--out must name a .png file, got {out}")
    loaded = load_model(model, device, checkpoint)
    chosen = given if len(given) else proposed_boxes(loaded, image, listed.strings)
    explained = explain_regions(loaded, image, chosen, words)
    title = f"{image_path.name}  ·  {model}, {len(words)} words"
    page = draw_page(image, explained, title, _notes(loaded))
    with atomic_write_bytes(out) as file:
        page.save(file, "PNG")
    return explained


def no_attention(model: str) -> str:
    """Why the page of a model, by name, shows no attention."""
    return f"{model} has no trained head, so there is no attention to draw"


def _notes(model: RegionModel) -> tuple[str, ...]:
    """What a reader of the page has to know of a model's attention."""
    if not isinstance(model, RegionSpot):
        return (f"{no_attention(model.config.name)}.",)
    return (*ATTENTION, POOLED) if model.config.head.pooled_width else ATTENTION


def parse_boxes(texts: Sequence[str]) -> FloatArray:
    """Boxes (N, 4) out of `x1,y1,x2,y2` each.

    Raises:
        InputError: not four numbers.
    """
    rows = []
    for text in texts:
        try:
            row = [float(part) for part in text.split(",")]
        except ValueError:
            row = []
        if len(row) != 4:
            raise InputError(f"--box must be x1,y1,x2,y2 in pixels, got {text!r}")
        rows.append(row)
    return as_boxes(rows)


def proposed_boxes(model: RegionModel, image: ImageArray, words: Sequence[str]) -> FloatArray:
    """The detector's PROPOSED_BOXES best boxes (N, 4).

    Raises:
        InputError: it found none.
    """
    detector = build_detector(
        model.config.detector,
        sam=lambda: model.localizer.sam,
        device=model.device,
        words=words,
        runtime=model.runtime,
    )
    boxes = detector.detect(image).boxes[:PROPOSED_BOXES]
    if not len(boxes):
        raise InputError("the detector found no box in the image; give one with --box x1,y1,x2,y2")
    return boxes


def explain_regions(
    model: RegionModel, image: ImageArray, boxes: FloatArray, words: dict[str, list[str]]
) -> list[Explanation]:
    """What there is to draw of each box (N, 4) of an image, uint8 (H, W, 3) RGB.

    Raises:
        InputError: words or boxes that cannot be used.
    """
    vocabulary = model.vocabulary(words)
    regions, maps, class_token = _attended(model, image, boxes)
    scores = class_scores(regions, vocabulary)  # (N, K)
    probabilities = class_probabilities(scores, model.calibration)
    best, order = probabilities.topk(min(BEST_WORDS, len(vocabulary)))
    present = presence_of(regions, scores, vocabulary, model.calibration)  # (N, K)
    return [
        Explanation(
            box=box,
            words=tuple(
                (vocabulary.names[i], float(p)) for i, p in zip(order[row], best[row], strict=True)
            ),
            presence=float(present[row, order[row, 0]]),
            attention=maps[row],
            class_token=float(class_token[row]),
        )
        for row, box in enumerate(boxes)
    ]


def _attended(
    model: RegionModel, image: ImageArray, boxes: FloatArray
) -> tuple[Regions, Sequence[FloatArray | None], FloatArray]:
    """The regions, the attention (h, w) of each, and its weight on the class token (N,)."""
    if isinstance(model, RegionSpot):
        regions, attention = attended(model, image, boxes)
        maps, class_token = attention.mean()
        return regions, list(maps), class_token
    (regions,) = model.regions([image], [boxes])
    return regions, [None] * len(boxes), np.zeros(len(boxes), np.float32)
