"""How a head does on a review: the person's words, and the labels that nobody changed.

Axes: N regions, K words.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from regionspot.scoring import RegionScorer, class_scores
from train.finetune.examples import UNKNOWN, Lesson, Source


@dataclass(frozen=True)
class Share:
    """How many of how many."""

    right: int
    total: int

    @property
    def percent(self) -> float:
        """NaN of none."""
        return 100 * self.right / self.total if self.total else math.nan

    def __str__(self) -> str:
        return f"{self.percent:.1f} % of {self.total}" if self.total else "none"


@dataclass(frozen=True)
class Figures:
    """What a head makes of some images.

    Attributes:
        corrected: by word of the person, corrections that the head gets right.
        confirmed: labels that the person found right and that the head gets right.
        left_alone: labels that nobody judged, of words that nobody changed, whose word is still
            the one that the head gave before it was trained.
        replayed: regions of the replayed data sets whose own word is the best.
    """

    corrected: dict[str, Share]
    confirmed: Share
    left_alone: Share
    replayed: Share

    @property
    def all_corrected(self) -> Share:
        """Over all words."""
        shares = self.corrected.values()
        return Share(sum(each.right for each in shares), sum(each.total for each in shares))


def measure(
    scorer: RegionScorer,
    review: Source,
    replayed: Sequence[Source] = (),
    changed: torch.Tensor | None = None,
) -> Figures:
    """Figures of a scorer, each image's regions judged over the words of its own set.

    Args:
        changed: words of the head that a person changed somewhere.
    """
    changed = changed_words(review) if changed is None else changed
    right, total = Counter[int](), Counter[int]()
    confirmed, left_alone, others = Counter[bool](), Counter[bool](), Counter[bool]()
    for lesson in review.lessons:
        best = _best(scorer, lesson, review)
        is_right = best == lesson.target
        total.update(lesson.target[lesson.corrected].tolist())
        right.update(lesson.target[lesson.corrected & is_right].tolist())
        known = (lesson.target != UNKNOWN) & ~lesson.corrected
        confirmed.update(is_right[known].tolist())
        alone = lesson.labelled & ~torch.isin(lesson.said, changed)
        left_alone.update((best == lesson.said)[alone].tolist())
    for source in replayed:
        for lesson in source.lessons:
            others.update((_best(scorer, lesson, source) == lesson.target).tolist())
    return Figures(
        {review.vocabulary.names[k]: Share(right[k], total[k]) for k in sorted(total)},
        _share(confirmed),
        _share(left_alone),
        _share(others),
    )


def changed_words(review: Source) -> torch.Tensor:
    """Words that the head gave to regions which a person then gave another."""
    given = {k for each in review.lessons for k in each.said[each.corrected].tolist()}
    return torch.tensor(sorted(given), dtype=torch.int64)


def _best(scorer: RegionScorer, lesson: Lesson, source: Source) -> torch.Tensor:
    (regions,) = scorer.regions([lesson.features])
    return class_scores(regions, source.vocabulary).argmax(1)


def _share(counts: Counter[bool]) -> Share:
    return Share(counts[True], counts.total())
