"""How well words are found that the head was not trained on: trainings that leave words out.

The words of a data set are dealt into parts. Each part is left out of a training of its own, and
all boxes of the held-out images are then compared with all words. The constants of
`regionspot.zero_shot` and how the image tower's classifier is adapted to boxes were chosen by
figures like these.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from regionspot.checkpoint import TrainedHead
from regionspot.encoders import VisionLanguageEncoder
from regionspot.scoring import RegionScorer
from regionspot.vocabulary import build_vocabulary
from train.config import Recipe
from train.features.cache import ImageFeatures
from train.metrics import boxes_of, region_scores, top_k
from train.run import adapted
from train.sampler import TrainingSet, hold_out
from train.trainer import fit

OnPart = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class Found:
    """Boxes of some words, compared with all.

    Attributes:
        top_1, top_5: percent of them.
        log_loss: mean of minus the logarithm of the own word's share.
    """

    boxes: int
    top_1: float
    top_5: float
    log_loss: float


@dataclass(frozen=True)
class Part:
    """What a training without some words makes of these and of the others."""

    words: tuple[str, ...]
    left_out: Found
    trained: Found


def leave_out(
    recipe: Recipe,
    data: TrainingSet,
    encoder: VisionLanguageEncoder,
    parts: int,
    beside: Collection[str] = (),
    on_part: OnPart = lambda words: None,
) -> list[Part]:
    """Train without each part of the words, and measure on the recipe's held-out share of images.

    Args:
        beside: words to choose among that no box bears.
        on_part: told the words before each training.
    """
    training, held_out = hold_out(data, recipe.held_out, recipe.seed)
    every = [*data.words, *sorted(set(beside) - set(data.words))]
    templates = recipe.model.encoder.templates
    measured = []
    for words in parts_of(data, parts, recipe.seed):
        on_part(words)
        kept = [word for word in data.words if word not in words]
        features = [
            image.only(rows)
            for image in training.features
            if (rows := [row for row, name in enumerate(image.names) if name in kept])
        ]
        some = TrainingSet(data.name, features, [each.names for each in features], tuple(kept))
        vocabulary = build_vocabulary(encoder, kept, templates)
        head = fit(recipe, [some], vocabulary)
        adapter = adapted(encoder.pooler, [some], vocabulary)
        scorer = RegionScorer.of(encoder, TrainedHead(head, None, tuple(kept), adapter), templates)
        measured.append(_measured(recipe, scorer, list(held_out.features), every, words, kept))
    return measured


def parts_of(data: TrainingSet, count: int, seed: int) -> list[tuple[str, ...]]:
    """The words, dealt by the seed. The most common one is in no part: too little is left without.

    Each part is in alphabetical order.
    """
    counts = Counter(name for names in data.names for name in names)
    words = sorted(counts, key=lambda word: (-counts[word], word))[1:]
    random.Random(seed).shuffle(words)
    return [tuple(sorted(words[start::count])) for start in range(min(count, len(words)))]


def _measured(
    recipe: Recipe,
    scorer: RegionScorer,
    images: Sequence[ImageFeatures],
    every: Sequence[str],
    words: tuple[str, ...],
    kept: Sequence[str],
) -> Part:
    vocabulary = scorer.vocabulary(every)
    scores = region_scores(scorer.regions, images, vocabulary)
    index = {name: k for k, name in enumerate(vocabulary.names)}

    def found(words: Collection[str]) -> Found:
        some, chosen = boxes_of(scores, images, words)
        if not some:
            return Found(0, *[float("nan")] * 3)
        target = torch.tensor([index[name] for image in chosen for name in image.names])
        shares = (recipe.logit_scale * torch.cat(some)).log_softmax(1)
        loss = -float(shares.gather(1, target[:, None]).mean())
        top_1, top_5 = (top_k(some, chosen, vocabulary, k).value for k in (1, 5))
        return Found(len(target), top_1, top_5, loss)

    return Part(words, found(words), found(kept))


def mean_of(parts: Sequence[Part]) -> Part:
    """All parts weighing the same, boxes added up."""

    def mean(found: Sequence[Found]) -> Found:
        rows = torch.tensor([[each.top_1, each.top_5, each.log_loss] for each in found])
        return Found(sum(each.boxes for each in found), *rows.nanmean(0).tolist())

    return Part(
        tuple(word for part in parts for word in part.words),
        mean([part.left_out for part in parts]),
        mean([part.trained for part in parts]),
    )
