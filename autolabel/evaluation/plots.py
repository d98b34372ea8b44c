"""The plots of a report, as SVG to be set into a page."""

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from autolabel.evaluation.diagnostics import BINS, NOT_FOUND, RECALL_IOUS, Calibration, SizeRecall
from autolabel.evaluation.metrics import Metric
from integrations.drawing import FAINT, INK
from integrations.text import printable

CLASSES_SHOWN = 12
# Inches of the page's columns on a screen, so that letters there have the size of the text.
WHOLE, HALF = 10.2, 4.9
OTHER = "another class"
LONGEST_NAME = 40  # characters
BLUE, ORANGE = "#2f5f9e", "#d9822b"
_STYLE: Any = {
    # Letters stay letters: the page is small, and its words can be searched.
    "svg.fonttype": "none",
    "svg.hashsalt": "autolabel",
    "text.parse_math": False,  # a class may be called "$"
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def _axes(width: float, height: float) -> Iterator[tuple[Any, list[str]]]:
    """Axes of some inches; at the end of the block, the list holds their SVG."""
    with matplotlib.rc_context(_STYLE):
        canvas = Figure(figsize=(width, height), layout="constrained")
        result: list[str] = []
        yield canvas.subplots(), result
        out = io.StringIO()
        canvas.savefig(
            out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True
        )
        svg = out.getvalue()
        svg = svg[svg.index("<svg") :]
        # The page decides how wide a plot is.
        result.append(re.sub(r'<svg (.*?)width="[^"]*"', r"<svg \1", svg, count=1))


def metrics_plot(metrics: Sequence[Metric]) -> str:
    """Each metric as a point with its interval."""
    shown = [each for each in metrics if np.isfinite(each.value)]
    with _axes(HALF, 0.6 + 0.26 * max(len(shown), 1)) as (axes, svg):
        rows = np.arange(len(shown))[::-1]
        for row, each in zip(rows, shown, strict=True):
            axes.plot([100 * each.low, 100 * each.high], [row, row], color=BLUE, lw=4, alpha=0.3)
        axes.plot([100 * each.value for each in shown], rows, "o", color=BLUE, ms=5)
        axes.set_yticks(rows, [each.name for each in shown])
        axes.set_xlim(0, 100)
        axes.grid(axis="x", color="#e4e4e8")
        axes.set_axisbelow(True)
        intervals = any(np.isfinite(each.low) for each in shown)
        axes.set_xlabel("per cent, with 95% CI" if intervals else "per cent")
    return svg[0]


def reliability_plot(found: Calibration) -> str:
    """Precision against confidence; the number of predictions on top."""
    with _axes(HALF, 3.6) as (axes, svg):
        some = found.count > 0
        edges = (np.arange(BINS) + 0.5) / BINS
        axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls="--")
        axes.bar(edges[some], found.precision[some], 0.9 / BINS, color=BLUE, alpha=0.75)
        axes.plot(found.confidence[some], found.precision[some], "o", color=ORANGE, ms=5)
        for edge, count in zip(edges[some], found.count[some], strict=True):
            axes.text(edge, 1.05, f"{count}", ha="center", va="center", fontsize=8, color=FAINT)
        axes.set(xlim=(0, 1), ylim=(0, 1.09), xlabel="confidence", ylabel="precision")
    return svg[0]


def recall_plot(recalls: Sequence[SizeRecall]) -> str:
    """Bars by size, one colour for each IoU."""
    sizes = list(dict.fromkeys(each.size for each in recalls))
    with _axes(HALF, 3.6) as (axes, svg):
        for number, (threshold, colour) in enumerate(zip(RECALL_IOUS, (BLUE, ORANGE), strict=True)):
            rows = [each for each in recalls if each.iou == threshold]
            at = np.arange(len(rows)) + (number - 0.5) * 0.38
            value = np.array([each.recall.value for each in rows])
            below = value - [each.recall.low for each in rows]
            above = [each.recall.high for each in rows] - value
            axes.bar(
                at,
                value,
                0.36,
                yerr=np.clip(np.nan_to_num([below, above]), 0, None),
                color=colour,
                alpha=0.8,
                error_kw={"elinewidth": 1, "ecolor": INK},
                label=f"IoU {threshold}",
            )
        counts = {each.size: each.boxes for each in recalls}
        axes.set_xticks(range(len(sizes)), [f"{size}\n{counts[size]} boxes" for size in sizes])
        axes.set(ylim=(0, 1.02), ylabel="recall")
        axes.legend(frameon=False, fontsize=8)
    return svg[0]


def confusion_plot(found: Counter[tuple[str, str]]) -> str:
    """The classes that are confused most, and what with; rows add up to 100%."""
    classes = confused_classes(found)
    if not classes:
        return ""
    columns = [*classes, OTHER, NOT_FOUND]
    table = np.zeros((len(classes), len(columns)))
    for (own, predicted), count in found.items():
        if own in classes:
            column = columns.index(predicted) if predicted in columns else len(classes)
            table[classes.index(own), column] += count
    if not table[:, len(classes)].any():
        table, columns = np.delete(table, len(classes), axis=1), [*classes, NOT_FOUND]
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    with _axes(WHOLE, 1.5 + 0.3 * len(classes)) as (axes, svg):
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), boxes in np.ndenumerate(table):
            if boxes:
                colour = "white" if share[row, column] > 0.55 else INK
                text = f"{int(boxes)}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(columns)), map(_tick, columns), rotation=40, ha="right")
        axes.set_yticks(range(len(classes)), map(_tick, classes))
        axes.set(xlabel="predicted", ylabel="ground truth")
        axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", lw=2)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
    return svg[0]


def _tick(name: str) -> str:
    """A class name beside an axis, no longer than leaves room for the plot."""
    shown = printable(name)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 1]}…"


def confused_classes(found: Counter[tuple[str, str]]) -> list[str]:
    """The classes with the most boxes of another predicted class, and those classes."""
    classes: dict[str, None] = {}
    for (own, predicted), _ in sorted(found.items(), key=lambda item: (-item[1], item[0])):
        if predicted in (own, NOT_FOUND):
            continue
        if len(classes.keys() | {own, predicted}) > CLASSES_SHOWN:
            break
        classes.setdefault(own)
        classes.setdefault(predicted)
    return list(classes)
