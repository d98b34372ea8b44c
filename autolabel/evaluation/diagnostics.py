"""What explains the metrics: calibration, confusions, recall of boxes, and oracle labels.

Axes: I images, D predictions, G ground-truth annotations of one image.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autolabel.evaluation.matching import (
    AREA_NAMES,
    AREA_RANGES,
    Floats,
    Ints,
    Matches,
    PairedImages,
    score_of,
    without_crowds,
)
from autolabel.evaluation.metrics import Metric
from autolabel.evaluation.pairing import MatchImages, match_images
from integrations.annotations import Annotation, LabelledSet, area
from integrations.bootstrap import bootstrap_weights
from regionspot.boxes import as_boxes, box_iou

BINS = 10
RECALL_IOUS = (0.5, 0.75)
ORACLE_IOU = 0.5
NOT_FOUND = "not found"

# For each image: for each annotation that is no crowd, the row of its prediction, or -1.
ClassAgnosticMatches = list[list[int]]


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error and its bins (Guo et al. 2017, arXiv 1706.04599).

    Attributes:
        error: mean gap of confidence and precision over bins, weighted by their size.
        confidence, precision: (BINS,) mean of each bin; NaN where it is empty.
        count: (BINS,) predictions.
    """

    error: Metric
    confidence: Floats
    precision: Floats
    count: Ints


@dataclass(frozen=True)
class SizeRecall:
    """Class-agnostic recall of the boxes of one area range.

    Attributes:
        size: name of the area range.
        iou: threshold.
        boxes: number of ground-truth boxes.
        recall: share of them that a prediction of any class matches.
    """

    size: str
    iou: float
    boxes: int
    recall: Metric


def calibration(matches: Matches, resamples: int) -> Calibration:
    """Calibration of the predictions that are not ignored, at an IoU of 0.5."""
    counted = ~matches.ignored[:, 0, 0]
    score, image = matches.score[counted], matches.image[counted]
    right = matches.matched[counted, 0, 0].astype(np.float64)
    bins = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)

    def error(weights: Floats) -> float:
        if not weights.sum():
            return float("nan")
        gap = np.bincount(bins, weights * (score - right), BINS)
        return float(np.abs(gap).sum() / weights.sum())

    samples = [
        error(weights[image].astype(np.float64))
        for weights in bootstrap_weights(len(matches.ground_truth_counts), resamples)
    ]
    count = np.bincount(bins, minlength=BINS)
    some = np.where(count > 0, count, np.nan)
    return Calibration(
        Metric.bootstrapped("calibration error", error(np.ones(len(score))), samples),
        np.bincount(bins, score, BINS) / some,
        np.bincount(bins, right, BINS) / some,
        count,
    )


def class_agnostic_matches(pairs: PairedImages) -> dict[float, ClassAgnosticMatches]:
    """Greedy matches whatever the class, for each IoU threshold of RECALL_IOUS.

    Each prediction, best first, takes the free ground-truth box of highest IoU.
    """
    found: dict[float, ClassAgnosticMatches] = {threshold: [] for threshold in RECALL_IOUS}
    for image, predicted in zip(pairs.images, pairs.predicted, strict=True):
        labels = as_boxes([each.box for each in without_crowds(image.annotations)])
        order = sorted(range(len(predicted)), key=lambda row: -score_of(predicted[row]))
        ious = box_iou(as_boxes([predicted[row].box for row in order]), labels)  # (D, G)
        for threshold, matches in found.items():
            taken = np.full(len(labels), -1)
            for rank in np.flatnonzero((ious >= threshold).any(axis=1)) if len(labels) else ():
                free = np.where(taken < 0, ious[rank], -1)  # (G,)
                best = int(free.argmax())
                if free[best] >= threshold:
                    taken[best] = order[rank]
            matches.append(taken.tolist())
    return found


def recall_by_size(
    pairs: PairedImages, matches: dict[float, ClassAgnosticMatches], resamples: int
) -> list[SizeRecall]:
    """Class-agnostic recall for each IoU threshold and area range of the ground truth."""
    inside = []
    for image in pairs.images:
        labels = without_crowds(image.annotations)
        areas = np.array([area(each, image.width, image.height) for each in labels])
        inside.append((areas >= AREA_RANGES[:, :1]) & (areas <= AREA_RANGES[:, 1:]))  # (A, G)
    totals = np.array([each.sum(axis=1) for each in inside], np.float64)  # (I, A)
    results = []
    for threshold, matched in matches.items():
        hits = np.array(
            [
                (sizes & (np.array(rows, np.int64) >= 0)).sum(axis=1)
                for sizes, rows in zip(inside, matched, strict=True)
            ],
            np.float64,
        )  # (I, A)
        for column, size in enumerate(AREA_NAMES):
            hit, total = hits[:, column], totals[:, column]
            recall = Metric.ratio("recall", hit, total, resamples)
            results.append(SizeRecall(size, threshold, int(total.sum()), recall))
    return results


def confusions(pairs: PairedImages, matches: ClassAgnosticMatches) -> Counter[tuple[str, str]]:
    """Number of ground-truth boxes by (own class, predicted class), from matches at IoU 0.5.

    The predicted class of a box that no prediction matches is NOT_FOUND.
    """
    names = pairs.names
    found: Counter[tuple[str, str]] = Counter()
    for image, predicted, rows in zip(pairs.images, pairs.predicted, matches, strict=True):
        for label, row in zip(without_crowds(image.annotations), rows, strict=True):
            other = NOT_FOUND if row < 0 else names[predicted[row].category_id]
            found[names[label.category_id], other] += 1
    return found


def with_oracle_labels(
    ground_truth: LabelledSet, predictions: LabelledSet, by: MatchImages = "name"
) -> LabelledSet:
    """The predicted boxes and scores, each with the class of the ground truth of highest IoU.

    A box without a ground truth of an IoU of 0.5, or with a crowd's alone, is left out, as by an
    oracle classifier; one that is predicted with several classes is taken once, with its highest
    score. Metrics of these labels are an upper bound for any classifier on the same boxes. Images
    are matched as by `match_images`; those of the result have the ground truth's ids.

    Raises:
        InputError: the two have no image in common.
    """
    found = match_images(ground_truth.images, predictions.images, by).predicted
    return LabelledSet(
        ground_truth.categories,
        tuple(
            dataclasses.replace(
                image,
                annotations=_oracle_labels(image.annotations, other.annotations if other else ()),
                absent=(),
                unverified=(),
            )
            for image, other in zip(ground_truth.images, found, strict=True)
        ),
    )


def _oracle_labels(
    ground_truth: Sequence[Annotation], predicted: Sequence[Annotation]
) -> tuple[Annotation, ...]:
    labels = without_crowds(ground_truth)
    best: dict[tuple[float, ...], Annotation] = {}
    for each in without_crowds(predicted):
        kept = best.get(each.box)
        if kept is None or score_of(each) > score_of(kept):
            best[each.box] = each
    if not labels or not best:
        return ()
    ious = box_iou(as_boxes(list(best)), as_boxes([each.box for each in labels]))  # (D, G)
    return tuple(
        dataclasses.replace(each, category_id=labels[int(row.argmax())].category_id)
        for each, row in zip(best.values(), ious, strict=True)
        if row.max() >= ORACLE_IOU
    )
