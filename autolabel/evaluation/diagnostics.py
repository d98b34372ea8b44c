"""What stands behind the figures: calibration, confused words, and boxes that were not found.

Axes: D predictions, G true labels, I images.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autolabel.evaluation.bootstrap import Interval, draws_of, interval
from autolabel.evaluation.matching import Matches
from autolabel.evaluation.metrics import AREAS, SIZES, Floats
from autolabel.evaluation.pairing import Paired, score_of
from integrations.annotations import area
from regionspot.boxes import as_boxes, box_iou

BINS = 10
RECALL_IOUS = (0.5, 0.75)
MISSED = "not found"


@dataclass(frozen=True)
class Calibration:
    """Whether a confidence is the share that is right (Guo et al. 2017, arXiv 1706.04599).

    Attributes:
        error: mean distance of confidence and share that is right, each bin by its size.
        interval: of the error.
        confidence, right: (BINS,) mean of each bin; NaN where it is empty.
        count: (BINS,) predictions.
    """

    error: float
    interval: Interval
    confidence: Floats
    right: Floats
    count: npt.NDArray[np.int64]


@dataclass(frozen=True)
class SizeRecall:
    """Share of the true boxes of a size that any prediction covers, whatever its word."""

    size: str
    iou: float
    boxes: int
    recall: float
    interval: Interval


def calibration(matches: Matches, draws: int) -> Calibration:
    """Of the predictions that count at an IoU of 0.5."""
    counted = ~matches.ignored[:, 0, 0]
    score, image = matches.score[counted], matches.image[counted]
    right = matches.found[counted, 0, 0].astype(np.float64)
    bins = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    images = len(matches.truth_counts)
    errors = [
        _calibration_error(bins, score, right, weights[image].astype(np.float64))
        for weights in draws_of(images, draws)
    ]
    ones = np.ones(len(score))
    count = np.bincount(bins, minlength=BINS)
    some = np.where(count > 0, count, np.nan)
    return Calibration(
        _calibration_error(bins, score, right, ones),
        interval(errors),
        np.bincount(bins, score, BINS) / some,
        np.bincount(bins, right, BINS) / some,
        count,
    )


def _calibration_error(
    bins: npt.NDArray[np.int64], score: Floats, right: Floats, weights: Floats
) -> float:
    if not weights.sum():
        return float("nan")
    gap = np.bincount(bins, weights * (score - right), BINS)
    return float(np.abs(gap).sum() / weights.sum())


def recall_by_size(paired: Paired, draws: int) -> list[SizeRecall]:
    """Recall of the predicted boxes, whatever their words, by the size of what was to be found."""
    images = len(paired.images)
    results = []
    for threshold in RECALL_IOUS:
        totals = np.zeros((images, len(SIZES)))
        hits = np.zeros((images, len(SIZES)))
        for row, (image, found) in enumerate(
            zip(paired.images, _pairs(paired, threshold), strict=True)
        ):
            truth = [each for each in image.annotations if not each.is_crowd]
            areas = np.array([area(each, image.width, image.height) for each in truth])
            inside = (areas >= AREAS[:, :1]) & (areas <= AREAS[:, 1:])
            covered = np.zeros(len(truth), np.bool_)
            covered[[index for index, predicted in found if predicted >= 0]] = True
            totals[row] = inside.sum(axis=1)
            hits[row] = (inside & covered).sum(axis=1)
        weights = np.array(list(draws_of(images, draws))).reshape(-1, images)
        with np.errstate(invalid="ignore"):
            drawn = (weights @ hits) / (weights @ totals)
            whole = hits.sum(axis=0) / totals.sum(axis=0)
        for column, size in enumerate(SIZES):
            results.append(
                SizeRecall(
                    size,
                    threshold,
                    int(totals[:, column].sum()),
                    float(whole[column]),
                    interval(drawn[:, column].tolist()),
                )
            )
    return results


def confusions(paired: Paired) -> Counter[tuple[str, str]]:
    """How often a true word got a predicted word, over boxes that overlap by 0.5 or more.

    Each prediction, best first, takes the free true box that it overlaps most. A true box that
    none takes got the word MISSED.
    """
    names = {category.id: category.name for category in paired.categories}
    found: Counter[tuple[str, str]] = Counter()
    for image, predicted, pairs in zip(
        paired.images, paired.predicted, _pairs(paired, 0.5), strict=True
    ):
        truth = [each for each in image.annotations if not each.is_crowd]
        for index, other in pairs:
            word = MISSED if other < 0 else names[predicted[other].category_id]
            found[names[truth[index].category_id], word] += 1
    return found


def _pairs(paired: Paired, threshold: float) -> list[list[tuple[int, int]]]:
    """For each image: each true box that is no crowd, and the prediction that takes it, or -1."""
    results = []
    for image, predicted in zip(paired.images, paired.predicted, strict=True):
        truth = as_boxes([each.box for each in image.annotations if not each.is_crowd])
        order = sorted(range(len(predicted)), key=lambda row: -score_of(predicted[row]))
        overlaps = box_iou(as_boxes([predicted[row].box for row in order]), truth)
        taken = np.full(len(truth), -1)
        for rank in np.flatnonzero((overlaps >= threshold).any(axis=1)) if len(truth) else ():
            free = np.where(taken < 0, overlaps[rank], -1)
            best = int(free.argmax())
            if free[best] >= threshold:
                taken[best] = order[rank]
        results.append([(index, int(each)) for index, each in enumerate(taken)])
    return results
