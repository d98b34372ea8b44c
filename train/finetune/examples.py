"""What the head is taught and what it is held to, from the features of each image.

Axes: B images, N regions, K words, D text width.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from integrations.corrections import ReviewedImage
from regionspot.boxes import FloatArray
from regionspot.config import ModelConfig
from regionspot.encoders import RegionPooler
from regionspot.scoring import RegionScorer, class_scores
from regionspot.types import Regions, Vocabulary
from regionspot.zero_shot import ZeroShotClassifier
from train.data import AnnotatedImage
from train.features.cache import ImageFeatures, Tower, load_features
from train.features.extract import extract
from train.trainer import Batch, collate

OnShard = Callable[[Tower, int, int], None]
UNKNOWN = -1


@dataclass(frozen=True)
class Lesson:
    """One image.

    Attributes:
        features: of its regions, whose names are of no use here and empty.
        target: (N,) the word that a region shall get, `UNKNOWN` where nobody said.
        corrected: (N,) bool, where a person's word was not the model's.
        labelled: (N,) bool, where a person left a model's label alone.
        before: (N, D) the embedding of the head that training begins from, normalised.
        said: (N,) the word that this head gave.
        hold: (N,) how much a region is held to that embedding.
    """

    features: ImageFeatures
    target: torch.Tensor
    corrected: torch.Tensor
    labelled: torch.Tensor
    before: torch.Tensor
    said: torch.Tensor
    hold: torch.Tensor


@dataclass(frozen=True)
class Source:
    """Lessons that choose among the same words.

    Attributes:
        vocabulary: of the scorer that training begins from.
        zero_shot: of that scorer.
    """

    lessons: tuple[Lesson, ...]
    vocabulary: Vocabulary
    zero_shot: ZeroShotClassifier | None = None

    def scores(self, embedding: torch.Tensor, features: torch.Tensor | None) -> torch.Tensor:
        """Scores (N, K) of embeddings (N, D) and region features (N, P + T) with the words."""
        logits = None
        if self.zero_shot and features is not None:
            logits = self.zero_shot.class_logits(features)
        return class_scores(Regions(embedding, class_logits=logits), self.vocabulary)


def reviewed_lessons(
    images: Sequence[ReviewedImage],
    features: Sequence[ImageFeatures],
    scorer: RegionScorer,
    vocabulary: Vocabulary,
) -> Source:
    """Lessons of a person's review; what they did not judge has no target.

    Args:
        scorer: that training begins from.
        vocabulary: its words.
    """
    words = {name: i for i, name in enumerate(vocabulary.names)}
    lessons = []
    for image, given in zip(images, features, strict=True):
        target = torch.tensor([words.get(word, UNKNOWN) for word in image.words])
        (regions,) = scorer.regions([given])
        lessons.append(
            Lesson(
                given,
                target,
                torch.from_numpy(image.corrected),
                torch.tensor([bool(word) for word in image.predicted]) & (target == UNKNOWN),
                regions.embedding,
                class_scores(regions, vocabulary).argmax(1),
                torch.zeros(len(target)),
            )
        )
    return Source(tuple(lessons), vocabulary, scorer.zero_shot)


def held(lessons: Sequence[Lesson], vocabulary: Vocabulary) -> list[Lesson]:
    """Lessons in which what a person did not judge is held to what the head said of it.

    How much it is held follows from how often a person left the same word of the head in the
    images that they touched: fully where they always did, not at all where they changed it as
    often as not. So a word that is always corrected does not stand in the way of the regions that
    nobody has looked at yet.
    """
    trust = _trust(lessons, vocabulary)
    return [
        replace(each, hold=torch.where(each.target == UNKNOWN, trust[each.said], 0.0))
        for each in lessons
    ]


def replayed_lessons(
    images: Sequence[ImageFeatures],
    scorer: RegionScorer,
    vocabulary: Vocabulary,
) -> Source:
    """Lessons of a data set that has its own words: each region is taught it, and is held.

    Args:
        scorer, vocabulary: as of `reviewed_lessons`.
    """
    words = {name: i for i, name in enumerate(vocabulary.names)}
    lessons = []
    for image in images:
        target = torch.tensor([words[name] for name in image.names])
        nowhere = torch.zeros(len(target), dtype=torch.bool)
        given = replace(image, names=("",) * len(target))
        (regions,) = scorer.regions([given])
        said = class_scores(regions, vocabulary).argmax(1)
        hold = torch.ones(len(target))
        lessons.append(Lesson(given, target, nowhere, nowhere, regions.embedding, said, hold))
    return Source(tuple(lessons), vocabulary, scorer.zero_shot)


def _trust(lessons: Sequence[Lesson], vocabulary: Vocabulary) -> torch.Tensor:
    """(K,) from 0, a word that is changed as often as left (one more is counted as left), to 1."""
    kept, seen = Counter[int](), Counter[int]()
    for lesson in lessons:
        judged = lesson.target != UNKNOWN
        if not judged.any():
            continue
        best = lesson.said
        seen.update(best[judged | lesson.labelled].tolist())
        kept.update(best[lesson.labelled | (best == lesson.target)].tolist())
    shares = [(kept[k] + 1) / (seen[k] + 1) for k in range(len(vocabulary))]
    return (2 * torch.tensor(shares) - 1).clamp(min=0)


def batch_of(lessons: Sequence[Lesson]) -> Batch:
    """The features of some lessons, padded to one batch."""
    images = [lesson.features for lesson in lessons]
    return collate(images, [torch.arange(len(i.names)) for i in images], {"": 0})


def review_features(
    config: ModelConfig,
    images: Sequence[ReviewedImage],
    cache: Path,
    workers: int,
    on_shard: OnShard,
    pooler: RegionPooler | None,
) -> tuple[dict[int, ImageFeatures], list[str]]:
    """Features of all regions of each image, computed where the cache lacks them.

    The sampled images, the others, and what a person drew are kept apart, so that one more
    correction does not make the towers look at everything again.

    Returns:
        Features by the image's id, and why images were left out.
    """
    parts: list[dict[int, ImageFeatures]] = []
    skipped: dict[int, str] = {}
    for some in (
        [_annotated(image, image.proposals) for image in images if image.sampled],
        [_annotated(image, image.proposals) for image in images if not image.sampled],
        [_annotated(image, image.drawn) for image in images],
    ):
        some = [image for image in some if len(image.boxes)]
        if not some:
            continue
        reasons = extract(config, some, cache, workers, on_shard)
        skipped |= {some[row].id: reason for row, reason in reasons.items()}
        left = [image.id for row, image in enumerate(some) if row not in reasons]
        parts.append(dict(zip(left, load_features(config, some, cache, pooler), strict=True)))
    found = {
        image.id: _joined([part[image.id] for part in parts if image.id in part])
        for image in images
        if image.id not in skipped
    }
    return found, list(skipped.values())


def _annotated(image: ReviewedImage, boxes: FloatArray) -> AnnotatedImage:
    names = ("",) * len(boxes)
    return AnnotatedImage(image.id, image.path, image.width, image.height, boxes, names)


def _joined(parts: Sequence[ImageFeatures]) -> ImageFeatures:
    """The features of one image whose boxes were looked at in several parts."""
    return replace(
        parts[0],
        names=tuple(name for part in parts for name in part.names),
        tokens=torch.cat([part.tokens for part in parts]),
        pooled=cat_known([part.pooled for part in parts]),
        prior=cat_known([part.prior for part in parts]),
    )


def cat_known(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """The parts that are known, one below the other; None where none is."""
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None
