"""Trains a head on annotated data sets, where the recipe says so with the help of teachers.

The mean of heads that differ in their seeds, the teachers, is more accurate than each; a head
distilled from it gains most of that (Hinton et al. 2015, "Distilling the knowledge in a neural
network", arXiv 1503.02531).

Axes: N regions, K classes, D text width.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

from integrations.progress import NullReporter, Reporter
from regionspot.checkpoint import load_head
from regionspot.config import fast_dtype
from regionspot.errors import InputError
from regionspot.head import RegionHead
from regionspot.types import Vocabulary
from train.callbacks import Monitor
from train.config import Recipe
from train.data.dataset import LazySequence
from train.distributed import Processes
from train.features.cache import ImageFeatures
from train.losses import PretrainingObjective
from train.sampler import Sampler, TrainingSet, seed_of
from train.trainer import SINGLE_PROCESS, STATE, Callback, run_loop


def fit(
    recipe: Recipe,
    sets: Sequence[TrainingSet],
    vocabulary: Vocabulary,
    run: Path | None = None,
    processes: Processes = SINGLE_PROCESS,
    callback: Callback | None = None,
) -> RegionHead:
    """Train a head on annotated data sets.

    The same recipe and data give the same weights on the same machine, also where the training was
    stopped at any moment and resumed from its run folder. The number of processes changes only the
    order of sums and the regions that dropout takes.

    Args:
        recipe: settings, `iterations` or `epochs` among them.
        sets: of features and classes.
        vocabulary: the classes of all data sets; (K, D) embeddings.
        run: as of `run_loop`.
        processes: as of `run_loop`.
        callback: as of `run_loop`.

    Returns:
        As of `run_loop`.

    Raises:
        InputError: a recipe that does not fit the data or the processes, or as of `run_loop`.
    """
    sampler = Sampler(sets, recipe.seed, recipe.repeat_threshold)
    recipe = resolved(recipe, sampler, processes)
    objective = PretrainingObjective(recipe, sets, vocabulary, sampler, processes)
    head = initial_head(recipe).to(processes.device)
    return run_loop(recipe, head, objective, run, processes, callback)


def resolved(recipe: Recipe, sampler: Sampler, processes: Processes) -> Recipe:
    """A recipe with steps instead of passes, and the precision chosen.

    Raises:
        InputError: the images of a step cannot be divided evenly.
    """
    parts = processes.count * recipe.accumulate
    if recipe.images_per_step % parts:
        raise InputError(
            f"images_per_step must be a multiple of {parts}, {processes.count} processes times "
            f"{recipe.accumulate} parts, got {recipe.images_per_step}"
        )
    a_pass = math.ceil(sampler.images_a_pass / recipe.images_per_step)
    precision = recipe.precision
    if precision == "auto":
        is_half = fast_dtype(processes.device) == torch.bfloat16
        precision = "bfloat16" if is_half else "float32"
    return replace(
        recipe,
        iterations=recipe.iterations or recipe.epochs * a_pass,
        epochs=0,
        evaluate_every=recipe.evaluate_every or a_pass,
        precision=precision,
    )


def initial_head(recipe: Recipe) -> RegionHead:
    """The head that a recipe starts from: randomly initialised, or of a checkpoint.

    Raises:
        InputError: no such checkpoint, or one of another model.
    """
    if recipe.start:
        return load_head(Path(recipe.start), recipe.model).head.requires_grad_(True)
    torch.manual_seed(recipe.seed)
    return RegionHead(recipe.model.head)


def distilled_sets(
    recipe: Recipe,
    training: Sequence[TrainingSet],
    vocabulary: Vocabulary,
    run: Path,
    is_fresh: bool,
    processes: Processes,
    reporter: Reporter,
) -> list[TrainingSet]:
    """The data sets with the embeddings of the recipe's teachers, which are trained first.

    Each teacher has a folder in the run folder, and resumes where it was stopped.
    """
    if not recipe.teachers:
        return list(training)
    teachers = []
    sampler = Sampler(training, recipe.seed, recipe.repeat_threshold)
    plain = replace(recipe, teachers=0, epochs=recipe.teacher_epochs, iterations=0)
    plain = resolved(plain, sampler, processes)
    for number in range(1, recipe.teachers + 1):
        teacher = replace(plain, seed=seed_of(recipe.seed, "teacher", number) % 2**31)
        folder = run / f"teacher-{number}"
        if is_fresh and processes.is_first:
            (folder / STATE).unlink(missing_ok=True)
        processes.barrier()
        reporter.message(f"teacher {number} of {recipe.teachers}")
        with Monitor(reporter, teacher.iterations, (), vocabulary) as monitor:
            teachers.append(fit(teacher, training, vocabulary, folder, processes, monitor))
    return with_teacher_embeddings(training, teachers, reporter)


class TeacherFeatures(LazySequence[ImageFeatures]):
    """Images with the teachers' mean embedding of each region, of which 4 D bytes a region are kept
    in memory."""

    def __init__(
        self, features: Sequence[ImageFeatures], teachers: Sequence[RegionHead], reporter: Reporter
    ) -> None:
        self.features = features
        self.embeddings: list[torch.Tensor] = []
        for row in range(len(features)):
            regions = [teacher.regions([features[row]])[0] for teacher in teachers]
            mean = torch.stack([each.embedding for each in regions]).mean(0)  # (N, D)
            self.embeddings.append(F.normalize(mean, dim=-1))
            reporter.advance()

    def __len__(self) -> int:
        return len(self.features)

    def _at(self, row: int) -> ImageFeatures:
        return replace(self.features[row], teacher_embedding=self.embeddings[row])


def with_teacher_embeddings(
    sets: Sequence[TrainingSet],
    teachers: Sequence[RegionHead],
    reporter: Reporter | None = None,
) -> list[TrainingSet]:
    """Data sets whose regions also have the teachers' mean embedding."""
    reporter = reporter or NullReporter()
    reporter.start("teacher embeddings", sum(map(len, sets)))
    return [replace(s, features=TeacherFeatures(s.features, teachers, reporter)) for s in sets]
