"""Writes a report: one page, the metrics as JSON, and a CSV of each class.

index.html       all in one file; it loads nothing and prints
figures.json     every metric with its interval
words.csv        a line for each class, of boxes and of masks
confusions.csv   ground-truth class, predicted class, boxes

In the CSV files, a name that a spreadsheet would take for a formula gets a leading `'`.
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from markupsafe import Markup

from autolabel.draw.html import render_page
from autolabel.evaluation import plots
from autolabel.evaluation.evaluate import EvaluationResult
from autolabel.evaluation.matching import PairedImages
from autolabel.evaluation.metrics import Metric
from integrations.text import csv_cell
from regionspot.files import atomic_folder, atomic_write

PAGE, METRICS, CLASSES, CONFUSIONS = "index.html", "figures.json", "words.csv", "confusions.csv"
TEMPLATE = "report.html"
CLASSES_ON_PAGE = 60


@dataclass(frozen=True)
class BenchmarkRow:
    """One row of the table that compares classifiers.

    Attributes:
        classifier: its name, or that of the upper bound.
        boxes: where the boxes came from.
        metrics: AP and AR of boxes, and top-1 and top-5 accuracy.
        seconds: an image, mean; NaN where nothing was timed.
    """

    classifier: str
    boxes: str
    metrics: tuple[Metric, ...]
    seconds: float


def write_report(
    out: Path,
    title: str,
    results: Sequence[EvaluationResult],
    rows: Sequence[BenchmarkRow] = (),
    facts: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a report folder and return its page.

    Args:
        out: the folder.
        title: of the page.
        results: the first one is shown in full, the others by their metrics.
        rows: of the table that compares; empty where there is nothing to compare.
        facts: what was compared, by name.
        overwrite: replace a report that is there.

    Raises:
        InputError: there is a report already.
    """
    entries = (METRICS, CLASSES, CONFUSIONS, PAGE)
    with atomic_folder(out, entries, overwrite) as folder:
        with atomic_write(folder / METRICS) as file:
            json.dump(_as_json(title, results, rows, facts or {}), file, indent=1)
            file.write("\n")
        with atomic_write(folder / CLASSES) as file:
            _write_classes(file, results)
        with atomic_write(folder / CONFUSIONS) as file:
            _write_confusions(file, results)
        with atomic_write(folder / PAGE) as file:
            file.write(page(title, results[0], rows, facts or {}))
    return out / PAGE


def page(
    title: str, result: EvaluationResult, rows: Sequence[BenchmarkRow], facts: Mapping[str, str]
) -> str:
    """The page as HTML."""
    classes = result.boxes.classes
    calibrated = result.calibration
    return render_page(
        TEMPLATE,
        {"percent": percent, "seconds": seconds, "interval": interval},
        title=title,
        facts=facts,
        result=result,
        mapping=result.pairs.classes,
        pairing=result.pairs.described(),
        rows=rows,
        classes=classes[:CLASSES_ON_PAGE],
        not_found=classes_without_predictions(result),
        more_classes=max(len(classes) - CLASSES_ON_PAGE, 0),
        metric_plots=[Markup(plots.metrics_plot(each.metrics)) for each in result.sections],
        reliability=Markup(plots.reliability_plot(calibrated)) if calibrated else "",
        recall=Markup(plots.recall_plot(result.recalls)),
        confusion=Markup(plots.confusion_plot(result.confusions)),
    )


def classes_without_predictions(result: EvaluationResult) -> list[str]:
    """The classes that the images have and that match no category of the predictions."""
    unmatched = set(result.pairs.classes.unmatched_ground_truth)
    return [
        each.name for each in result.boxes.classes if each.name in unmatched and each.ground_truth
    ]


def percent(value: float) -> str:
    """A value of [0, 1] in per cent; `-` where there was nothing to measure."""
    return f"{100 * value:.1f}" if math.isfinite(value) else "-"


def interval(metric: Metric, dash: str = " \u2013 ") -> str:
    """The bounds of a metric's interval in per cent; empty where there is none."""
    bounds = (metric.low, metric.high)
    return dash.join(map(percent, bounds)) if all(map(math.isfinite, bounds)) else ""


def seconds(value: float) -> str:
    """Seconds; `-` where nothing was timed."""
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _as_json(
    title: str,
    results: Sequence[EvaluationResult],
    rows: Sequence[BenchmarkRow],
    facts: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "title": title,
        "facts": dict(facts),
        "results": [
            {
                "title": each.title,
                "federated": each.pairs.federated,
                **{section.kind: _by_name(section.metrics) for section in each.sections},
                "upper_bound": _by_name(each.upper_bound),
                "calibration_error": _numbers(each.calibration.error) if each.calibration else None,
                "recall": [
                    {"size": r.size, "iou": r.iou, "boxes": r.boxes} | _numbers(r.recall)
                    for r in each.recalls
                ],
                "images": _images_json(each.pairs),
                "classes": {
                    "by_spelling": each.pairs.classes.by_spelling,
                    "by_synonym": each.pairs.classes.by_synonym,
                    "kept_apart": each.pairs.classes.kept_apart,
                    "predictions_left_out": each.pairs.of_unmatched_classes,
                },
                "not_matched": {
                    "predicted": list(each.pairs.classes.unmatched_predicted),
                    "ground_truth": list(each.pairs.classes.unmatched_ground_truth),
                },
            }
            for each in results
        ],
        "benchmark": [
            {"classifier": each.classifier, "boxes": each.boxes, "seconds": _number(each.seconds)}
            | {"metrics": _by_name(each.metrics)}
            for each in rows
        ],
    }


def _images_json(pairs: PairedImages) -> dict[str, Any]:
    matches = pairs.matches
    return {
        "paired": matches.counts,
        "by_name": matches.by_name,
        "without_predictions": matches.without_predictions,
        "without_ground_truth": matches.without_ground_truth,
        "ambiguous": matches.ambiguous,
        "predictions_left_out": matches.left_out,
    }


def _by_name(metrics: Iterable[Metric]) -> dict[str, dict[str, float | None]]:
    return {each.name: _numbers(each) for each in metrics}


def _numbers(metric: Metric) -> dict[str, float | None]:
    return {each: _number(getattr(metric, each)) for each in ("value", "low", "high")}


def _number(value: float) -> float | None:
    """JSON has no NaN: what could not be measured is null."""
    return value if math.isfinite(value) else None


def _write_classes(file: TextIO, results: Sequence[EvaluationResult]) -> None:
    out = csv.writer(file, lineterminator="\n")
    header = ["predictions", "kind", "class", "frequency", "ground_truth", "predicted"]
    out.writerow([*header, "AP", "AP_low", "AP_high", "AP50", "AR"])
    for result in results:
        for section in result.sections:
            for each in section.classes:
                numbers = (each.ap.value, each.ap.low, each.ap.high, each.ap50, each.recall)
                cells = [f"{number:.6f}" if math.isfinite(number) else "" for number in numbers]
                counts = (each.frequency, each.ground_truth, each.predictions)
                names = csv_cell(result.title), section.kind, csv_cell(each.name)
                out.writerow([*names, *counts, *cells])


def _write_confusions(file: TextIO, results: Sequence[EvaluationResult]) -> None:
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["predictions", "ground_truth", "predicted", "boxes"])
    for each in results:
        rows = sorted(each.confusions.items(), key=lambda item: (-item[1], item[0]))
        out.writerows([*map(csv_cell, (each.title, *pair)), count] for pair, count in rows)
