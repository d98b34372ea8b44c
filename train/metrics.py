"""Figures of a trained head on cached features: given boxes, and the calibration of presence."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from regionspot.head import HeadInputs
from regionspot.scoring import class_scores, presence
from regionspot.types import Regions, ScoreCalibration, Vocabulary
from train.features.cache import ImageFeatures
from train.losses import Words

BOOTSTRAP_ROUNDS = 1000
Counts = npt.NDArray[np.float64]  # a number for each image
Embed = Callable[[Sequence[HeadInputs]], list[Regions]]
NONE_BROADER: Mapping[str, frozenset[str]] = {}


@dataclass(frozen=True)
class Accuracy:
    """Share of given boxes whose word is right, in percent, with a 95% interval over images."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})"


@torch.inference_mode()
def region_scores(
    embed: Embed,
    images: Sequence[ImageFeatures],
    vocabulary: Vocabulary,
    broader: Mapping[str, frozenset[str]] = NONE_BROADER,
) -> list[torch.Tensor]:
    """Scores (N, K) of each image's given boxes with the words.

    Those of words that do not count for a box are minus infinity, as they are no negatives in
    training: words that were not verified in its image, and words broader than its own.

    Args:
        embed: `RegionHead.regions`, or `RegionScorer.regions` for a vocabulary of its own.
        broader: as of `Dataset`.
    """
    counting = Words.among(vocabulary.names, broader, vocabulary)
    found = []
    for image in images:
        (regions,) = embed([image])
        counted = counting.counted(image, range(len(image.names)))
        found.append(class_scores(regions, vocabulary).masked_fill(~counted, -torch.inf))
    return found


def hits(
    found: Sequence[torch.Tensor],
    images: Sequence[ImageFeatures],
    vocabulary: Vocabulary,
    k: int,
) -> Counts:
    """(M,) boxes of each image whose own word is among the k best, from scores (N, K) an image."""
    words = {name: i for i, name in enumerate(vocabulary.names)}
    right = np.zeros(len(images))
    for row, (scores, image) in enumerate(zip(found, images, strict=True)):
        target = torch.tensor([words[name] for name in image.names])
        best = scores.topk(min(k, len(words)), dim=-1).indices
        right[row] = (best == target[:, None]).any(1).sum()
    return right


def share_of(right: Counts, boxes: Counts) -> Accuracy:
    """The share of boxes, out of counts (M,) of each image; drawn images are the same each time."""
    drawn = np.random.default_rng(0).integers(len(right), size=(BOOTSTRAP_ROUNDS, len(right)))
    shares = 100 * right[drawn].sum(1) / boxes[drawn].sum(1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return Accuracy(float(100 * right.sum() / boxes.sum()), float(low), float(high))


def boxes_of(
    found: Sequence[torch.Tensor], images: Sequence[ImageFeatures], words: Collection[str]
) -> tuple[list[torch.Tensor], list[ImageFeatures]]:
    """The boxes of some words alone, with their scores (N, K) with all words.

    Images without such a box are left out.
    """
    scores_of, chosen = [], []
    for scores, image in zip(found, images, strict=True):
        rows = [row for row, name in enumerate(image.names) if name in words]
        if rows:
            scores_of.append(scores[rows])
            chosen.append(image.only(rows))
    return scores_of, chosen


def top_k(
    found: Sequence[torch.Tensor],
    images: Sequence[ImageFeatures],
    vocabulary: Vocabulary,
    k: int,
) -> Accuracy:
    """Share of boxes whose own word is among the k best, from scores (N, K) an image."""
    boxes = np.array([len(image.names) for image in images], np.float64)
    return share_of(hits(found, images, vocabulary, k), boxes)


def mean_presence(
    found: Sequence[torch.Tensor], vocabulary: Vocabulary, calibration: ScoreCalibration
) -> float:
    """Mean presence of the best word, in percent, from scores (N, K) an image.

    Where presence is calibrated, it is the share of boxes whose own word is the best.
    """
    best = [
        presence(c, vocabulary, calibration).gather(1, c.argmax(1, keepdim=True)) for c in found
    ]
    return 100 * float(torch.cat(best).mean())


def calibrate_presence(
    found: Sequence[torch.Tensor], images: Sequence[ImageFeatures], vocabulary: Vocabulary
) -> tuple[float, float]:
    """Scale and bias of a sigmoid of the best word's score that says how often it is right.

    Platt's scaling on boxes that the head was not trained on.
    """
    words = {name: i for i, name in enumerate(vocabulary.names)}
    best = torch.cat([scores.max(1).values for scores in found])
    chosen = torch.cat([scores.argmax(1) for scores in found])
    target = torch.tensor([words[name] for image in images for name in image.names])
    right = (chosen == target).float()
    platt = torch.tensor([10.0, -3.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([platt], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(platt[0] * best + platt[1], right)
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    scale, bias = platt.tolist()
    return scale, bias
