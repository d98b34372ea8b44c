"""Classes that a few example regions stand for, with or without words of their own.

Each class has two prototypes (Snell et al. 2017, "Prototypical networks for few-shot learning",
arXiv 1703.05175): the mean of its examples' region embeddings and that of the logits of the
encoder's own classifier, each L2-normalised before and after. Their cosines are added to the score
of the class's text, whose weight falls with the number of examples (shrinkage).

Axes: N regions, n examples of one class, K classes, D text width, M classes of the encoder's own
classifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from regionspot.boxes import FloatArray
from regionspot.errors import InputError
from regionspot.types import ExampleClasses, ImageArray, Regions

# With t = n / (n + HALF) for n examples, each weight is (at t = 0, its change up to t = 1). Fitted
# by least log loss on images of coco_train with a head that was trained without the classes.
HALF = 3.0
TEXT_WEIGHT = 0.90, -0.60
EMBEDDING_WEIGHT = 0.10, 1.00
LOGITS_WEIGHT, LOGITS_WEIGHT_WITHOUT_TEXT = (0.18, 0.26), (0.32, 0.19)
BIAS, BIAS_WITHOUT_TEXT = (0.12, -0.75), (0.33, -0.96)


@dataclass(frozen=True)
class Examples:
    """Boxes that show a class.

    Attributes:
        images: uint8 (H, W, 3) RGB each.
        boxes: for each image, float32 (n, 4) xyxy pixels.
        strings: texts that stand for the class, too; empty: it has none, and its name is no text.
    """

    images: Sequence[ImageArray]
    boxes: Sequence[FloatArray]
    strings: Sequence[str] = ()


@dataclass(frozen=True)
class ExampleRegions:
    """As `Examples`, of regions that the model has computed already.

    Attributes:
        regions: of some images; each row is an example.
        strings: texts that stand for the class, too.
    """

    regions: Sequence[Regions]
    strings: Sequence[str] = ()


def example_classes(
    groups: Sequence[ExampleRegions | None], names: Sequence[str], width: int
) -> ExampleClasses:
    """The prototypes and weights of the classes of a vocabulary.

    Args:
        groups: the examples of each of K classes; None: text alone scores it.
        names: of the classes, for messages.
        width: D, of region embeddings.

    Raises:
        InputError: a class has no example, or its regions are those of another model.
    """
    logits_width = max(
        (
            each.class_logits.shape[-1]
            for group in groups
            if group
            for each in group.regions
            if each.class_logits is not None
        ),
        default=0,
    )
    text_weight = torch.ones(len(groups))
    embedding, logits = torch.zeros(len(groups), width), torch.zeros(len(groups), logits_width)
    bias = torch.zeros(len(groups))
    for k, (group, name) in enumerate(zip(groups, names, strict=True)):
        if group is None:
            continue
        count = sum(len(each.embedding) for each in group.regions)
        if not count:
            raise InputError(f"{name!r} must have at least one example box, got none")
        if any(each.embedding.shape[-1] != width for each in group.regions):
            raise InputError(f"the examples of {name!r} are regions of another model")
        t = count / (count + HALF)
        text_weight[k] = _at(TEXT_WEIGHT, t) if group.strings else 0.0
        embedding[k] = _at(EMBEDDING_WEIGHT, t) * _prototype(
            [each.embedding for each in group.regions]
        )
        found = [each.class_logits for each in group.regions if each.class_logits is not None]
        if found:
            logits_weight = LOGITS_WEIGHT if group.strings else LOGITS_WEIGHT_WITHOUT_TEXT
            logits[k] = _at(logits_weight, t) * _prototype(found)
        bias[k] = _at(BIAS if group.strings else BIAS_WITHOUT_TEXT, t)
    return ExampleClasses(text_weight, embedding, logits, bias)


def add_examples(
    scores: torch.Tensor,
    embedding: torch.Tensor,
    class_logits: torch.Tensor | None,
    classes: ExampleClasses,
) -> torch.Tensor:
    """Scores (N, K) of text and examples, from those of the text alone.

    Args:
        scores: (N, K) of the text.
        embedding: (N, D) L2-normalised.
        class_logits: (N, M); None where the model has none.
        classes: of the vocabulary.
    """
    device = scores.device
    added = embedding @ classes.embedding.to(device).T + classes.bias.to(device)  # (N, K)
    if class_logits is not None and classes.logits.shape[-1]:
        added = added + F.normalize(class_logits.float(), dim=-1) @ classes.logits.to(device).T
    return classes.text_weight.to(device) * scores + added


def _at(weight: tuple[float, float], t: float) -> float:
    start, change = weight
    return start + change * t


def _prototype(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """The normalised mean (D,) of normalised rows (n, D)."""
    return F.normalize(F.normalize(torch.cat(list(rows)).float(), dim=-1).mean(0), dim=0)
