"""Accuracy of words that a few example regions stand for, over draws of these examples.

All boxes of a test set are classified among all its classes, of which some have examples: boxes of
another data set, or of the other images of the test set (leave-one-image-out).

Axes: M images, N regions, K classes, C classes of the encoder's own classifier.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from torch.nn import functional as F

from integrations.output import cells
from integrations.progress import Reporter
from regionspot.checkpoint import load_head
from regionspot.config import preset
from regionspot.examples.classes import ExampleRegions
from regionspot.scoring import RegionScorer, class_scores, with_example_classes
from regionspot.types import Regions, Vocabulary
from train.data.coco import read_folder
from train.data.dataset import AnnotatedImage, used_classes
from train.data.registry import known_classes
from train.features.cache import ImageFeatures
from train.features.extract import FeatureExtractor
from train.metrics import Accuracy, Counts, accuracy_of, embedded

TEXT = 0  # examples of a word: its text alone


@dataclass(frozen=True)
class ExampleFigures:
    """Accuracy on the boxes of some classes.

    Attributes:
        classes: which.
        examples: of a word at most; 0: text alone.
        has_text: whether words with examples have their text, too.
        top_1: mean over draws, with a 95% interval over images.
        deviation: standard deviation of the accuracy over draws, in percent.
        nearest_mean: whether a region gets the class whose examples have the nearest mean, as a
            baseline.
    """

    classes: str
    examples: int
    has_text: bool
    top_1: Accuracy
    deviation: float
    nearest_mean: bool = False


@dataclass(frozen=True)
class ExamplePool:
    """Regions that may be examples.

    Attributes:
        by_word: of each word its regions, one row each, and the number of each one's image.
    """

    by_word: Mapping[str, Sequence[tuple[int, Regions]]]

    @classmethod
    def of(
        cls, images: Sequence[ImageFeatures], regions: Sequence[Regions], words: Collection[str]
    ) -> "ExamplePool":
        """The regions of some words."""
        found: dict[str, list[tuple[int, Regions]]] = defaultdict(list)
        for number, (image, own) in enumerate(zip(images, regions, strict=True)):
            for row, name in enumerate(image.names):
                if name in words:
                    found[name].append((number, own.select([row])))
        return cls(found)

    def draw(self, seed: int) -> "ExamplePool":
        """The same regions in a random order."""
        generator = random.Random(seed)
        return ExamplePool(
            {word: generator.sample(found, len(found)) for word, found in self.by_word.items()}
        )

    def by_image(self, word: str, places: Sequence[int]) -> list[Regions]:
        """The regions of a word at some places, those of one image together."""
        found: dict[int, list[Regions]] = defaultdict(list)
        for place in places:
            image, regions = self.by_word[word][place]
            found[image].append(regions)
        return [Regions.joined(each) for each in found.values()]

    def first(self, count: int, without: int | None = None) -> dict[str, list[int]]:
        """Places of the first regions of each word, none of them of one image."""
        return {
            word: [place for place, (image, _) in enumerate(found) if image != without][:count]
            for word, found in self.by_word.items()
        }


def evaluate_examples(
    test: Path,
    data: Path | None,
    words: Path | None,
    others: Sequence[Path],
    counts: Sequence[int],
    draws: int,
    pool: int,
    checkpoint: Path,
    features_of: FeatureExtractor,
    listed: bool = False,
    limit: int | None = None,
    nearest_mean: bool = False,
) -> list[ExampleFigures]:
    """Classify the boxes of a folder with examples of some of its classes.

    Args:
        test: folder with `instances.json` and `images/`.
        data: folder that examples are taken from; None: the other images of `test`.
        words: file of the classes that get examples; None: all.
        others: files of classes whose boxes are evaluated apart, too.
        counts: numbers of examples of a word.
        draws: of examples, from the first `pool` boxes of each word.
        pool: of the boxes of a word in `data`.
        checkpoint: the head.
        features_of: extracts features of images; its tally counts what is left out.
        listed: classify among all classes that the test set lists, not those with a box.
        limit: number of the first images of each folder; None: all.
        nearest_mean: whether the baseline is evaluated, too.

    Raises:
        InputError: a folder, file or checkpoint that cannot be used.
    """
    config = preset("mini")
    trained = load_head(checkpoint, config)
    scorer = RegionScorer.of(features_of.encoder, trained, config.encoder.templates)
    dataset = read_folder(test, features_of.tally)
    tested = list(dataset.images[:limit])
    names = tuple(dataset.classes) if listed else used_classes(tested)
    chosen = known_classes(words, dataset) & set(names) if words else frozenset(names)
    features = features_of(config, tested)
    regions = embedded(scorer, features)
    source, theirs = features, regions
    if data is not None:
        images = read_folder(data, features_of.tally).images[:limit]
        source = features_of(config, pool_images(images, chosen, pool))
        theirs = embedded(scorer, source)
    parts = {"words with examples": chosen, "all others": frozenset(names) - chosen}
    parts |= {path.stem: known_classes(path, dataset) for path in others}
    experiment = Experiment(
        scorer.vocabulary(names),
        features,
        regions,
        ExamplePool.of(source, theirs, chosen),
        leave_one_out=data is None,
    )
    features_of.reporter.start("draws", draws * len(counts))
    return list(experiment.figures(parts, counts, draws, features_of.reporter, nearest_mean))


def pool_images(
    images: Sequence[AnnotatedImage], words: Collection[str], most: int
) -> list[AnnotatedImage]:
    """The first images with boxes of some words, until each word has a number of boxes.

    Only the boxes of these words are kept.
    """
    have: Counter[str] = Counter()
    found = []
    for image in images:
        rows = [row for row, name in enumerate(image.names) if name in words]
        own = [image.names[row] for row in rows]
        if any(have[name] < most for name in own):
            have.update(own)
            found.append(replace(image, boxes=image.boxes[rows], names=tuple(own)))
    return found


@dataclass(frozen=True)
class Experiment:
    """What all draws share.

    Attributes:
        vocabulary: of the K classes, by their texts.
        images: of the test set.
        regions: of each image.
        pool: of examples.
        leave_one_out: whether the pool is of the test images, so that an image's own regions are no
            examples for it.
    """

    vocabulary: Vocabulary
    images: Sequence[ImageFeatures]
    regions: Sequence[Regions]
    pool: ExamplePool
    leave_one_out: bool

    def figures(
        self,
        parts: Mapping[str, Collection[str]],
        counts: Sequence[int],
        draws: int,
        reporter: Reporter,
        nearest_mean: bool = False,
    ) -> Iterator[ExampleFigures]:
        """Of text alone, and then of each number of examples, the accuracy on parts."""
        for count, has_text in [
            (TEXT, True),
            *((n, text) for n in counts for text in (True, False)),
        ]:
            correct = [
                self.correct(self.pool.draw(seed), count, has_text)
                for seed in range(draws if count else 1)
            ]
            if count and has_text:
                reporter.advance(draws)
            for name, classes in parts.items():
                yield self._figures(name, classes, count, has_text, correct)
        for count in counts if nearest_mean else ():
            correct = [self.nearest_mean(self.pool.draw(seed), count) for seed in range(draws)]
            for name, classes in parts.items():
                found = self._figures(name, classes, count, False, correct)
                yield replace(found, nearest_mean=True)

    def correct(self, pool: ExamplePool, count: int, has_text: bool) -> list[torch.Tensor]:
        """Whether each region (N,) of each image gets its class."""
        column = {name: k for k, name in enumerate(self.vocabulary.names)}
        shared = pool.first(count)
        vocabulary = self.with_examples(pool, shared, has_text)
        found = []
        for number, (image, regions) in enumerate(zip(self.images, self.regions, strict=True)):
            own = vocabulary
            if self.leave_one_out:
                others = pool.first(count, without=number)
                if others != shared:
                    own = self.with_examples(pool, others, has_text)
            target = torch.tensor([column[name] for name in image.names])
            found.append(class_scores(regions, own).argmax(1) == target)
        return found

    def nearest_mean(self, pool: ExamplePool, count: int) -> list[torch.Tensor]:
        """As `correct`, by the cosine with the mean of a class's examples alone.

        The mean is over unit class logits of the encoder, the mean of all examples subtracted.
        """
        every = [regions for found in pool.by_word.values() for _, regions in found]
        centre = torch.cat([_class_logits(each) for each in every]).mean(0)  # (C,)

        def unit(regions: Regions) -> torch.Tensor:
            return F.normalize(_class_logits(regions) - centre, dim=-1)  # (N, C)

        units = {
            word: [unit(regions) for _, regions in found] for word, found in pool.by_word.items()
        }
        found = []
        for number, (image, regions) in enumerate(zip(self.images, self.regions, strict=True)):
            places = pool.first(count, without=number if self.leave_one_out else None)
            words = [word for word in places if places[word]]
            means = [torch.cat([units[word][at] for at in places[word]]).mean(0) for word in words]
            nearest = (unit(regions) @ F.normalize(torch.stack(means), dim=-1).T).argmax(1)  # (N,)
            pairs = zip(nearest.tolist(), image.names, strict=True)
            found.append(torch.tensor([words[row] == name for row, name in pairs]))
        return found

    def with_examples(
        self, pool: ExamplePool, places: Mapping[str, Sequence[int]], has_text: bool
    ) -> Vocabulary:
        """The vocabulary with examples, given by their places in the pool."""
        groups = [
            ExampleRegions(pool.by_image(name, places[name]), [name] if has_text else ())
            if places.get(name)
            else None
            for name in self.vocabulary.names
        ]
        if not any(groups):
            return self.vocabulary
        return with_example_classes(self.vocabulary, groups)

    def _figures(
        self,
        part: str,
        classes: Collection[str],
        count: int,
        has_text: bool,
        correct: Sequence[Sequence[torch.Tensor]],
    ) -> ExampleFigures:
        inside = [torch.tensor([name in classes for name in image.names]) for image in self.images]
        total: Counts = np.array([float(rows.sum()) for rows in inside])
        hits = np.array(
            [
                [float((own & rows).sum()) for own, rows in zip(draw, inside, strict=True)]
                for draw in correct
            ]
        )  # (draws, M)
        kept = total > 0
        with np.errstate(invalid="ignore"):
            by_draw = 100 * hits.sum(1) / total.sum()
        top_1 = accuracy_of(hits.mean(0)[kept], total[kept])
        return ExampleFigures(part, count, has_text, top_1, float(by_draw.std()))


def _class_logits(regions: Regions) -> torch.Tensor:
    """(N, C) float32; of a model without an own classifier the embeddings."""
    logits = regions.class_logits
    return (regions.embedding if logits is None else logits).float()


def examples_table(figures: Sequence[ExampleFigures]) -> Table:
    """Accuracy by classes and number of examples."""
    table = Table(
        *("examples", "text", "boxes of", "boxes", "top-1 %", "± draws"), box=None, pad_edge=False
    )
    for each in figures:
        if not each.top_1.total:
            continue
        count, text = str(each.examples or "none"), "yes" if each.has_text else "no"
        text = "nearest mean" if each.nearest_mean else text
        values = str(each.top_1.total), str(each.top_1), f"{each.deviation:.1f}"
        table.add_row(*cells(count, text, each.classes, *values))
    return table
