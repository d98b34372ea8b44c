"""Compares predictions with the truth: all that a report says of one set of predictions."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autolabel.evaluation.bootstrap import Interval, intervals
from autolabel.evaluation.cache import Reporter
from autolabel.evaluation.coco_eval import fast_curves
from autolabel.evaluation.diagnostics import (
    Calibration,
    SizeRecall,
    calibration,
    confusions,
    recall_by_size,
)
from autolabel.evaluation.matching import Matches, match
from autolabel.evaluation.metrics import Curves, figures
from autolabel.evaluation.oracle import with_true_words
from autolabel.evaluation.pairing import Paired, is_federated, pair, read_predictions
from integrations.annotations import LabelledSet
from integrations.formats.coco import read_coco
from regionspot.errors import InputError

DRAWS = 200
KINDS = {"bbox": "boxes", "segm": "masks"}


@dataclass(frozen=True)
class Figure:
    """A figure in [0, 1], and the middle 95% of it over images drawn anew."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Word:
    """What was found of one word.

    Attributes:
        frequency: LVIS's r, c or f; empty where it is not known.
        truth: true labels that count.
        predictions: that were compared.
    """

    name: str
    frequency: str
    truth: int
    predictions: int
    ap: Figure
    ap50: float
    recall: float


@dataclass(frozen=True)
class Section:
    """The figures of boxes or of masks."""

    kind: str
    figures: tuple[Figure, ...]
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Judgement:
    """All that is found of one set of predictions.

    Attributes:
        title: what the predictions are.
        paired: what was compared.
        sections: of boxes, and of masks where both sides have some.
        reachable: figures that the same boxes would have with true words; empty where not asked.
    """

    title: str
    paired: Paired
    sections: tuple[Section, ...]
    calibration: Calibration
    recalls: tuple[SizeRecall, ...]
    confusions: Counter[tuple[str, str]]
    reachable: tuple[Figure, ...] = ()

    @property
    def boxes(self) -> Section:
        """The section of boxes, which is always there."""
        return self.sections[0]


def judge_files(truth: Path, predicted: Path, draws: int, reporter: Reporter) -> Judgement:
    """Compare a file of predictions with a COCO or LVIS file, and find what its boxes could reach.

    Args:
        draws: sets of images drawn anew for the intervals.

    Raises:
        InputError: a file does not hold together, or the two have nothing in common.
    """
    data = read_coco(truth)
    if not data.images or not any(image.annotations for image in data.images):
        raise InputError(f"{truth} holds no label to compare with")
    found = read_predictions(predicted, data)
    perfect = pair(data, with_true_words(data, found))
    masks = has_masks(data) and has_masks(found)
    reporter.begin("drawing images anew", draws * (3 if masks else 2), 0)
    best = _section(perfect, "bbox", match(perfect, "bbox"), draws, reporter.advance)
    judgement = judge(predicted.stem, data, found, draws, reporter.advance)
    return dataclasses.replace(judgement, reachable=best.figures)


def judge(
    title: str,
    truth: LabelledSet,
    predicted: LabelledSet,
    draws: int = DRAWS,
    advance: Callable[[], None] = lambda: None,
) -> Judgement:
    """Compare predictions with the truth.

    Args:
        title: what the predictions are.
        draws: sets of images drawn anew for the intervals, of boxes and again of masks.
        advance: called after each draw.

    Raises:
        InputError: they have no image or no word in common.
    """
    paired = pair(truth, predicted)
    # What LVIS does not judge still says which words are mixed up, and where boxes are.
    every = pair(truth, predicted, federated=False) if is_federated(truth) else paired
    boxes = match(paired, "bbox")
    sections = [_section(paired, "bbox", boxes, draws, advance)]
    if has_masks(truth) and has_masks(predicted):
        sections.append(_section(paired, "segm", match(paired, "segm"), draws, advance))
    return Judgement(
        title,
        paired,
        tuple(sections),
        calibration(boxes, draws),
        tuple(recall_by_size(every, draws)),
        confusions(every),
    )


def has_masks(data: LabelledSet) -> bool:
    """Whether any label has a mask."""
    return any(each.mask for image in data.images for each in image.annotations)


def _section(
    paired: Paired, kind: str, matches: Matches, draws: int, advance: Callable[[], None]
) -> Section:
    curves = fast_curves(paired, kind)
    found = intervals(matches, paired, draws, advance)
    values = figures(curves, paired.categories, paired.federated)
    return Section(
        KINDS[kind],
        tuple(
            Figure(name, value, *_around(found.figures.get(name))) for name, value in values.items()
        ),
        _words(paired, curves, matches, found.words),
    )


def _around(found: Interval | None) -> Interval:
    return (float("nan"), float("nan")) if found is None else found


def _words(
    paired: Paired, curves: Curves, matches: Matches, around: np.ndarray
) -> tuple[Word, ...]:
    """The words that the truth or the predictions have, best known first."""
    truth = matches.truth_counts[:, :, 0].sum(axis=0)
    predictions = np.bincount(matches.word, minlength=len(truth))
    # Of a word that only one image has, other images could tell nothing.
    single = (matches.truth_counts[:, :, 0] > 0).sum(axis=0) < 2
    around = np.where(single[:, None], np.nan, around)
    words = [
        Word(
            category.name,
            category.frequency or "",
            int(truth[row]),
            int(predictions[row]),
            Figure("AP", float(curves.precision[row, 0].mean()), *map(float, around[row])),
            float(curves.precision[row, 0, 0]),
            float(curves.recall[-1, row, 0].mean()),
        )
        for row, category in enumerate(paired.categories)
        if truth[row] or predictions[row]
    ]
    return tuple(sorted(words, key=lambda word: (-word.truth, word.name)))
