"""A model and the baselines of the paper's Table 1 over the same images, classes and boxes.

Boxes are those of the paper's three settings (section 4.2): ground truth, a proposal network's, and
another detector's with its scores.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autolabel.evaluation.evaluate import EvaluationResult, evaluate_sets, upper_bound
from autolabel.evaluation.metrics import Metric
from autolabel.evaluation.predict import (
    GROUND_TRUTH,
    ImagePrediction,
    boxes_in,
    labels_of,
)
from autolabel.evaluation.predictor import (
    CACHE,
    BenchmarkRequest,
    PredictionWorkers,
    Predictor,
    source_title,
)
from autolabel.evaluation.report import BenchmarkRow, write_report
from integrations.annotations import LabelledSet, Tally
from integrations.images import check_stated_size, image_size
from integrations.progress import Reporter
from regionspot.errors import InputError
from regionspot.files import path_inside

ORACLE = "oracle labels"
_IN_TABLE = ("AP", "AP50", "AP_r", "AP_c", "AP_f", "AR")


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark measured.

    Attributes:
        rows: of the table; the last ones are the upper bound, oracle labels on the same boxes.
        page: of the report.
        images: number of images.
        tally: what was changed and left out while the ground truth was read.
    """

    rows: tuple[BenchmarkRow, ...]
    page: Path
    images: int
    tally: Tally


def run_benchmark(
    request: BenchmarkRequest, reporter: Reporter, workers: PredictionWorkers | None = None
) -> Benchmark:
    """Evaluate every classifier on every kind of boxes, and write the report.

    The same call again resumes where it was stopped.

    Args:
        request: the arguments.
        reporter: receives the progress.
        workers: that compute the predictions; None: this process does.

    Raises:
        InputError: something that was asked for cannot be used.
    """
    if workers is not None and request.device == "auto":
        request = replace(request, device=workers.device)
    predictor = Predictor.of(request, reporter)
    labels = predictor.labels
    _check_images(request, labels)
    if workers is not None:
        predictor.fill(workers, reporter)
    results: list[EvaluationResult] = []
    rows: list[BenchmarkRow] = []
    bounds: list[BenchmarkRow] = []
    for name in predictor.classifiers:
        for source in predictor.boxes:
            found = predictor.predictions(name, source, reporter)
            title = f"{name}, {source_title(source)}"
            predicted = labels_of(labels, found)
            result = evaluate_sets(title, labels, predicted, request.resamples, reporter, "id")
            results.append(result)
            rows.append(_row(name, source, result.boxes.metrics, found, request.resamples))
            if name == request.model and source != GROUND_TRUTH:
                alone = boxes_in(labels, found)
                bound = upper_bound(labels, alone, request.resamples, reporter, "id")
                bounds.append(_row(ORACLE, source, bound, (), request.resamples))
    facts = {
        "ground truth": str(request.ground_truth),
        "model": request.model,
        "shown below": results[0].title,
    }
    title = f"{request.model} on {request.ground_truth.parent.name or request.ground_truth.stem}"
    page = write_report(request.out, title, results, rows + bounds, facts, request.overwrite)
    shutil.rmtree(request.out / CACHE)
    return Benchmark((*rows, *bounds), page, len(labels.images), labels.tally)


def _check_images(request: BenchmarkRequest, labels: LabelledSet) -> None:
    """Make sure that every image is there, and is the one that was labelled, before any work."""
    for image in labels.images:
        path = path_inside(request.images, image.file_name)
        size = image_size(path)
        if not (image.width and image.height):
            raise InputError(
                f"{request.ground_truth}: the size of {image.file_name!r} is missing; "
                "`autolabel convert --images DIR` fills it in"
            )
        check_stated_size(size, (image.width, image.height), path)


def _row(
    classifier: str,
    source: str,
    metrics: Sequence[Metric],
    predictions: Sequence[ImagePrediction],
    resamples: int,
) -> BenchmarkRow:
    """A row of the table; the upper bound has no predictions, and takes no time."""
    seconds = float(np.mean([each.seconds for each in predictions])) if predictions else math.nan
    shown = [each for each in metrics if each.name in _IN_TABLE]
    shown += [_top_k(k, source, predictions, resamples) for k in (1, 5)]
    return BenchmarkRow(classifier, source_title(source), tuple(shown), seconds)


def _top_k(k: int, source: str, predictions: Sequence[ImagePrediction], resamples: int) -> Metric:
    """Share of ground-truth boxes whose own class is among the k best; NaN for other boxes."""
    name = f"top-{k}"
    if source != GROUND_TRUTH:
        return Metric(name, math.nan)
    hits = np.array([sum(rank < k for rank in each.ranks) for each in predictions], np.float64)
    totals = np.array([len(each.ranks) for each in predictions], np.float64)
    return Metric.ratio(name, hits, totals, resamples)
