"""A review by a made-up person, who knows each box's true word: what corrections bring and cost."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from integrations.corrections import ReviewedImage
from regionspot.scoring import RegionScorer, class_scores
from regionspot.types import Vocabulary
from train.features.cache import ImageFeatures
from train.finetune.examples import Source, replayed_lessons, reviewed_lessons
from train.finetune.finetune import teach
from train.finetune.losses import ReviewSettings
from train.finetune.metrics import Share
from train.metrics import boxes_of, hits, region_scores
from train.sampler import TrainingSet

GROUPS = ("corrected words", "all others", "trained others", "new others")


@dataclass(frozen=True)
class Effect:
    """What one review did.

    Attributes:
        corrections: labels that the person gave another word.
        before, after: test boxes whose own word is the best, by the `GROUPS` of that word.
    """

    corrections: int
    before: Mapping[str, Share]
    after: Mapping[str, Share]


@dataclass(frozen=True)
class Simulation:
    """What several reviews have in common.

    Attributes:
        start: the scorer before any review.
        seen: the classes that its head was trained on; empty: all.
        vocabulary: the words that are asked for, those of all images.
        images: those that the head was trained on, of which its trained words are replayed, and
            others, which the person looks at. A region's name is its true word.
        tested: images that nobody looks at.
    """

    start: RegionScorer
    seen: Sequence[str]
    vocabulary: Vocabulary
    images: tuple[TrainingSet, TrainingSet]
    tested: Sequence[ImageFeatures]

    @cached_property
    def _trained_words(self) -> set[str]:
        """All words, for a head of which they are not known."""
        return set(self.seen or self.vocabulary.names)

    def review(self, count: int, replay: int, settings: ReviewSettings) -> Effect:
        """Correct some words, teach the head, and measure it.

        Args:
            count: of words, drawn from those that the head was not trained on if there are such.
            replay: images at most that are replayed.
            settings: their seed draws the words and the images, too.
        """
        drawn = random.Random(settings.seed)
        names = self.vocabulary.names
        new = [name for name in names if name not in self._trained_words]
        words = set(drawn.sample(new or names, min(count, len(new or names))))
        corrected = self._corrected(words)
        replayed = self._replayed(replay, drawn)
        corrections = sum(int(lesson.corrected.sum()) for lesson in corrected.lessons)
        taught = teach(self.start, corrected, [replayed], settings)
        return Effect(corrections, self._shares(self.start, words), self._shares(taught, words))

    def _corrected(self, words: set[str]) -> Source:
        """In an image with a mistake about the words, the person judges each region that is of one
        of them or that the head called so; the others they leave alone."""
        asked = self.vocabulary
        photos = list(self.images[1].features)
        features = [replace(photo, names=("",) * len(photo.names)) for photo in photos]
        images: list[ReviewedImage] = []
        for photo in photos:
            (regions,) = self.start.regions([photo])
            best = class_scores(regions, asked).argmax(1)
            said = tuple(asked.names[k] for k in best.tolist())
            pairs = list(zip(photo.names, said, strict=True))
            is_touched = any(true != guess and words & {true, guess} for true, guess in pairs)
            told = tuple(
                true if is_touched and words & {true, guess} else "" for true, guess in pairs
            )
            boxes, none = np.zeros((len(said), 4), np.float32), np.zeros((0, 4), np.float32)
            images.append(ReviewedImage(len(images), Path(), 0, 0, boxes, none, told, said))
        return reviewed_lessons(images, features, self.start, asked)

    def _replayed(self, most: int, drawn: random.Random) -> Source:
        trained = self.images[0]
        words = [name for name in self.vocabulary.names if name in self._trained_words]
        known = [
            (number, rows)
            for number, names in enumerate(trained.names)
            if (rows := [row for row, name in enumerate(names) if name in words])
        ]
        some = drawn.sample(known, min(most, len(known)))
        images = [trained.features[number].only(rows) for number, rows in some]
        return replayed_lessons(images, self.start, self.vocabulary.only(words))

    def _shares(self, scorer: RegionScorer, words: set[str]) -> dict[str, Share]:
        found = region_scores(scorer.regions, self.tested, self.vocabulary)
        others = set(self.vocabulary.names) - words
        known = self._trained_words
        shares = {}
        for name, group in zip(
            GROUPS, (words, others, others & known, others - known), strict=True
        ):
            scores, images = boxes_of(found, self.tested, group)
            right = hits(scores, images, self.vocabulary, 1).sum()
            shares[name] = Share(int(right), sum(len(image.names) for image in images))
        return shares
