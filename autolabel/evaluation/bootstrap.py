"""Figures over images drawn anew: how far a figure would move with other images of the kind.

Axes: I images, D predictions of one word, A sizes, T thresholds, R recalls.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autolabel.evaluation.matching import Matches
from autolabel.evaluation.metrics import (
    AREAS,
    COCO_LIMITS,
    LVIS_LIMITS,
    RECALLS,
    THRESHOLDS,
    Curves,
    Floats,
    figures,
)
from autolabel.evaluation.pairing import Paired

Interval = tuple[float, float]


def weighted_curves(
    matches: Matches, weights: npt.NDArray[np.int64], limits: tuple[int, ...]
) -> Curves:
    """Precision and recall where each image counts as often as its weight says.

    Args:
        weights: (I,) how often each image was drawn; ones give the plain figures.
        limits: of detections in an image and word, for recall.
    """
    words = matches.truth_counts.shape[1]
    totals = np.einsum("ika,i->ka", matches.truth_counts, weights).astype(np.float64)
    shape = (words, len(AREAS), len(THRESHOLDS))
    precision = np.where(totals[..., None] > 0, np.zeros(shape), np.nan)
    recall = np.repeat(precision[None], len(limits), axis=0)
    borders = np.searchsorted(matches.word, np.arange(words + 1))
    for word in np.flatnonzero((totals[:, 0] > 0) & (np.diff(borders) > 0)):
        rows = slice(borders[word], borders[word + 1])
        drawn = weights[matches.image[rows]]
        kept = drawn > 0
        if not kept.any():
            continue
        weight = drawn[kept, None, None]
        found, counted = matches.found[rows][kept], ~matches.ignored[rows][kept]
        right, wrong = found & counted, ~found & counted
        for index, limit in enumerate(limits):
            within = (matches.rank[rows][kept] < limit)[:, None, None]
            hits = (weight * (right & within)).sum(axis=0)
            _divide(hits, totals[word], recall[index, word])
        _precision(
            np.cumsum(weight * right, axis=0, dtype=np.float64),
            np.cumsum(weight * wrong, axis=0, dtype=np.float64),
            totals[word],
            precision[word],
        )
    return Curves(precision, recall)


def _divide(hits: npt.NDArray[np.int64], totals: Floats, out: Floats) -> None:
    """Recall (A, T) for the sizes that the truth has."""
    there = totals > 0
    out[there] = hits[there] / totals[there, None]


def _precision(right: Floats, wrong: Floats, totals: Floats, out: Floats) -> None:
    """Mean precision over the recalls, written into `out` (A, T).

    Args:
        right, wrong: (D, A, T), running sums.
        totals: (A,) true labels.
    """
    precision = right / (right + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    for size in np.flatnonzero(totals > 0):
        recall = right[:, size] / totals[size]
        for threshold in range(len(THRESHOLDS)):
            at = np.searchsorted(recall[:, threshold], RECALLS, side="left")
            reached = at[at < len(recall)]
            out[size, threshold] = envelope[reached, size, threshold].sum() / len(RECALLS)


@dataclass(frozen=True)
class Intervals:
    """The middle 95% over sets of images drawn anew.

    Attributes:
        figures: low and high by figure; NaN where no draw could measure it.
        words: (K, 2) low and high of each word's AP.
    """

    figures: dict[str, Interval]
    words: Floats


def draws_of(images: int, draws: int, seed: int = 0) -> Iterator[npt.NDArray[np.int64]]:
    """How often each of the images is drawn (I,), with replacement, for each of some draws."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(generator.integers(0, images, images), minlength=images)


def intervals(
    matches: Matches, paired: Paired, draws: int, advance: Callable[[], None] = lambda: None
) -> Intervals:
    """Intervals of each figure and word.

    Args:
        draws: how many sets of as many images.
        advance: called after each draw.
    """
    limits = LVIS_LIMITS if paired.federated else COCO_LIMITS
    samples: dict[str, list[float]] = {}
    words = np.full((draws, len(paired.categories)), np.nan)
    for row, weights in enumerate(draws_of(len(paired.images), draws)):
        curves = weighted_curves(matches, weights, limits)
        words[row] = curves.precision[:, 0].mean(axis=-1)
        for name, value in figures(curves, paired.categories, paired.federated).items():
            samples.setdefault(name, []).append(value)
        advance()
    return Intervals(
        {name: interval(values) for name, values in samples.items()},
        np.array([interval(column.tolist()) for column in words.T]).reshape(-1, 2),
    )


def interval(values: list[float]) -> Interval:
    """The middle 95% of some values, those that are NaN left out."""
    finite = np.array([value for value in values if not np.isnan(value)])
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
