"""Evaluates predictions against ground truth: all that a report says of one set of predictions.

Axes: B bootstrap resamples, K classes.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autolabel.evaluation.diagnostics import (
    Calibration,
    SizeRecall,
    calibration,
    class_agnostic_matches,
    confusions,
    recall_by_size,
    with_oracle_labels,
)
from autolabel.evaluation.matching import (
    Floats,
    IouType,
    Matches,
    PairedImages,
    is_federated,
    match_predictions,
    of_type,
    pair_images,
)
from autolabel.evaluation.metrics import (
    Metric,
    PrecisionRecall,
    accumulate,
    bootstrap,
    evaluate_coco,
    summarize,
)
from autolabel.evaluation.pairing import MatchImages, counted
from autolabel.evaluation.predict import read_label_file, read_predictions
from autolabel.evaluation.selection import classes_of_words, first_images, unreviewed_labels
from integrations.annotations import LabelledSet, Tally
from integrations.progress import Reporter
from integrations.vocabulary_file import WordList
from regionspot.errors import InputError

RESAMPLES = 200
KINDS: dict[IouType, str] = {"bbox": "boxes", "segm": "masks"}


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class.

    Attributes:
        name: of the ground-truth category, as `class_labels` tells it from others.
        frequency: LVIS's r, c or f; empty where it is not known.
        ground_truth: number of annotations that are not crowds.
        predictions: number that were compared.
        ap: AP; without an interval where only one image has the class.
        ap50: AP at an IoU of 0.5.
        recall: AR.
    """

    name: str
    frequency: str
    ground_truth: int
    predictions: int
    ap: Metric
    ap50: float
    recall: float


@dataclass(frozen=True)
class MetricSection:
    """The metrics of boxes or of masks.

    Attributes:
        kind: `boxes` or `masks`.
        metrics: as `summarize` names them.
        classes: that the ground truth or the predictions have, most frequent first.
    """

    kind: str
    metrics: tuple[Metric, ...]
    classes: tuple[ClassMetrics, ...]


@dataclass(frozen=True)
class EvaluationResult:
    """All that is measured of one set of predictions.

    Attributes:
        title: what the predictions are.
        pairs: what was compared.
        sections: of boxes, and of masks where both sides have some.
        recalls: class-agnostic, by IoU threshold and area range.
        confusions: number of boxes by ground-truth class and predicted class.
        calibration: None where no bootstrap resamples were drawn, as matches are then not known.
        upper_bound: metrics of the same boxes with oracle labels; empty where not asked for.
        tally: what was changed and left out while the two were read.
        warnings: what makes the metrics mean less than they seem to.
    """

    title: str
    pairs: PairedImages
    sections: tuple[MetricSection, ...]
    recalls: tuple[SizeRecall, ...]
    confusions: Counter[tuple[str, str]]
    calibration: Calibration | None
    upper_bound: tuple[Metric, ...] = ()
    tally: Tally = field(default_factory=Tally)
    warnings: tuple[str, ...] = ()

    @property
    def boxes(self) -> MetricSection:
        """The section of boxes, which is always there."""
        return self.sections[0]


def evaluate_files(
    ground_truth: Path,
    predictions: Path,
    resamples: int,
    reporter: Reporter,
    match_by: MatchImages | None = None,
    limit: int | None = None,
    words: WordList | None = None,
) -> EvaluationResult:
    """Evaluate a file of predictions against a COCO or LVIS file, with the upper bound.

    Args:
        ground_truth: COCO or LVIS JSON, or a folder of Parquet.
        predictions: COCO JSON, a folder of Parquet, or a list of results.
        resamples: as of `evaluate_sets`.
        reporter: receives the progress.
        match_by: how images are matched; as of `read_predictions`.
        limit: number of the first images of the ground truth to evaluate on; None: all.
        words: whose classes alone are evaluated; None: all classes.

    Raises:
        InputError: a file does not hold together, the two have nothing in common, or no word is a
            class of the ground truth.
    """
    labels = read_label_file(ground_truth)
    if not any(image.annotations for image in labels.images):
        raise InputError(f"{ground_truth} holds no label to compare with")
    found, by = read_predictions(predictions, labels, match_by)
    tally = Tally()
    tally.merge(labels.tally)
    tally.merge(found.tally)
    labels, found = first_images(labels, found, by, limit)
    warnings: list[str] = []
    if words is not None:
        labels, found, unknown = classes_of_words(labels, found, words, tally)
        warnings += counted("words of --vocab that are no class of the ground truth", unknown)
    if same := unreviewed_labels(labels, found, by):
        total = sum(len(image.annotations) for image in labels.images)
        warnings.append(
            f"warning: {same} of {total} ground-truth labels come from the run that made the "
            "predictions and are not reviewed; compare with labels that a person reviewed"
        )
    bound = upper_bound(labels, found, resamples, reporter, by)
    result = evaluate_sets(predictions.stem, labels, found, resamples, reporter, by)
    return dataclasses.replace(result, upper_bound=bound, tally=tally, warnings=tuple(warnings))


