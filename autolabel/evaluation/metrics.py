"""COCO's and LVIS's metrics, with bootstrap intervals from matches, or by faster-coco-eval alone.

faster-coco-eval matches and accumulates in C++. Axes: I images, D predictions of one class, K
classes, A area ranges, T IoU thresholds, R recall levels, M limits of detections.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autolabel.evaluation.matching import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    Floats,
    Ints,
    IouType,
    Matches,
    PairedImages,
    of_type,
    score_of,
    shapes_of,
)
from integrations.annotations import Annotation, Category, LabelledImage, area, uncollected
from integrations.bootstrap import bootstrap_weights, percentile_interval

RECALL_LEVELS = np.linspace(0, 1, 101)
Record = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """A value in [0, 1] with its 95% percentile-bootstrap interval over images.

    Attributes:
        value: NaN where the ground truth has nothing to measure it with.
        low, high: bounds of the interval; NaN where no resample could measure it.
    """

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def bootstrapped(cls, name: str, value: float, samples: Sequence[float]) -> "Metric":
        """A metric with the interval of its values in bootstrap resamples; NaN are left out."""
        return cls(name, value, *percentile_interval(samples))

    @classmethod
    def ratio(cls, name: str, hits: Floats, totals: Floats, resamples: int) -> "Metric":
        """Ratio of two counts (I,) of each image, each summed over images."""

        def over(weights: Ints) -> float:
            total = float(weights @ totals)
            return float(weights @ hits) / total if total else math.nan

        samples = [over(weights) for weights in bootstrap_weights(len(totals), resamples)]
        return cls.bootstrapped(name, over(np.ones(len(totals), np.int64)), samples)


@dataclass(frozen=True)
class PrecisionRecall:
    """Mean precision and recall of each class; NaN where the ground truth has none of it.

    Attributes:
        precision: (K, A, T) mean over 101 recall levels, with the highest limit of detections.
        recall: (M, K, A, T) with each limit of detections.
    """

    precision: Floats
    recall: Floats


def accumulate(matches: Matches, weights: Ints, limits: tuple[int, ...]) -> PrecisionRecall:
    """COCO's accumulation, with each image repeated as often as its weight says.

    Args:
        matches: of all images.
        weights: (I,) how often an image counts; ones give the plain values.
        limits: of detections of an image and class, for recall.
    """
    classes = matches.ground_truth_counts.shape[1]
    totals = np.einsum("ika,i->ka", matches.ground_truth_counts, weights).astype(np.float64)
    shape = (classes, len(AREA_RANGES), len(IOU_THRESHOLDS))
    precision = np.where(totals[..., None] > 0, np.zeros(shape), np.nan)
    recall = np.repeat(precision[None], len(limits), axis=0)
    borders = np.searchsorted(matches.category, np.arange(classes + 1))
    for row in np.flatnonzero((totals[:, 0] > 0) & (np.diff(borders) > 0)):
        part = slice(borders[row], borders[row + 1])
        repeats = weights[matches.image[part]]
        kept = repeats > 0
        if not kept.any():
            continue
        weight = repeats[kept, None, None]  # (D, 1, 1)
        matched, counted = matches.matched[part][kept], ~matches.ignored[part][kept]
        true_positive, false_positive = matched & counted, ~matched & counted  # (D, A, T)
        there = totals[row] > 0  # (A,)
        for index, limit in enumerate(limits):
            within = (matches.rank[part][kept] < limit)[:, None, None]
            hits = (weight * (true_positive & within)).sum(axis=0)  # (A, T)
            recall[index, row, there] = hits[there] / totals[row, there, None]
        _mean_precision(
            np.cumsum(weight * true_positive, axis=0, dtype=np.float64),
            np.cumsum(weight * false_positive, axis=0, dtype=np.float64),
            totals[row],
            precision[row],
        )
    return PrecisionRecall(precision, recall)


def _mean_precision(
    true_positives: Floats, false_positives: Floats, totals: Floats, out: Floats
) -> None:
    """Interpolated precision, averaged over recall levels, written into `out` (A, T).

    Args:
        true_positives: (D, A, T), cumulative by descending score.
        false_positives: (D, A, T), likewise.
        totals: (A,) ground-truth annotations.
        out: (A, T), written to.
    """
    precision = true_positives / (true_positives + false_positives + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]  # (D, A, T)
    for size in np.flatnonzero(totals > 0):
        recall = true_positives[:, size] / totals[size]  # (D, T)
        for threshold in range(len(IOU_THRESHOLDS)):
            at = np.searchsorted(recall[:, threshold], RECALL_LEVELS, side="left")
            reached = at[at < len(recall)]
            out[size, threshold] = envelope[reached, size, threshold].sum() / len(RECALL_LEVELS)


def summarize(
    found: PrecisionRecall, categories: tuple[Category, ...], federated: bool
) -> dict[str, float]:
    """Metrics by name, in [0, 1]; NaN where the ground truth has nothing to measure one with.

    AP, AP50, AP75 and AP_s, AP_m, AP_l (by area); for LVIS AP_r, AP_c, AP_f (rare, common and
    frequent classes). AR is the recall with the highest limit of detections, AR1 and AR10 with that
    many of an image and class.
    """
    precision, recall = found.precision, found.recall
    metrics = {
        "AP": _mean(precision[:, 0]),
        "AP50": _mean(precision[:, 0, 0]),
        "AP75": _mean(precision[:, 0, 5]),
        "AP_s": _mean(precision[:, 1]),
        "AP_m": _mean(precision[:, 2]),
        "AP_l": _mean(precision[:, 3]),
    }
    if federated:
        frequency = np.array([category.frequency or "" for category in categories])
        for each in "rcf":
            metrics[f"AP_{each}"] = _mean(precision[frequency == each, 0])
    else:
        metrics["AR1"] = _mean(recall[0, :, 0])
        metrics["AR10"] = _mean(recall[1, :, 0])
    metrics["AR"] = _mean(recall[-1, :, 0])
    for index, size in enumerate("sml", start=1):
        metrics[f"AR_{size}"] = _mean(recall[-1, :, index])
    return metrics


def _mean(values: Floats) -> float:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return float(np.nanmean(values))


def bootstrap(matches: Matches, pairs: PairedImages, resamples: int) -> Iterator[PrecisionRecall]:
    """Precision and recall in each of the resamples of the images."""
    for weights in bootstrap_weights(len(pairs.images), resamples):
        yield accumulate(matches, weights, pairs.detection_limits)


@uncollected()
def evaluate_coco(
    pairs: PairedImages, iou_type: IouType, limits: Sequence[int] = ()
) -> PrecisionRecall:
    """Precision and recall of each class, as pycocotools or the `lvis` package find them.

    Args:
        pairs: images, ground truth and predictions.
        iou_type: `bbox`, or `segm` for masks; annotations without a mask are left out then.
        limits: of detections of an image and class, ascending; empty: those of the pairs.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    quiet = {"print_function": lambda *_: None}
    ground_truth = COCO(coco_ground_truth(pairs, iou_type), **quiet)
    results = ground_truth.loadRes(coco_results(pairs, iou_type))
    evaluation = COCOeval_faster(
        ground_truth, results, iou_type, lvis_style=pairs.federated, **quiet
    )
    evaluation.params.maxDets = list(limits or pairs.detection_limits)
    evaluation.evaluate()
    evaluation.accumulate()
    # The evaluator orders classes by id; -1 marks those that the ground truth has none of.
    order = np.argsort(np.argsort([category.id for category in pairs.categories]))
    precision = np.asarray(evaluation.eval["precision"], np.float64)  # (T, R, K, A, M)
    recall = np.asarray(evaluation.eval["recall"], np.float64)  # (T, K, A, M)
    mean = precision[..., -1].mean(axis=1).transpose(1, 2, 0)[order]  # (K, A, T)
    recall = recall.transpose(3, 1, 2, 0)[:, order]  # (M, K, A, T)
    return PrecisionRecall(*(np.where(each < 0, np.nan, each) for each in (mean, recall)))


