"""Accuracy of a head on cached features of ground-truth boxes, and calibration of presence.

Axes: M images, N regions, K classes.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from integrations.bootstrap import bootstrap_rows, percentile_interval
from regionspot.head import RegionHead
from regionspot.scoring import RegionScorer, class_scores, presence
from regionspot.types import Regions, ScoreCalibration, Vocabulary
from train.batch import LabelSpace, collate
from train.features.cache import ImageFeatures

RESAMPLES = 1000
Counts = npt.NDArray[np.float64]  # (M,) regions of each image
NO_ANCESTORS: Mapping[str, frozenset[str]] = {}


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over regions, with its 95% percentile-bootstrap interval over images.

    Attributes:
        correct: number of regions that are classified correctly; a mean over several heads has
            fractions.
        total: number of regions.
        low, high: limits of the interval in percent; None without a region.
    """

    correct: float
    total: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float:
        """In percent; NaN without a region."""
        return 100 * self.correct / self.total if self.total else math.nan

    def __str__(self) -> str:
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})" if self.total else "none"


def accuracy_of(correct: Counts, total: Counts) -> Accuracy:
    """Accuracy out of each image's number of correct regions and of regions.

    The percentile bootstrap resamples the same images in each call.
    """
    if not total.sum():
        return Accuracy(0, 0, None, None)
    with np.errstate(invalid="ignore"):  # NaN in a resample without a region
        samples = [
            100 * correct[rows].sum() / total[rows].sum()
            for rows in bootstrap_rows(len(total), RESAMPLES)
        ]
    low, high = percentile_interval(samples)
    return Accuracy(float(correct.sum()), int(total.sum()), low, high)


@torch.inference_mode()
def region_scores(
    model: RegionHead | RegionScorer,
    images: Sequence[ImageFeatures],
    vocabulary: Vocabulary,
    ancestors: Mapping[str, frozenset[str]] = NO_ANCESTORS,
) -> list[torch.Tensor]:
    """Scores (N, K) of each image's regions, -inf where the loss mask of training is False.

    Args:
        model: a scorer, or a head that scores all classes by their cosines.
        images: features of each image.
        vocabulary: of K classes; of a scorer, as it embeds them.
        ancestors: of a class, the classes that hold for its regions too.
    """
    space = LabelSpace.of(vocabulary.names, ancestors, vocabulary)
    found = []
    for image, regions in zip(images, embedded(model, images), strict=True):
        mask = space.loss_mask(image, range(len(image.names)))
        found.append(class_scores(regions, vocabulary).masked_fill(~mask, -torch.inf))
    return found


@torch.inference_mode()
def embedded(model: RegionHead | RegionScorer, images: Sequence[ImageFeatures]) -> list[Regions]:
    """The regions of each image, on the CPU."""
    head = model.head if isinstance(model, RegionScorer) else model
    found = []
    for image in images:
        rows, nothing = torch.arange(len(image.names)), dict.fromkeys(image.names, 0)
        batch = collate([image], [rows], nothing)
        logits = model.class_logits(image) if isinstance(model, RegionScorer) else None
        # Not `head.regions`: normalising twice would change the calibration in its last digits.
        found.append(Regions(batch.embed(head)[0].cpu(), class_logits=logits))
    return found


def correct_counts(
    scores: Sequence[torch.Tensor],
    images: Sequence[ImageFeatures],
    vocabulary: Vocabulary,
    k: int,
) -> Counts:
    """(M,) regions of each image whose class is among the k best, from scores (N, K) an image."""
    index = {name: column for column, name in enumerate(vocabulary.names)}
    correct = np.zeros(len(images))
    for row, (score, image) in enumerate(zip(scores, images, strict=True)):
        target = torch.tensor([index[name] for name in image.names])
        best = score.topk(min(k, len(index)), dim=-1).indices  # (N, k)
        correct[row] = (best == target[:, None]).any(1).sum()
    return correct


def region_counts(images: Sequence[ImageFeatures]) -> Counts:
    """(M,) regions of each image."""
    return np.array([len(image.names) for image in images], np.float64)


def top_k(
    scores: Sequence[torch.Tensor],
    images: Sequence[ImageFeatures],
    vocabulary: Vocabulary,
    k: int,
) -> Accuracy:
    """Top-k accuracy, from scores (N, K) an image."""
    return accuracy_of(correct_counts(scores, images, vocabulary, k), region_counts(images))


def regions_of(
    classes: Collection[str], scores: Sequence[torch.Tensor], images: Sequence[ImageFeatures]
) -> tuple[list[torch.Tensor], list[ImageFeatures]]:
    """The regions of some classes, with their scores (N, K) for all classes.

    Images without such a region are left out.
    """
    chosen_scores, chosen = [], []
    for score, image in zip(scores, images, strict=True):
        rows = [row for row, name in enumerate(image.names) if name in classes]
        if rows:
            chosen_scores.append(score[rows])
            chosen.append(image.only(rows))
    return chosen_scores, chosen


def best_presence(
    regions: Sequence[Regions],
    scores: Sequence[torch.Tensor],
    vocabulary: Vocabulary,
    calibration: ScoreCalibration,
) -> list[torch.Tensor]:
    """Presence (N,) of each region's best class, from scores (N, K) an image."""
    return [
        presence(r, s, vocabulary, calibration).gather(1, s.argmax(1, keepdim=True))[:, 0]
        for r, s in zip(regions, scores, strict=True)
    ]


def calibrate_presence(
    scores: Sequence[torch.Tensor], images: Sequence[ImageFeatures], vocabulary: Vocabulary
) -> tuple[float, float]:
    """Platt scaling on held-out images: scale and bias of a sigmoid of the best class's score.

    The sigmoid estimates the probability that the best class is correct.
    """
    index = {name: column for column, name in enumerate(vocabulary.names)}
    best = torch.cat([score.max(1).values for score in scores])
    chosen = torch.cat([score.argmax(1) for score in scores])
    target = torch.tensor([index[name] for image in images for name in image.names])
    correct = (chosen == target).float()
    platt = torch.tensor([10.0, -3.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([platt], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(platt[0] * best + platt[1], correct)
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    scale, bias = platt.tolist()
    return scale, bias
