"""Fits the constants of presence on classes that the head was not trained on, and tests them.

A head is trained without some classes. In the images that its training held out, and in all boxes
of the classes that it has not seen, each region's best word is either right or wrong; a logistic
regression (Platt scaling) estimates which from the evidence of `regionspot.nouns.bank` and the
novelty of the word. So that it does not depend on which words are asked for, the best word is also
taken among random halves of the classes, where the right one is often missing. Seen and unseen
classes weigh alike.

Axes: N regions, K classes, F features of the regression, E bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch.nn import functional as F

from regionspot.checkpoint import load_head
from regionspot.nouns.bank import PresenceConstants, bank_presence
from regionspot.scoring import RegionScorer, noun_evidence
from regionspot.types import Vocabulary
from train.config import mini
from train.data.coco import load_coco, read_folder
from train.data.registry import short_name
from train.features.cache import ImageFeatures
from train.features.extract import FeatureExtractor
from train.metrics import embedded, region_scores
from train.sampler import generator_of, held_out_images

HALVES = 4  # random halves of the classes
BINS = 10


@dataclass(frozen=True)
class Answers:
    """The best words of regions.

    Attributes:
        evidence: (N,) for the best word.
        novelty: (N,) of the best word.
        right: (N,) whether the region shows it.
        unseen: (N,) whether the best word is a class that the head was not trained on.
        shows_unseen: (N,) whether the region shows one.
    """

    evidence: torch.Tensor
    novelty: torch.Tensor
    right: torch.Tensor
    unseen: torch.Tensor
    shows_unseen: torch.Tensor


@dataclass(frozen=True)
class Calibration:
    """How well presence agrees with how often labels are right.

    Attributes:
        name: which labels.
        labels: their number.
        accuracy: in percent.
        presence: mean, in percent.
        ece: expected calibration error over ten bins of equal width, in [0, 1].
    """

    name: str
    labels: int
    accuracy: float
    presence: float
    ece: float


@dataclass(frozen=True)
class PresenceFit:
    """What `fit_presence` found.

    Attributes:
        constants: fitted.
        calibrations: of the fitted constants.
    """

    constants: PresenceConstants
    calibrations: tuple[Calibration, ...]


def fit_presence(
    data: Path,
    checkpoint: Path,
    tests: Sequence[Path],
    held_out: float,
    features_of: FeatureExtractor,
) -> PresenceFit:
    """Fit the constants of presence and test them on other data.

    Args:
        data: folder that the head was trained on, with `instances.json` and `images/`.
        checkpoint: a head that was trained without some of the data's classes.
        tests: folders to measure the calibration on.
        held_out: fraction of the images that the training held out.
        features_of: extracts features of images.

    Raises:
        InputError: a folder or checkpoint that cannot be used.
    """
    recipe = mini()
    trained = load_head(checkpoint, recipe.model)
    scorer = RegionScorer.of(features_of.encoder, trained, recipe.model.encoder.templates)
    seen = frozenset(trained.seen_classes)
    features = features_of(recipe.model, load_coco(data))
    kept = held_out_images(len(features), held_out, recipe.seed, short_name(str(data)))
    usable = [
        image.only(rows)
        for place, image in enumerate(features)
        if (rows := [r for r, n in enumerate(image.names) if place in kept or n not in seen])
    ]
    classes = sorted({name for image in features for name in image.names})
    constants = fit_constants(answers(scorer, usable, scorer.vocabulary(classes), HALVES))
    calibrations = []
    for folder in tests:
        dataset = read_folder(folder)
        tested = features_of(recipe.model, list(dataset.images))
        found = answers(scorer, tested, scorer.vocabulary(list(dataset.classes)), 0)
        calibrations += calibrations_of(folder.name, found, constants)
    return PresenceFit(constants, tuple(calibrations))


@torch.inference_mode()
def answers(
    scorer: RegionScorer, images: Sequence[ImageFeatures], vocabulary: Vocabulary, halves: int
) -> Answers:
    """Each region's best word among all, and among as many random halves of the words.

    Args:
        scorer: of the head.
        images: with the classes of their regions.
        vocabulary: K words, as the scorer embeds them.
        halves: how many.
    """
    assert vocabulary.bank is not None
    assert vocabulary.zero_shot is not None
    scores = torch.cat(region_scores(scorer, images, vocabulary))  # (N, K)
    scale = scorer.calibration.logit_scale
    found = torch.cat(
        [
            noun_evidence(regions, each, vocabulary.bank, scale)
            for regions, each in zip(
                embedded(scorer, images),
                torch.split(scores, [len(i.names) for i in images]),
                strict=True,
            )
        ]
    )
    column = {name: k for k, name in enumerate(vocabulary.names)}
    target = torch.tensor([column[name] for image in images for name in image.names])
    unseen = vocabulary.zero_shot.novelty > 0
    generator = generator_of(0, "halves")
    rows = []
    for number in range(1 + halves):
        chance = torch.rand(scores.shape, generator=generator)
        asked = chance < 0.5 if number else torch.ones_like(scores, dtype=torch.bool)
        best = scores.masked_fill(~asked, -torch.inf).argmax(1)  # (N,)
        rows.append(
            Answers(
                found.gather(1, best[:, None])[:, 0],
                vocabulary.zero_shot.novelty[best],
                best == target,
                unseen[best],
                unseen[target],
            )
        )
    return Answers(*(torch.cat(parts) for parts in zip(*map(_values, rows), strict=True)))


def _values(each: Answers) -> tuple[torch.Tensor, ...]:
    return each.evidence, each.novelty, each.right, each.unseen, each.shows_unseen


def fit_constants(found: Answers) -> PresenceConstants:
    """Least log loss, with regions of seen and of unseen classes weighted alike."""
    columns = torch.stack([found.evidence, torch.ones_like(found.evidence), found.novelty], 1)
    number = found.shows_unseen.sum().clamp_min(1), (~found.shows_unseen).sum().clamp_min(1)
    weights = torch.where(found.shows_unseen, 0.5 / number[0], 0.5 / number[1])
    constants = torch.zeros(columns.shape[1], requires_grad=True)  # (F,)
    optimizer = torch.optim.LBFGS([constants], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(
            columns.clone() @ constants,
            found.right.float(),
            weight=weights.clone(),
            reduction="sum",
        )
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return PresenceConstants(*constants.tolist())


def calibrations_of(name: str, found: Answers, constants: PresenceConstants) -> list[Calibration]:
    """Calibration over all labels, and over those with and of unseen classes."""
    presence = bank_presence(found.evidence, found.novelty, constants)  # (N,)
    everything = torch.ones_like(found.right)
    groups = {
        name: everything,
        f"{name}: labels of unseen classes": found.unseen,
        f"{name}: boxes of unseen classes": found.shows_unseen,
    }
    return [
        Calibration(
            title,
            int(rows.sum()),
            100 * float(found.right[rows].float().mean()),
            100 * float(presence[rows].mean()),
            expected_calibration_error(presence[rows], found.right[rows]),
        )
        for title, rows in groups.items()
        if rows.any()
    ]


def expected_calibration_error(presence: torch.Tensor, right: torch.Tensor) -> float:
    """In [0, 1], over bins of equal width (Guo et al. 2017, arXiv 1706.04599, equation 3).

    Args:
        presence: (N,) in [0, 1].
        right: (N,) bool.
    """
    place = (presence * BINS).long().clamp(max=BINS - 1)
    gap = (presence - right.float()).double()
    sums = torch.zeros(BINS, dtype=torch.float64).index_add(0, place, gap)  # (E,)
    return float(sums.abs().sum() / len(presence))


def presence_table(fit: PresenceFit) -> Table:
    """The calibration of presence on each data set."""
    table = Table("labels", "number", "right %", "presence %", "ECE", box=None, pad_edge=False)
    for each in fit.calibrations:
        values = f"{each.accuracy:.1f}", f"{each.presence:.1f}", f"{each.ece:.3f}"
        table.add_row(each.name, str(each.labels), *values)
    return table
