"""The training loop: the only one, for training on cached features and for fine-tuning on a review.

Axes: K classes, D text width.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import nn

from integrations.progress import Reporter
from regionspot.checkpoint import load_head
from regionspot.config import fast_dtype
from regionspot.errors import InputError
from regionspot.head import RegionHead
from regionspot.types import Vocabulary
from train.batch import LabelSpace, Reader
from train.checkpoint import STATE, fingerprint, load_state, save_state
from train.config import LoopConfig, Recipe
from train.distributed import Processes, no_sync
from train.losses import RegionLoss, class_frequency, class_weights
from train.sampler import Sampler, TrainingSet, seed_of

SINGLE_PROCESS = Processes(torch.device("cpu"))
B = TypeVar("B")


class Objective(Protocol[B]):
    """The data and the loss of a training.

    Attributes:
        dropout: whether the head's dropout is active.
        fingerprint: digest of the data, which a resumed training must share.
    """

    dropout: bool

    @property
    def fingerprint(self) -> str:
        """See the class."""

    def batches(self, first: int, last: int) -> Iterator[Sequence[B]]:
        """The batches of each step from the first up to the last, exclusive."""

    def loss(self, head: nn.Module, batch: B) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch's summed loss, and its part of what the step's sum is divided by; scalars."""


class Callback:
    """What the loop calls as it goes; this one does nothing."""

    def on_step(self, done: int, loss: float, rate: float, gradient_norm: float) -> None:
        """Called with the number of steps done, and the mean loss, learning rate and L2 norm of
        the unclipped gradient of the last one."""

    def on_evaluation(self, done: int, head: RegionHead) -> None:
        """Called after `evaluate_every` steps with the head in evaluation mode."""


class ProgressCallback(Callback):
    """Reports steps and loss."""

    def __init__(self, reporter: Reporter, task: str, iterations: int) -> None:
        self.reporter, self.task, self.iterations = reporter, task, iterations
        self._is_started = False

    def on_step(self, done: int, loss: float, rate: float, gradient_norm: float) -> None:  # noqa: ARG002
        """Report the step."""
        if not self._is_started:
            self.reporter.start(self.task, self.iterations, done - 1)
            self._is_started = True
        self.reporter.advance(detail=f"loss {loss:.3f}")


def run_loop(
    config: LoopConfig,
    head: RegionHead,
    objective: Objective[B],
    run: Path | None = None,
    processes: Processes = SINGLE_PROCESS,
    callback: Callback | None = None,
) -> RegionHead:
    """Minimise an objective; resumes from the checkpoint in the run folder.

    Args:
        config: with `iterations` and `evaluate_every` known.
        head: on the processes' device; its weights are changed.
        objective: data and loss.
        run: folder of the training's checkpoint; None for no checkpoint.
        processes: that share the work.
        callback: called after steps and evaluations.

    Returns:
        The trained head in evaluation mode, on the CPU; with averaged weights where the
        configuration asks for them.

    Raises:
        InputError: a checkpoint of another training, or a loss that is not finite; the weights
            were not updated with it.
    """
    average = copy.deepcopy(head).requires_grad_(False) if config.ema else head
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=config.weight_decay)
    data = objective.fingerprint
    first = load_state(run / STATE, head, average, optimizer, config, data) if run else 0
    module = processes.wrap(head)
    callback = callback if callback and processes.is_first else Callback()

    for step, batches in enumerate(objective.batches(first, config.iterations), first):
        torch.manual_seed(seed_of(config.seed, "dropout", step, processes.rank))
        rate = learning_rate(config, step)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        head.train(objective.dropout)
        sums = torch.zeros(2, device=processes.device)
        for batch in batches:
            with no_sync(module, is_last=batch is batches[-1]):
                loss, weight = objective.loss(module, batch)
                torch.autograd.backward(loss)
                sums += torch.stack([loss.detach(), weight])
        total, divisor = processes.all_reduce(sums).tolist()
        if not math.isfinite(total):
            raise InputError(
                f"the loss is {total} in step {step + 1}; lower the learning rate ({rate:.2g} "
                "there) or look for broken features"
            )
        # The gradients are of a sum over regions; DDP has divided them by its processes.
        for parameter in head.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(processes.count / divisor)
        norm = nn.utils.clip_grad_norm_(head.parameters(), config.gradient_norm)
        optimizer.step()
        if average is not head:
            update_average(average, head, config.ema, step)

        done = step + 1
        callback.on_step(done, total / divisor, rate, norm.item())
        is_last = done == config.iterations
        if run and processes.is_first and (is_last or done % config.save_every == 0):
            save_state(run / STATE, done, head, average, optimizer, config, data)
        if is_last or done % config.evaluate_every == 0:
            callback.on_evaluation(done, average.eval())
    return average.cpu().eval().requires_grad_(False)


def learning_rate(config: LoopConfig, step: int) -> float:
    """The learning rate of a step, counted from 0; `iterations` must be known."""
    warmup = min(1.0, (step + 1) / max(1.0, config.warmup_steps))
    if config.schedule == "steps":
        decay = 0.1 ** sum(step >= drop for drop in config.drops)
    else:
        left = max(1.0, config.iterations - config.warmup_steps)
        progress = max(0.0, step - config.warmup_steps) / left
        decay = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * warmup * decay


@torch.no_grad()
def update_average(average: RegionHead, head: RegionHead, decay: float, step: int) -> None:
    """Exponential moving average of the weights, with a smaller decay in the first steps.

    Not `timm.utils.ModelEmaV3`: its arithmetic would change the weights of trained heads.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for slow, fast in zip(average.parameters(), head.parameters(), strict=True):
        slow.lerp_(fast, weight)


class PretrainingObjective:
    """Regions of annotated data sets against their classes, with the loss of a recipe.

    Args:
        vocabulary: K classes, those of all data sets.
    """

    dropout = True

    def __init__(
        self,
        recipe: Recipe,
        sets: Sequence[TrainingSet],
        vocabulary: Vocabulary,
        sampler: Sampler,
        processes: Processes,
    ) -> None:
        spaces = [LabelSpace.of(data.classes, data.ancestors, vocabulary) for data in sets]
        reader = Reader(recipe, sets, spaces, sampler, processes.rank, processes.count)
        weights = class_weights(class_frequency(sets, vocabulary), recipe.balance)
        device = processes.device
        self.fingerprint = fingerprint(sets)
        self.batches = reader.prefetched
        self.loss = RegionLoss(recipe, vocabulary.embedding.to(device), weights.to(device))


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
