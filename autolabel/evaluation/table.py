"""The rows of the table: from what a classifier said of each image to figures."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from autolabel.evaluation.bootstrap import draws_of, interval
from autolabel.evaluation.cache import Record
from autolabel.evaluation.evaluate import Figure, Judgement
from autolabel.evaluation.predict import GIVEN, PROPOSALS
from autolabel.evaluation.report import Setting
from integrations.annotations import Annotation, LabelledImage, LabelledSet

TRUE_WORDS = "true words"
_IN_SETTINGS = ("AP", "AP50", "AP_r", "AP_c", "AP_f", "AR")


def labels_of(truth: LabelledSet, records: Sequence[Record]) -> LabelledSet:
    """The pairs of box and word of each of the truth's images, as labels."""
    return _as_set(
        truth,
        (
            tuple(
                Annotation(truth.categories[word].id, _corners(record.boxes[row]), score)
                for row, word, score in zip(record.rows, record.words, record.scores, strict=True)
            )
            for record in records
        ),
    )


def boxes_in(truth: LabelledSet, records: Sequence[Record]) -> LabelledSet:
    """The boxes of each of the truth's images with their own scores, all of one word."""
    word = truth.categories[0].id
    return _as_set(
        truth,
        (
            tuple(
                Annotation(word, _corners(box), score)
                for box, score in zip(record.boxes, record.box_scores, strict=True)
            )
            for record in records
        ),
    )


def _as_set(truth: LabelledSet, rows: Iterator[tuple[Annotation, ...]]) -> LabelledSet:
    return LabelledSet(
        truth.categories,
        tuple(
            LabelledImage(image.id, image.file_name, image.width, image.height, annotations)
            for image, annotations in zip(truth.images, rows, strict=True)
        ),
    )


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return x1, y1, x2, y2


def row_of(
    name: str, source: str, judgement: Judgement, records: Sequence[Record], draws: int
) -> Setting:
    """A row of the table.

    Args:
        name: of what put words on the boxes.
        source: of the boxes: `gt`, `proposals`, or a file.
        records: of a classifier; empty where none was asked.
        draws: sets of images drawn anew for the intervals.
    """
    figures = tuple(each for each in judgement.boxes.figures if each.name in _IN_SETTINGS)
    seconds = float(np.mean([each.seconds for each in records])) if records else math.nan
    tops = tuple(_top(limit, source, records, draws) for limit in (1, 5))
    return Setting(name, shown(source), figures + tops, seconds)


def _top(limit: int, source: str, records: Sequence[Record], draws: int) -> Figure:
    """Share of given boxes whose own word is among the best few."""
    name = f"top-{limit}"
    if source != GIVEN:
        return Figure(name, math.nan, math.nan, math.nan)
    hits = np.array([sum(rank < limit for rank in record.ranks) for record in records])
    total = np.array([len(record.ranks) for record in records])
    drawn = [
        float(weights @ hits / max(int(weights @ total), 1))
        for weights in draws_of(len(records), draws)
    ]
    low, high = interval(drawn)
    return Figure(name, float(hits.sum() / total.sum()), low, high)


def shown(source: str) -> str:
    """How a source of boxes is called in the table."""
    return {GIVEN: "given", PROPOSALS: "proposals"}.get(source, Path(source).name)