def upper_bound(
    ground_truth: LabelledSet,
    predictions: LabelledSet,
    resamples: int,
    reporter: Reporter,
    by: MatchImages = "name",
) -> tuple[Metric, ...]:
    """Metrics of the predicted boxes and scores with oracle labels; see `evaluate_sets`."""
    oracle = with_oracle_labels(ground_truth, predictions, by)
    pairs = pair_images(ground_truth, oracle, by="id")
    matches = match_predictions(pairs, "bbox") if resamples else None
    return _section(pairs, "bbox", matches, resamples, reporter).metrics


def evaluate_sets(
    title: str,
    ground_truth: LabelledSet,
    predictions: LabelledSet,
    resamples: int,
    reporter: Reporter,
    by: MatchImages = "name",
) -> EvaluationResult:
    """Evaluate predictions against ground truth.

    Args:
        title: what the predictions are.
        ground_truth: annotations by a person.
        predictions: annotations with scores.
        resamples: of the images, for bootstrap intervals; 0: no intervals, and metrics by the C++
            evaluator alone.
        reporter: receives the progress.
        by: how images are matched; as of `match_images`.

    Raises:
        InputError: they have no image or no class in common.
    """
    pairs = pair_images(ground_truth, predictions, by=by)
    masks = has_masks(ground_truth) and has_masks(predictions)
    sections, calibrated = [], None
    iou_types: tuple[IouType, ...] = ("bbox", "segm") if masks else ("bbox",)
    for iou_type in iou_types:
        matches = match_predictions(pairs, iou_type) if resamples else None
        sections.append(_section(pairs, iou_type, matches, resamples, reporter))
        if matches is not None and iou_type == "bbox":
            calibrated = calibration(matches, resamples)
    # Predictions that LVIS's rules ignore still show which classes are confused.
    unfiltered = pairs
    if is_federated(ground_truth):
        unfiltered = pair_images(ground_truth, predictions, federated=False, by=by)
    agnostic = class_agnostic_matches(unfiltered)
    return EvaluationResult(
        title,
        pairs,
        tuple(sections),
        tuple(recall_by_size(unfiltered, agnostic, resamples)),
        confusions(unfiltered, agnostic[0.5]),
        calibrated,
    )


def has_masks(labels: LabelledSet) -> bool:
    """Whether any label has a mask."""
    return any(each.mask for image in labels.images for each in image.annotations)


def _section(
    pairs: PairedImages,
    iou_type: IouType,
    matches: Matches | None,
    resamples: int,
    reporter: Reporter,
) -> MetricSection:
    """Metrics from matches, with intervals; without matches from the C++ evaluator."""
    samples: list[dict[str, float]] = []
    class_samples = np.full((resamples, len(pairs.categories)), np.nan)  # (B, K)
    if matches is None:
        found = evaluate_coco(pairs, iou_type)
    else:
        found = accumulate(matches, np.ones(len(pairs.images), np.int64), pairs.detection_limits)
        reporter.start(f"bootstrap of {KINDS[iou_type]}", resamples)
        for row, each in enumerate(bootstrap(matches, pairs, resamples)):
            samples.append(summarize(each, pairs.categories, pairs.federated))
            class_samples[row] = _class_ap(each)
            reporter.advance()
    metrics = tuple(
        Metric.bootstrapped(name, value, [each[name] for each in samples])
        for name, value in summarize(found, pairs.categories, pairs.federated).items()
    )
    return MetricSection(KINDS[iou_type], metrics, _classes(pairs, iou_type, found, class_samples))


def _class_ap(found: PrecisionRecall) -> Floats:
    """AP (K,) of each class."""
    return np.asarray(found.precision[:, 0].mean(axis=-1), np.float64)


def _classes(
    pairs: PairedImages, iou_type: IouType, found: PrecisionRecall, samples: Floats
) -> tuple[ClassMetrics, ...]:
    """Classes that the ground truth or the predictions have, most frequent first.

    Args:
        pairs: what was compared.
        iou_type: `bbox` or `segm`.
        found: precision and recall over all images.
        samples: (B, K) AP in each bootstrap resample.
    """
    labels, images, predictions = Counter[int](), Counter[int](), Counter[int]()
    for image, predicted in zip(pairs.images, pairs.predicted, strict=True):
        own = Counter(
            each.category_id
            for each in of_type(image.annotations, iou_type)
            if pairs.federated or not each.is_crowd
        )
        labels.update(own)
        images.update(own.keys())
        counts = Counter(each.category_id for each in of_type(predicted, iou_type))
        predictions.update(
            {key: min(count, pairs.detection_limits[-1]) for key, count in counts.items()}
        )
    ap = _class_ap(found)
    classes = [
        ClassMetrics(
            pairs.names[each.id],
            each.frequency or "",
            labels[each.id],
            predictions[each.id],
            # Without the only image of a class, a resample has no AP of it.
            Metric.bootstrapped(
                "AP", float(ap[row]), samples[:, row].tolist() if images[each.id] > 1 else []
            ),
            float(found.precision[row, 0, 0]),
            float(found.recall[-1, row, 0].mean()),
        )
        for row, each in enumerate(pairs.categories)
        if labels[each.id] or predictions[each.id]
    ]
    return tuple(sorted(classes, key=lambda each: (-each.ground_truth, each.name)))
