"""What the head is taught and what it is held to, from the features of each image.

Axes: B images, N regions, K words, D text width.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from integrations.corrections import ReviewedImage
from regionspot.boxes import FloatArray
from regionspot.config import ModelConfig
from regionspot.head import RegionHead
from regionspot.types import Vocabulary
from regionspot.zero_shot import UnseenWords, word_cosines
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
        vocabulary: the words, widened where there is `unseen`.
        unseen: how words that the head was not trained on are scored; None: as all others.
    """

    lessons: tuple[Lesson, ...]
    vocabulary: Vocabulary
    unseen: UnseenWords | None = None


def reviewed_lessons(
    images: Sequence[ReviewedImage],
    features: Sequence[ImageFeatures],
    head: RegionHead,
    vocabulary: Vocabulary,
    unseen: UnseenWords | None = None,
) -> Source:
    """Lessons of a person's review; what they did not judge has no target.

    Args:
        vocabulary, unseen: as of `Source`.
    """
    words = {name: i for i, name in enumerate(vocabulary.names)}
    lessons = []
    for image, given in zip(images, features, strict=True):
        target = torch.tensor([words.get(word, UNKNOWN) for word in image.words])
        before = embed([given], head)[0]
        lessons.append(
            Lesson(
                given,
                target,
                torch.from_numpy(image.corrected),
                torch.tensor([bool(word) for word in image.predicted]) & (target == UNKNOWN),
                before,
                word_cosines(before, given.looks, vocabulary, unseen).argmax(1),
                torch.zeros(len(target)),
            )
        )
    return Source(tuple(lessons), vocabulary, unseen)


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
    head: RegionHead,
    vocabulary: Vocabulary,
    unseen: UnseenWords | None = None,
) -> Source:
    """Lessons of a data set that has its own words: each region is taught it, and is held.

    Args:
        vocabulary, unseen: as of `Source`.
    """
    words = {name: i for i, name in enumerate(vocabulary.names)}
    lessons = []
    for image in images:
        target = torch.tensor([words[name] for name in image.names])
        nowhere = torch.zeros(len(target), dtype=torch.bool)
        given = replace(image, names=("",) * len(target))
        before = embed([given], head)[0]
        said = word_cosines(before, given.looks, vocabulary, unseen).argmax(1)
        hold = torch.ones(len(target))
        lessons.append(Lesson(given, target, nowhere, nowhere, before, said, hold))
    return Source(tuple(lessons), vocabulary, unseen)


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


@torch.inference_mode()
def embed(images: Sequence[ImageFeatures], head: RegionHead) -> list[torch.Tensor]:
    """(N, D) normalised embeddings of each image's regions, each image for itself."""
    found = []
    for image in images:
        batch = collate([image], [torch.arange(len(image.names))], dict.fromkeys(image.names, 0))
        found.append(F.normalize(batch.embed(head)[0].float().cpu(), dim=-1).clone())
    return found


def review_features(
    config: ModelConfig,
    images: Sequence[ReviewedImage],
    cache: Path,
    workers: int,
    on_shard: OnShard,
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
        parts.append(dict(zip(left, load_features(config, some, cache), strict=True)))
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
