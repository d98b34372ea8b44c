"""`autolabel explain`: the cross-attention and the best words of each region of an image.

Axes: N regions, K words, h w rows and columns of the encoder's map.
"""

from collections.abc import Sequence
from pathlib import Path

from autolabel.draw.explanation import Explanation, draw_page
from integrations.detectors import build_detector
from integrations.images import read_image
from integrations.vocabulary_file import read_words
from regionspot.attention import attended
from regionspot.boxes import FloatArray, as_boxes, check_boxes
from regionspot.errors import InputError
from regionspot.files import atomic_write_bytes
from regionspot.model import RegionSpot, load_model
from regionspot.scoring import class_probabilities, class_scores
from regionspot.scoring import presence as presence_of
from regionspot.types import ImageArray

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
        model: name of a preset.
        device: `auto`, `cpu` or `cuda`.
        checkpoint: the trained head; by default the model's own.

    Raises:
        InputError: an image, words, boxes or a model that cannot be used, or no box was found.
    """
    words = read_words(vocab).as_mapping()
    image = read_image(image_path)
    given = parse_boxes(boxes)
    check_boxes(given, image.shape[1], image.shape[0])
    if out.suffix.lower() != ".png":
        raise InputError(f"--out must name a .png file, got {out}")
    loaded = load_model(model, device, checkpoint)
    chosen = given if len(given) else proposed_boxes(loaded, image)
    explained = explain_regions(loaded, image, chosen, words)
    title = f"{image_path.name}  ·  {model}, {len(words)} words"
    page = draw_page(image, explained, title, (POOLED,) if loaded.config.head.pooled_width else ())
    with atomic_write_bytes(out) as file:
        page.save(file, "PNG")
    return explained


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


def proposed_boxes(model: RegionSpot, image: ImageArray) -> FloatArray:
    """The detector's PROPOSED_BOXES best boxes (N, 4).

    Raises:
        InputError: it found none.
    """
    detector = build_detector(
        model.config.detector, sam=model.localizer.sam, device=model.device, max_boxes=100
    )
    boxes = detector.detect(image).boxes[:PROPOSED_BOXES]
    if not len(boxes):
        raise InputError("the detector found no box in the image; give one with --box x1,y1,x2,y2")
    return boxes


def explain_regions(
    model: RegionSpot, image: ImageArray, boxes: FloatArray, words: dict[str, list[str]]
) -> list[Explanation]:
    """What there is to draw of each box (N, 4) of an image, uint8 (H, W, 3) RGB.

    Raises:
        InputError: words or boxes that cannot be used.
    """
    vocabulary = model.vocabulary(words)
    regions, attention = attended(model, image, boxes)
    scores = class_scores(regions, vocabulary)  # (N, K)
    probabilities = class_probabilities(scores, model.calibration)
    best, order = probabilities.topk(min(BEST_WORDS, len(vocabulary)))
    present = presence_of(scores, vocabulary, model.calibration).gather(1, order[:, :1])[:, 0]
    maps, class_token = attention.mean()
    return [
        Explanation(
            box=box,
            words=tuple(
                (vocabulary.names[i], float(p)) for i, p in zip(order[row], best[row], strict=True)
            ),
            presence=float(present[row]),
            attention=maps[row],
            class_token=float(class_token[row]),
        )
        for row, box in enumerate(boxes)
    ]
