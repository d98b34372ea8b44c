"""Accuracy on unseen classes: cross-validation over the classes of a data set.

The classes are dealt into folds. Each fold is left out of a training of its own, and all regions of
the held-out images are then classified among all classes. The constants of `regionspot.zero_shot`
and of `train.zero_shot` were chosen by these metrics.

Axes: N regions, K classes.
"""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.table import Table

from integrations.progress import NullReporter, Reporter
from integrations.vocabulary_file import read_words
from regionspot.checkpoint import TrainedHead
from regionspot.encoders import VisionLanguageEncoder
from regionspot.scoring import RegionScorer
from regionspot.vocabulary import build_vocabulary
from train.config import Recipe, mini
from train.data.coco import load_coco
from train.data.registry import short_name
from train.features.cache import ImageFeatures
from train.features.extract import FeatureExtractor
from train.metrics import region_scores, regions_of, top_k
from train.pretrain import fit
from train.sampler import TrainingSet, hold_out
from train.zero_shot import fit_encoder_adapter


@dataclass(frozen=True)
class Metrics:
    """Classification of the regions of some classes among all classes.

    Attributes:
        boxes: number of regions.
        top_1, top_5: accuracy in percent.
        log_loss: mean negative log-likelihood of the target class.
    """

    boxes: int
    top_1: float
    top_5: float
    log_loss: float


@dataclass(frozen=True)
class Fold:
    """A training without some classes.

    Attributes:
        classes: those that were left out.
        unseen: metrics on the classes that were left out.
        seen: metrics on the classes that were trained on.
    """

    classes: tuple[str, ...]
    unseen: Metrics
    seen: Metrics


def leave_out_of_folder(
    data: Path,
    folds: int,
    distractors: Path | None,
    epochs: int,
    features_of: FeatureExtractor,
    limit: int | None = None,
) -> list[Fold]:
    """`leave_classes_out` on a folder, with the recipe of the preset `mini` without teachers.

    Args:
        data: folder with `instances.json` and `images/`.
        folds: number of class folds.
        distractors: vocabulary file of classes without a region.
        epochs: of each training.
        features_of: extracts features of images; its tally counts what is left out.
        limit: number of the first images; None: all.
    """
    recipe = replace(mini(), teachers=0, epochs=epochs)
    features = features_of(recipe.model, load_coco(data, limit, features_of.tally))
    names = [image.names for image in features]
    classes = tuple(sorted({name for each in names for name in each}))
    every = TrainingSet(short_name(str(data)), features, names, classes)
    others = read_words(distractors, classes).names if distractors else ()
    reporter = features_of.reporter
    return leave_classes_out(recipe, every, features_of.encoder, folds, others, reporter)


def leave_classes_out(
    recipe: Recipe,
    data: TrainingSet,
    encoder: VisionLanguageEncoder,
    folds: int,
    distractors: Collection[str] = (),
    reporter: Reporter | None = None,
) -> list[Fold]:
    """Train without the classes of each fold, and evaluate on the recipe's held-out images.

    Args:
        recipe: of each training.
        data: annotated images.
        encoder: of the recipe's model.
        folds: number of class folds.
        distractors: classes without a region, among which regions are classified too.
        reporter: receives the progress.
    """
    reporter, templates = reporter or NullReporter(), recipe.model.encoder.templates
    training, held_out = hold_out(data, recipe.held_out, recipe.seed)
    every = [*data.classes, *sorted(set(distractors) - set(data.classes))]
    evaluated = []
    for classes in class_folds(data, folds, recipe.seed):
        reporter.message(", ".join(classes))
        kept = [name for name in data.classes if name not in classes]
        features = [
            image.only(rows)
            for image in training.features
            if (rows := [row for row, name in enumerate(image.names) if name in kept])
        ]
        seen = TrainingSet(data.name, features, [each.names for each in features], tuple(kept))
        vocabulary = build_vocabulary(encoder, kept, templates)
        head = fit(recipe, [seen], vocabulary)
        adapter = fit_encoder_adapter([seen], vocabulary, encoder)
        trained = TrainedHead(head, None, tuple(kept), adapter)
        scorer = RegionScorer.of(encoder, trained, templates)
        evaluated.append(_evaluated(recipe, scorer, list(held_out.features), every, classes, kept))
    return evaluated


def class_folds(data: TrainingSet, count: int, seed: int) -> list[tuple[str, ...]]:
    """The classes, dealt at random; the most common one is in no fold, as too little is left then.

    Each fold is in alphabetical order.
    """
    counts = Counter(name for names in data.names for name in names)
    classes = sorted(counts, key=lambda name: (-counts[name], name))[1:]
    random.Random(seed).shuffle(classes)
    return [tuple(sorted(classes[start::count])) for start in range(min(count, len(classes)))]


def _evaluated(
    recipe: Recipe,
    scorer: RegionScorer,
    images: Sequence[ImageFeatures],
    every: Sequence[str],
    unseen: tuple[str, ...],
    seen: Sequence[str],
) -> Fold:
    vocabulary = scorer.vocabulary(every)
    scores = region_scores(scorer, images, vocabulary)
    index = {name: column for column, name in enumerate(vocabulary.names)}

    def metrics(classes: Collection[str]) -> Metrics:
        chosen, some = regions_of(classes, scores, images)
        if not some:
            return Metrics(0, *[float("nan")] * 3)
        target = torch.tensor([index[name] for image in some for name in image.names])
        log_probability = (recipe.logit_scale * torch.cat(chosen)).log_softmax(1)  # (N, K)
        loss = -float(log_probability.gather(1, target[:, None]).mean())
        top_1, top_5 = (top_k(chosen, some, vocabulary, k).value for k in (1, 5))
        return Metrics(len(target), top_1, top_5, loss)

    return Fold(unseen, metrics(unseen), metrics(seen))


def mean_of(folds: Sequence[Fold]) -> Fold:
    """The mean over folds of the same weight; numbers of regions are summed."""

    def mean(each: Sequence[Metrics]) -> Metrics:
        rows = torch.tensor([[one.top_1, one.top_5, one.log_loss] for one in each])
        return Metrics(sum(one.boxes for one in each), *rows.nanmean(0).tolist())

    return Fold(
        tuple(name for fold in folds for name in fold.classes),
        mean([fold.unseen for fold in folds]),
        mean([fold.seen for fold in folds]),
    )


def fold_table(folds: Sequence[Fold]) -> Table:
    """Metrics on seen and unseen classes of each fold, and their means."""
    table = Table(
        *("fold", "classes", "boxes", "top-1 %", "top-5 %", "log loss"), box=None, pad_edge=False
    )
    for number, fold in [*enumerate(folds, 1), ("mean", mean_of(folds))]:
        for group, each in (("unseen", fold.unseen), ("seen", fold.seen)):
            values = f"{each.top_1:.1f}", f"{each.top_5:.1f}", f"{each.log_loss:.3f}"
            table.add_row(str(number), group, str(each.boxes), *values)
    return table
