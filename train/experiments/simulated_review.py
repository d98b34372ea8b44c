"""Reviews by a simulated annotator, who knows each region's class: gains and losses of corrections.

Axes: N regions, G groups of classes.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.table import Table

from integrations.fiftyone.review import ReviewedImage
from regionspot.checkpoint import load_head
from regionspot.scoring import RegionScorer, class_scores
from regionspot.types import Vocabulary
from train.config import FinetuneConfig, mini
from train.data.coco import load_coco
from train.data.registry import short_name
from train.features.cache import ImageFeatures
from train.features.extract import FeatureExtractor
from train.finetune.examples import ExampleSet, replayed_examples, reviewed_examples
from train.finetune.finetune import finetune
from train.metrics import Accuracy, region_scores, regions_of, top_k
from train.sampler import TrainingSet, hold_out

GROUPS = ("corrected classes", "all others", "seen others", "unseen others")


@dataclass(frozen=True)
class Effect:
    """Accuracy before and after one review.

    Attributes:
        corrections: number of labels that the annotator corrected.
        before: top-1 accuracy of the initial model on the test images, by `GROUPS` of classes.
        after: top-1 accuracy of the fine-tuned model, likewise.
    """

    corrections: int
    before: Mapping[str, Accuracy]
    after: Mapping[str, Accuracy]


def simulate_reviews(
    data: Path,
    test: Path,
    checkpoint: Path,
    words: int,
    reviews: int,
    replay: int,
    features_of: FeatureExtractor,
    limit: int | None = None,
) -> list[Effect]:
    """Simulate reviews of other classes each, of a head of the preset `mini`.

    Args:
        data: folder that the head was trained on.
        test: folder to test on.
        checkpoint: of the head.
        words: number of classes that the annotator corrects.
        reviews: number of reviews.
        replay: images of `data` at most that are replayed.
        features_of: extracts features of images; its tally counts what is left out.
        limit: number of the first images of each folder; None: all.
    """
    recipe, reporter = mini(), features_of.reporter
    trained = load_head(checkpoint, recipe.model)
    scorer = RegionScorer.of(features_of.encoder, trained, recipe.model.encoder.templates)
    features, tested = (
        features_of(recipe.model, load_coco(folder, limit, features_of.tally))
        for folder in (data, test)
    )
    names = [image.names for image in features]
    every = TrainingSet(short_name(str(data)), features, names, trained.seen_classes)
    classes = sorted({name for image in (*features, *tested) for name in image.names})
    training, reviewed = hold_out(every, recipe.held_out, recipe.seed)
    simulation = Simulation(
        scorer, trained.seen_classes, scorer.vocabulary(classes), training, reviewed, tested
    )
    reporter.start("reviews", reviews)
    effects = []
    for seed in range(reviews):
        effects.append(simulation.review(words, replay, FinetuneConfig(seed=seed)))
        reporter.advance()
    return effects


@dataclass(frozen=True)
class Simulation:
    """What several simulated reviews share.

    Attributes:
        initial: the model before a review.
        seen: classes that its head was trained on; empty for all.
        vocabulary: classes of all images.
        training: images that the head was trained on; regions of its classes are replayed.
        reviewed: images that the annotator looks at; the names of regions are their classes.
        tested: images that nobody looks at.
    """

    initial: RegionScorer
    seen: tuple[str, ...]
    vocabulary: Vocabulary
    training: TrainingSet
    reviewed: TrainingSet
    tested: Sequence[ImageFeatures]

    @cached_property
    def _seen(self) -> set[str]:
        return set(self.seen or self.vocabulary.names)

    def review(self, count: int, replay: int, config: FinetuneConfig) -> Effect:
        """Correct some classes, fine-tune, and test.

        Args:
            count: of classes, sampled from the unseen ones if there are any.
            replay: images at most that are replayed.
            config: its seed samples the classes and the images, too.
        """
        rng = random.Random(config.seed)
        names = self.vocabulary.names
        candidates = [name for name in names if name not in self._seen] or names
        classes = set(rng.sample(candidates, min(count, len(candidates))))
        corrected = self._corrected(classes)
        replayed = self._replayed(replay, rng)
        corrections = sum(int(example.corrected.sum()) for example in corrected.examples)
        tuned = finetune(self.initial, corrected, [replayed], config)
        before, after = (self._accuracy(each, classes) for each in (self.initial, tuned))
        return Effect(corrections, before, after)

    def _corrected(self, classes: set[str]) -> ExampleSet:
        """In an image with a mistake about the classes, the annotator reviews each region of one
        of them or predicted as one of them, and leaves the others alone."""
        photos = list(self.reviewed.features)
        images: list[ReviewedImage] = []
        for photo in photos:
            (regions,) = self.initial.regions([photo])
            best = class_scores(regions, self.vocabulary).argmax(1)
            predicted = tuple(self.vocabulary.names[k] for k in best.tolist())
            pairs = list(zip(photo.names, predicted, strict=True))
            is_reviewed = any(true != guess and classes & {true, guess} for true, guess in pairs)
            given = tuple(
                true if is_reviewed and classes & {true, guess} else "" for true, guess in pairs
            )
            boxes, none = np.zeros((len(best), 4), np.float32), np.zeros((0, 4), np.float32)
            images.append(ReviewedImage(len(images), Path(), 0, 0, boxes, none, given, predicted))
        return reviewed_examples(images, photos, self.initial, self.vocabulary)

    def _replayed(self, most: int, rng: random.Random) -> ExampleSet:
        classes = [name for name in self.vocabulary.names if name in self._seen]
        known = [
            (number, rows)
            for number, names in enumerate(self.training.names)
            if (rows := [row for row, name in enumerate(names) if name in self._seen])
        ]
        sampled = rng.sample(known, min(most, len(known)))
        images = [self.training.features[number].only(rows) for number, rows in sampled]
        return replayed_examples(images, self.initial, self.vocabulary.only(classes))

    def _accuracy(self, scorer: RegionScorer, classes: set[str]) -> dict[str, Accuracy]:
        scores = region_scores(scorer, self.tested, self.vocabulary)
        others = set(self.vocabulary.names) - classes
        groups = (classes, others, others & self._seen, others - self._seen)
        return {
            name: top_k(*regions_of(group, scores, self.tested), self.vocabulary, 1)
            for name, group in zip(GROUPS, groups, strict=True)
        }


def review_table(effects: Sequence[Effect]) -> Table:
    """Accuracy before and after each review, and the mean change with its standard error."""
    groups = [group for group in GROUPS if any(effect.before[group].total for effect in effects)]
    table = Table("review", "corrections", *groups, box=None, pad_edge=False)
    changes = []
    for number, effect in enumerate(effects):
        pairs = [(effect.before[group].value, effect.after[group].value) for group in groups]
        cells = [f"{before:.1f} > {after:.1f}" for before, after in pairs]
        table.add_row(str(number), str(effect.corrections), *cells)
        changes.append([after - before for before, after in pairs])
    means = zip(*mean_and_error(np.array(changes)), strict=True)
    table.add_row("mean change", "", *(f"{mean:+.1f} ± {error:.1f}" for mean, error in means))
    return table


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of each column, leaving out NaN."""
    count = np.isfinite(values).sum(0)
    return np.nanmean(values, axis=0), np.nanstd(values, axis=0, ddof=1) / count**0.5
