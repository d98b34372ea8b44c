"""Fits the constants of presence on classes that the head was not trained on, and tests them.

A head is trained without some classes. In the images that its training held out, and in all boxes
of the classes that it has not seen, each region's best word is either right or wrong; a logistic
regression (Platt scaling) estimates which from the evidence of `regionspot.nouns.bank` and the
novelty of the word. So that it does not depend on which words are asked for, the best word is also
taken among random halves of the classes, where the right one is often missing. Labels of seen and
of unseen classes weigh alike. Several heads may be given, of which one was trained on all classes.

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
ROUNDING = 1e-3  # novelty of a class that the head was trained on, at most
FOLDS = 4  # of the unseen classes


@dataclass(frozen=True)
class Answers:
    """The best words of regions.

    Attributes:
        evidence: (N,) for the best word.
        novelty: (N,) of the best word.
        word: (N,) number of the best word among all classes.
        target: (N,) number of the class that the region shows.
        unseen: (N,) whether the best word is a class that the head was not trained on.
        shows_unseen: (N,) whether the region shows one.
    """

    evidence: torch.Tensor
    novelty: torch.Tensor
    word: torch.Tensor
    target: torch.Tensor
    unseen: torch.Tensor
    shows_unseen: torch.Tensor

    @property
    def right(self) -> torch.Tensor:
        """(N,) whether the region shows its best word."""
        return self.word == self.target

    def only(self, rows: torch.Tensor) -> "Answers":
        """Those where a mask (N,) is true."""
        return Answers(*(each[rows] for each in _values(self)))

    @classmethod
    def joined(cls, parts: Sequence["Answers"]) -> "Answers":
        """All of several."""
        return cls(*(torch.cat(each) for each in zip(*map(_values, parts), strict=True)))


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
    checkpoints: Sequence[Path],
    tests: Sequence[Path],
    held_out: float,
    features_of: FeatureExtractor,
    limit: int | None = None,
) -> PresenceFit:
    """Fit the constants of presence and test them on other data.

    Args:
        data: folder that the heads were trained on, with `instances.json` and `images/`.
        checkpoints: heads, of which one at least was trained without some of the data's classes.
        tests: folders to measure the calibration of the first head on.
        held_out: fraction of the images that the training held out.
        features_of: extracts features of images.
        limit: number of the first images; None: all.

    Raises:
        InputError: a folder or checkpoint that cannot be used.
    """
    recipe = mini()
    features = features_of(recipe.model, load_coco(data, limit))
    kept = held_out_images(len(features), held_out, recipe.seed, short_name(str(data)))
    classes = sorted({name for image in features for name in image.names})
    scorers, found = [], []
    for checkpoint in checkpoints:
        trained = load_head(checkpoint, recipe.model)
        scorer = RegionScorer.of(features_of.encoder, trained, recipe.model.encoder.templates)
        seen = frozenset(trained.seen_classes)
        usable = [
            image.only(rows)
            for place, image in enumerate(features)
            if (rows := [r for r, n in enumerate(image.names) if place in kept or n not in seen])
        ]
        scorers.append(scorer)
        found.append(answers(scorer, usable, scorer.vocabulary(classes), HALVES))
    every = Answers.joined(found)
    constants = fit_constants(every)
    calibrations = [calibration_of_left_out(every)]
    for folder in tests:
        dataset = read_folder(folder)
        tested = features_of(recipe.model, list(dataset.images))
        vocabulary = scorers[0].vocabulary(list(dataset.classes))
        of_test = answers(scorers[0], tested, vocabulary, 0)
        calibrations += calibrations_of(folder.name, of_test, constants)
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
    unseen = vocabulary.zero_shot.novelty > ROUNDING
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
                best,
                target,
                unseen[best],
                unseen[target],
            )
        )
    return Answers.joined(rows)


def _values(each: Answers) -> tuple[torch.Tensor, ...]:
    return tuple(vars(each).values())


def fit_constants(found: Answers) -> PresenceConstants:
    """Least log loss, with labels of seen and of unseen classes weighted alike."""
    evidence, novelty = found.evidence, found.novelty
    features = evidence, torch.ones_like(evidence), novelty, novelty * evidence
    columns = torch.stack(features, 1)  # (N, F), in the order of the constants
    number = found.unseen.sum().clamp_min(1), (~found.unseen).sum().clamp_min(1)
    weights = torch.where(found.unseen, 0.5 / number[0], 0.5 / number[1])
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


def calibration_of_left_out(found: Answers, folds: int = FOLDS) -> Calibration:
    """Of labels of unseen classes, by constants that were fitted without these classes.

    The unseen classes are dealt into folds; the constants of a fold are fitted to regions that show
    none of its classes and whose best word is none of them.
    """
    of_word = torch.randperm(
        int(torch.cat([found.word, found.target]).max()) + 1, generator=generator_of(0, "folds")
    ).remainder(folds)
    presence = torch.zeros_like(found.evidence)
    for fold in range(folds):
        tested = found.unseen & (of_word[found.word] == fold)
        shown = found.shows_unseen & (of_word[found.target] == fold)
        constants = fit_constants(found.only(~tested & ~shown))
        presence[tested] = bank_presence(found.evidence, found.novelty, constants)[tested]
    return _calibration("left-out classes", found, presence, found.unseen)


def _calibration(
    title: str, found: Answers, presence: torch.Tensor, rows: torch.Tensor
) -> Calibration:
    """Of some rows (N,) bool."""
    return Calibration(
        title,
        int(rows.sum()),
        100 * float(found.right[rows].float().mean()),
        100 * float(presence[rows].mean()),
        expected_calibration_error(presence[rows], found.right[rows]),
    )


def calibrations_of(name: str, found: Answers, constants: PresenceConstants) -> list[Calibration]:
    """Calibration over all labels, and over those with and of unseen classes."""
    presence = bank_presence(found.evidence, found.novelty, constants)  # (N,)
    everything = torch.ones_like(found.unseen)
    groups = {
        name: everything,
        f"{name}: labels of unseen classes": found.unseen,
        f"{name}: boxes of unseen classes": found.shows_unseen,
    }
    return [
        _calibration(title, found, presence, rows) for title, rows in groups.items() if rows.any()
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
