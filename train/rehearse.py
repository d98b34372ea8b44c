"""Training on a review twice: once without some images, to measure it, and once on all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from regionspot.head import RegionHead
from regionspot.unseen import UnseenWords
from train.lessons import UNKNOWN, Lesson, Source, held
from train.review import ReviewSettings, fine_tune
from train.review_figures import Figures, changed_words, measure

OnStep = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Outcome:
    """A head that was trained on the whole review.

    Attributes:
        held_out: images with corrections that the figures are of, and that the rehearsal was
            trained without; 0 where there were too few: the figures are of what was trained on.
    """

    head: RegionHead
    held_out: int
    before: Figures
    after: Figures


def train_and_measure(
    start: RegionHead,
    review: Source,
    replays: Sequence[Source],
    logit_scale: float,
    settings: ReviewSettings,
    learnt: UnseenWords | None = None,
    on_step: OnStep = lambda what, done, total: None,
) -> Outcome:
    """Fine-tune on all of a review, and say how well that does on images it is not trained on.

    Args:
        review: every image of it, touched or not, as `reviewed_lessons` gives them.
        learnt: how words are scored afterwards, as `Source.unseen` says it of before.
        on_step: told what is trained, steps done and steps in all.
    """
    vocabulary, changed = review.vocabulary, changed_words(review)

    def tuned(what: str, lessons: Sequence[Lesson], others: Sequence[Source]) -> RegionHead:
        sources = [*by_touch(held(lessons, vocabulary), review), *others]
        return fine_tune(start, sources, logit_scale, settings, lambda d, t: on_step(what, d, t))

    corrected = sum(bool(lesson.corrected.any()) for lesson in review.lessons)
    if corrected < settings.held_out_from:
        head = tuned("training", review.lessons, replays)
        return Outcome(head, 0, *_compared(start, head, review, replays, learnt, changed))
    training, apart = split(review, settings)
    parts = [split(source, settings) for source in replays]
    rehearsed = tuned("rehearsal", training.lessons, [kept for kept, _ in parts])
    away = [away for _, away in parts]
    before, after = _compared(start, rehearsed, apart, away, learnt, changed)
    count = sum(bool(lesson.corrected.any()) for lesson in apart.lessons)
    return Outcome(tuned("training", review.lessons, replays), count, before, after)


def _compared(
    start: RegionHead,
    head: RegionHead,
    review: Source,
    replays: Sequence[Source],
    learnt: UnseenWords | None,
    changed: torch.Tensor,
) -> tuple[Figures, Figures]:
    """Figures before and after."""
    later = [replace(source, unseen=learnt) for source in (review, *replays)]
    before = measure(start, review, replays, changed)
    return before, measure(head, later[0], later[1:], changed)


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
