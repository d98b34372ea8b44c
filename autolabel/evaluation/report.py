"""Writes a report: one page, the figures as JSON, and a CSV of each word.

index.html       all in one file; it loads nothing and prints
figures.json     every figure with its interval
words.csv        a line for each word, and kind
confusions.csv   true word, predicted word, boxes
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from autolabel.evaluation import plots
from autolabel.evaluation.evaluate import Figure, Judgement
from regionspot.files import atomic_folder, atomic_write

PAGE, FIGURES, WORDS, CONFUSIONS = "index.html", "figures.json", "words.csv", "confusions.csv"
TEMPLATE = Path(__file__).parents[1] / "data" / "report.html"
WORDS_ON_PAGE = 60


@dataclass(frozen=True)
class Setting:
    """One row of the table of settings.

    Attributes:
        classifier: what put words on the boxes.
        boxes: where the boxes came from.
        figures: by name.
        seconds: an image, mean; NaN where nothing was timed.
    """

    classifier: str
    boxes: str
    figures: tuple[Figure, ...]
    seconds: float


def write_report(
    out: Path,
    title: str,
    judgements: Sequence[Judgement],
    settings: Sequence[Setting] = (),
    facts: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a report folder and return its page.

    Args:
        judgements: the first one is shown in full, the others by their figures.
        settings: rows of the table that compares; empty where there is nothing to compare.
        facts: what was compared, by name.

    Raises:
        InputError: there is a report already.
    """
    entries = (FIGURES, WORDS, CONFUSIONS, PAGE)
    with atomic_folder(out, entries, overwrite) as folder:
        with atomic_write(folder / FIGURES) as file:
            json.dump(_as_json(title, judgements, settings, facts or {}), file, indent=1)
            file.write("\n")
        with atomic_write(folder / WORDS) as file:
            _write_words(file, judgements)
        with atomic_write(folder / CONFUSIONS) as file:
            _write_confusions(file, judgements)
        with atomic_write(folder / PAGE) as file:
            file.write(page(title, judgements[0], settings, facts or {}))
    return out / PAGE


def page(
    title: str, judgement: Judgement, settings: Sequence[Setting], facts: Mapping[str, str]
) -> str:
    """The page as HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["percent"] = percent
    environment.filters["seconds"] = seconds
    words = judgement.boxes.words
    return (
        environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
            title=title,
            facts=facts,
            judgement=judgement,
            classes=judgement.paired.classes,
            settings=settings,
            words=words[:WORDS_ON_PAGE],
            not_found=words_that_cannot_be_found(judgement),
            more_words=max(len(words) - WORDS_ON_PAGE, 0),
            figure_plots=[Markup(plots.figures_plot(each.figures)) for each in judgement.sections],
            reliability=Markup(plots.reliability_plot(judgement.calibration)),
            recall=Markup(plots.recall_plot(judgement.recalls)),
            confusion=Markup(plots.confusion_plot(judgement.confusions)),
        )
        + "\n"
    )


def words_that_cannot_be_found(judgement: Judgement) -> list[str]:
    """The true words that were not matched, and that the images do hold."""
    unmatched = set(judgement.paired.classes.unmatched_true)
    return [word.name for word in judgement.boxes.words if word.name in unmatched and word.truth]


def percent(value: float, digits: int = 1) -> str:
    """A share as per cent; `-` where there was nothing to measure."""
    return f"{100 * value:.{digits}f}" if math.isfinite(value) else "-"


def seconds(value: float) -> str:
    """Seconds; `-` where nothing was timed."""
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _as_json(
    title: str,
    judgements: Sequence[Judgement],
    settings: Sequence[Setting],
    facts: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "title": title,
        "facts": dict(facts),
        "judgements": [
            {
                "title": each.title,
                "federated": each.paired.federated,
                **{section.kind: _rows(section.figures) for section in each.sections},
                "boxes_with_true_words": _rows(each.reachable),
                "calibration_error": _numbers(each.calibration.error, *each.calibration.interval),
                "recall": [
                    {"size": r.size, "iou": r.iou, "boxes": r.boxes}
                    | _numbers(r.recall, *r.interval)
                    for r in each.recalls
                ],
                "not_matched": {
                    "predicted": list(each.paired.classes.unmatched_predicted),
                    "true": list(each.paired.classes.unmatched_true),
                },
            }
            for each in judgements
        ],
        "settings": [
            {"classifier": each.classifier, "boxes": each.boxes, "seconds": _number(each.seconds)}
            | {"figures": _rows(each.figures)}
            for each in settings
        ],
    }


def _rows(figures: Iterable[Figure]) -> dict[str, dict[str, float | None]]:
    return {each.name: _numbers(each.value, each.low, each.high) for each in figures}


def _numbers(value: float, low: float, high: float) -> dict[str, float | None]:
    return {"value": _number(value), "low": _number(low), "high": _number(high)}


def _number(value: float) -> float | None:
    """JSON has no NaN: what could not be measured is null."""
    return value if math.isfinite(value) else None


def _write_words(file: TextIO, judgements: Sequence[Judgement]) -> None:
    out = csv.writer(file, lineterminator="\n")
    columns = ("word", "frequency", "true", "predicted", "AP", "AP_low", "AP_high", "AP50", "AR")
    out.writerow(["predictions", "kind", *columns])
    for each in judgements:
        for section in each.sections:
            for word in section.words:
                numbers = (word.ap.value, word.ap.low, word.ap.high, word.ap50, word.recall)
                cells = [f"{number:.6f}" if math.isfinite(number) else "" for number in numbers]
                counts = (word.name, word.frequency, word.truth, word.predictions)
                out.writerow([each.title, section.kind, *counts, *cells])


def _write_confusions(file: TextIO, judgements: Sequence[Judgement]) -> None:
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["predictions", "true", "predicted", "boxes"])
    for each in judgements:
        rows = sorted(each.confusions.items(), key=lambda item: (-item[1], item[0]))
        out.writerows([each.title, *pair, count] for pair, count in rows)