def coco_ground_truth(pairs: PairedImages, iou_type: IouType) -> Record:
    """The ground truth as a COCO or LVIS file's content. Annotations are numbered from 1."""
    annotations = [
        {"area": area(each, image.width, image.height), "ignore": 0}
        | {"iscrowd": int(each.is_crowd and not pairs.federated)}
        | record
        for image in pairs.images
        for each, record in _records(image, image.annotations, iou_type)
    ]
    return {
        "images": [
            {
                "id": image.id,
                "width": image.width,
                "height": image.height,
                "neg_category_ids": list(image.absent),
                "not_exhaustive_category_ids": list(image.unverified),
            }
            for image in pairs.images
        ],
        "annotations": [{"id": row} | each for row, each in enumerate(annotations, start=1)],
        "categories": [
            {"id": each.id, "name": each.name, "frequency": each.frequency or "f"}
            for each in pairs.categories
        ],
    }


def coco_results(pairs: PairedImages, iou_type: IouType) -> list[Record]:
    """The predictions as a list of COCO results."""
    return [
        record | {"score": score_of(each)}
        for image, predicted in zip(pairs.images, pairs.predicted, strict=True)
        for each, record in _records(image, predicted, iou_type)
    ]


def _records(
    image: LabelledImage, annotations: Sequence[Annotation], iou_type: IouType
) -> list[tuple[Annotation, Record]]:
    """Annotations of an image with the record of each.

    A record has a box or a mask: of one with both, evaluators would take the area of the box.
    """
    kept = of_type(annotations, iou_type)
    shapes = shapes_of(kept, image, iou_type)
    values = shapes.tolist() if isinstance(shapes, np.ndarray) else shapes
    key = {"bbox": "bbox", "segm": "segmentation"}[iou_type]
    return [
        (each, {"image_id": image.id, "category_id": each.category_id, key: value})
        for each, value in zip(kept, values, strict=True)
    ]
