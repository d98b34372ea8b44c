"""Training on a review twice: once without some images, to measure it, and once on all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from regionspot.scoring import RegionScorer
from train.finetune.examples import UNKNOWN, Lesson, Source, held
from train.finetune.losses import OnEpoch, ReviewSettings, fine_tune
from train.finetune.metrics import Figures, changed_words, measure
from train.finetune.zero_shot import adapted_to_review

OnStep = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What came of fine-tuning.

    Attributes:
        taught: fine-tuned on the whole review.
        held_out: images with corrections that the figures are of, and that the rehearsal was
            trained without; 0 where there were too few: the figures are of what was trained on.
    """

    taught: RegionScorer
    held_out: int
    before: Figures
    after: Figures


def train_and_measure(
    start: RegionScorer,
    review: Source,
    replays: Sequence[Source],
    settings: ReviewSettings,
    on_step: OnStep = lambda what, done, total: None,
) -> Outcome:
    """Fine-tune on all of a review, and say how well that does on images it is not trained on.

    Args:
        review: every image of it, touched or not, as `reviewed_lessons` gives them.
        on_step: told what is trained, steps done and steps in all.
    """
    changed = changed_words(review)

    def tuned(what: str, review: Source, others: Sequence[Source]) -> RegionScorer:
        return teach(start, review, others, settings, partial(on_step, what))

    corrected = sum(bool(lesson.corrected.any()) for lesson in review.lessons)
    if corrected < settings.held_out_from:
        taught = tuned("training", review, replays)
        return Outcome(taught, 0, *_compared(start, taught, review, replays, changed))
    training, apart = split(review, settings)
    parts = [split(source, settings) for source in replays]
    rehearsed = tuned("rehearsal", training, [kept for kept, _ in parts])
    away = [away for _, away in parts]
    before, after = _compared(start, rehearsed, apart, away, changed)
    count = sum(bool(lesson.corrected.any()) for lesson in apart.lessons)
    return Outcome(tuned("training", review, replays), count, before, after)


def teach(
    start: RegionScorer,
    review: Source,
    replays: Sequence[Source],
    settings: ReviewSettings,
    on_step: OnEpoch = lambda done, total: None,
) -> RegionScorer:
    """Fine-tune on a review, held to what the head said of all that a person did not judge."""
    sources = [*by_touch(held(review.lessons, review.vocabulary), review), *replays]
    scale = start.calibration.logit_scale
    tuned = replace(start, head=fine_tune(start.head, sources, scale, settings, on_step))
    return replace(tuned, zero_shot=adapted_to_review(tuned, sources, settings))


def _compared(
    start: RegionScorer,
    taught: RegionScorer,
    review: Source,
    replays: Sequence[Source],
    changed: torch.Tensor,
) -> tuple[Figures, Figures]:
    """Figures before and after."""
    before = measure(start, review, replays, changed)
    return before, measure(taught, review, replays, changed)


def by_touch(lessons: Sequence[Lesson], source: Source) -> tuple[Source, Source]:
    """The images in which a person judged a region, and the others."""
    touched = [bool((lesson.target != UNKNOWN).any()) for lesson in lessons]
    pairs = list(zip(lessons, touched, strict=True))
    return (
        replace(source, lessons=tuple(lesson for lesson, yes in pairs if yes)),
        replace(source, lessons=tuple(lesson for lesson, yes in pairs if not yes)),
    )


def split(source: Source, settings: ReviewSettings) -> tuple[Source, Source]:
    """Images to train on, and a share to measure on, drawn by the seed.

    The share is the same of corrected and of other images.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    away: set[int] = set()
    for corrected in (True, False):
        rows = [
            i for i, each in enumerate(source.lessons) if bool(each.corrected.any()) == corrected
        ]
        order = torch.randperm(len(rows), generator=generator).tolist()
        away |= {rows[k] for k in order[: round(settings.held_out * len(rows))]}
    pairs = list(enumerate(source.lessons))
    return (
        replace(source, lessons=tuple(lesson for i, lesson in pairs if i not in away)),
        replace(source, lessons=tuple(lesson for i, lesson in pairs if i in away)),
    )
