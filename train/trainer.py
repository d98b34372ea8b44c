"""The training loop over cached features.

Axes: B images, N regions, R regions of a batch, K words, D text width.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from regionspot.checkpoint import load_head
from regionspot.config import fast_dtype
from regionspot.errors import InputError
from regionspot.head import RegionHead
from regionspot.types import Vocabulary
from train.batch import Batch as Batch
from train.batch import Reader
from train.batch import collate as collate
from train.checkpoint import STATE, fingerprint, load_state, save_state
from train.config import Recipe
from train.distributed import Processes, unshared
from train.losses import Words, region_loss, teacher_loss, word_weights
from train.sampler import Sampler, TrainingSet, seed_of

ALONE = Processes(torch.device("cpu"))


class Observer:
    """What is told of a training as it goes; this one is told and does nothing."""

    def stepped(self, done: int, loss: float, rate: float, gradient_norm: float) -> None:
        """Steps done, and of the last one: mean loss, learning rate, norm before clipping."""

    def evaluated(self, done: int, head: RegionHead) -> None:
        """Steps done, and the head as it would be kept now, in evaluation mode."""


def fit(
    recipe: Recipe,
    sets: Sequence[TrainingSet],
    vocabulary: Vocabulary,
    run: Path | None = None,
    processes: Processes = ALONE,
    observer: Observer | None = None,
) -> RegionHead:
    """Train a head.

    The same recipe and data give the same weights on the same machine, also where the training was
    stopped at any moment and goes on from its run folder. The number of processes changes only
    the order of sums and the regions that dropout takes.

    Args:
        vocabulary: the words of all data sets; every region's name is one of them.
        run: folder of the state that a stopped training goes on from; None to keep none.

    Returns:
        The trained head in evaluation mode, on the CPU; of averaged weights where the recipe
        averages.

    Raises:
        InputError: a recipe that does not fit the data or the processes, a state of another
            training, or a loss that is not finite; nothing was stepped with it.
    """
    sampler = Sampler(sets, recipe.seed, recipe.repeat_threshold)
    recipe = resolved(recipe, sampler, processes)
    reader = Reader(
        recipe,
        sets,
        [Words.of(data, vocabulary) for data in sets],
        sampler,
        processes.rank,
        processes.count,
    )
    device = processes.device
    words = vocabulary.embedding.to(device)
    weights = word_weights(sets, vocabulary, recipe.balance).to(device)
    head = first_head(recipe).to(device)
    average = copy.deepcopy(head).requires_grad_(False) if recipe.ema else head
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=recipe.weight_decay)
    data = fingerprint(sets)
    done = load_state(run / STATE, head, average, optimizer, recipe, data) if run else 0
    module = processes.share(head)
    observer = observer if observer and processes.is_first else Observer()

    for step, batches in reader.ahead(done, recipe.iterations):
        torch.manual_seed(seed_of(recipe.seed, "dropout", step, processes.rank))
        rate = learning_rate(recipe, step)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        head.train()
        sums = torch.zeros(2, device=device)
        for batch in batches:
            with unshared(module, is_last=batch is batches[-1]):
                sums += backward(recipe, batch.to(device), module, words, weights)
        loss, weight = processes.add_up(sums).tolist()
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} in step {step + 1}; lower the learning rate ({rate:.2g} "
                "there) or look for broken features"
            )
        # The gradients are of a sum over regions; DDP has divided them by its processes.
        for parameter in head.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(processes.count / weight)
        norm = nn.utils.clip_grad_norm_(head.parameters(), recipe.gradient_norm)
        optimizer.step()
        if average is not head:
            follow(average, head, recipe.ema, step)

        done = step + 1
        observer.stepped(done, loss / weight, rate, norm.item())
        is_last = done == recipe.iterations
        if run and processes.is_first and (is_last or done % recipe.save_every == 0):
            save_state(run / STATE, done, head, average, optimizer, recipe, data)
        if is_last or done % recipe.evaluate_every == 0:
            observer.evaluated(done, average.eval())
    return average.cpu().eval().requires_grad_(False)


def resolved(recipe: Recipe, sampler: Sampler, processes: Processes) -> Recipe:
    """A recipe with nothing left open: steps instead of passes, and the precision chosen.

    Raises:
        InputError: the images of a step cannot be shared out evenly.
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


def first_head(recipe: Recipe) -> RegionHead:
    """The head that a recipe starts from: of seeded weights, or out of a checkpoint.

    Raises:
        InputError: no such checkpoint, or one of another model.
    """
    if recipe.start:
        return load_head(Path(recipe.start), recipe.model).head.requires_grad_(True)
    torch.manual_seed(recipe.seed)
    return RegionHead(recipe.model.head)


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of a step, counted from 0, of a recipe whose iterations are known."""
    rising = min(1.0, (step + 1) / max(1.0, recipe.warmup_steps))
    if recipe.schedule == "steps":
        falling = 0.1 ** sum(step >= drop for drop in recipe.drops)
    else:
        left = max(1.0, recipe.iterations - recipe.warmup_steps)
        share = max(0.0, step - recipe.warmup_steps) / left
        falling = (1 + math.cos(math.pi * share)) / 2
    return recipe.learning_rate * rising * falling


def backward(
    recipe: Recipe,
    batch: Batch,
    module: nn.Module,
    words: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Add a batch's gradients to the head's.

    Args:
        module: the head, or the head shared among processes.
        words: (K, D) embeddings, L2-normalised.
        weights: (K,) of the words.

    Returns:
        (2,) the loss summed over regions, and the sum of the regions' weights.
    """
    assert batch.counted is not None
    is_half = recipe.precision == "bfloat16"
    with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=is_half):
        embedding = batch.embed(module)
    is_region = batch.target >= 0
    region, target = F.normalize(embedding[is_region].float(), dim=-1), batch.target[is_region]
    loss, weight = region_loss(recipe, region @ words.T, target, batch.counted, weights)
    if batch.taught is not None:
        taught = batch.taught[is_region]
        held = teacher_loss(recipe, region, taught, words, batch.counted, weights[target])
        loss = (1 - recipe.teaching) * loss + recipe.teaching * held
    torch.autograd.backward(loss)
    return torch.stack([loss.detach(), weight])


@torch.no_grad()
def follow(average: RegionHead, head: RegionHead, decay: float, step: int) -> None:
    """Move averaged weights towards the head's; in the first steps by more, so as to forget."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    for slow, fast in zip(average.parameters(), head.parameters(), strict=True):
        slow.lerp_(fast, share)
