"""Fine-tuning the head on a person's review, so that it learns that and forgets nothing else.

A step sees some reviewed images, as many that nobody touched, and as many of each replayed data
set. Regions with a word learn it by cross-entropy over the words of their own set; the others are
held to the embedding that the head gave them before, which keeps their words, whatever is asked
for, and the meaning of the scores.

Axes: B images, N regions, R regions of all images of a batch, K words, D text width.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from regionspot.errors import InputError
from regionspot.head import RegionHead
from train.finetune.examples import UNKNOWN, Lesson, Source, batch_of, cat_known

OnEpoch = Callable[[int, int], None]


@dataclass(frozen=True)
class ReviewSettings:
    """How the head is fine-tuned.

    Attributes:
        epochs: passes over the reviewed images.
        images_per_step: of the reviewed ones, and of each other source.
        shortest: steps at the least, for few images.
        warmup: share of the steps in which the learning rate rises; it then falls as a cosine.
        label_smoothing: of the cross-entropy.
        balance: a word's weight is its count to the power of minus this.
        hold: weight of the distance from the earlier embeddings.
        hold_words: weight of the divergence from the earlier shares of the words,
        hold_new_words: and where the image tower's classifier is adapted.
        held_out: share of the images of each kind that the figures are measured on.
        held_out_from: corrected images from which on some are held out for that.
    """

    epochs: int = 20
    seed: int = 0
    images_per_step: int = 8
    shortest: int = 100
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    gradient_norm: float = 1.0
    warmup: float = 0.1
    label_smoothing: float = 0.1
    balance: float = 0.5
    hold: float = 10.0
    hold_words: float = 10.0
    hold_new_words: float = 1.0
    held_out: float = 0.25
    held_out_from: int = 8


def fine_tune(
    start: RegionHead,
    sources: Sequence[Source],
    logit_scale: float,
    settings: ReviewSettings,
    on_step: OnEpoch = lambda done, total: None,
) -> RegionHead:
    """A copy of a head, trained.

    Args:
        sources: the first, the reviewed images, says how long it takes; empty ones are left out.
        logit_scale: what the model multiplies cosines with.
        on_step: told steps done and steps in all.

    Raises:
        InputError: the loss is not finite; nothing was stepped.
    """
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    # Without dropout: its noise is larger than what the held embeddings may move.
    head = copy.deepcopy(start).requires_grad_(True).eval()
    optimizer = torch.optim.AdamW(
        head.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    sources = [source for source in sources if source.lessons]
    weights = [word_weights(source, settings.balance) for source in sources]
    a_pass = -(-len(sources[0].lessons) // settings.images_per_step)
    steps = max(settings.epochs * a_pass, settings.shortest)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, steps, pct_start=settings.warmup
    )
    draws = [_endless(source.lessons, settings.images_per_step, generator) for source in sources]
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        for source, weight, draw in zip(sources, weights, draws, strict=True):
            loss = source_loss(head, next(draw), source, weight, logit_scale, settings)
            if not torch.isfinite(loss):
                raise InputError(
                    f"the loss is {loss.item()} in step {step}; look for broken features, "
                    "or begin from another head"
                )
            torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(head.parameters(), settings.gradient_norm)
        optimizer.step()
        schedule.step()
        on_step(step, steps)
    return head.eval().requires_grad_(False)


def source_loss(
    head: RegionHead,
    lessons: Sequence[Lesson],
    source: Source,
    weights: torch.Tensor,
    logit_scale: float,
    settings: ReviewSettings,
) -> torch.Tensor:
    """Cross-entropy of the regions with a word, and the distance of those that are held.

    Args:
        weights: (K,) of the words.
    """
    batch = batch_of(lessons)
    is_region = ~batch.padding
    regions = F.normalize(batch.embed(head)[is_region].float(), dim=-1)  # (R, D)
    features = cat_known([lesson.features.region_features for lesson in lessons])
    target = torch.cat([lesson.target for lesson in lessons])
    before = torch.cat([lesson.before for lesson in lessons])
    hold = torch.cat([lesson.hold for lesson in lessons])
    distance = 1 - (regions * before).sum(-1)
    logits, earlier = (logit_scale * source.scores(each, features) for each in (regions, before))
    apart = settings.hold * distance + settings.hold_words * divergence(logits, earlier)
    loss = (hold * apart).sum() / hold.sum().clamp(min=1)
    taught = target != UNKNOWN
    if taught.any():
        loss = loss + F.cross_entropy(
            logits[taught], target[taught], weights, label_smoothing=settings.label_smoothing
        )
    return loss


def divergence(logits: torch.Tensor, earlier: torch.Tensor) -> torch.Tensor:
    """(R,) of the earlier shares of the words from those of now, for logits (R, K)."""
    return F.kl_div(
        logits.log_softmax(-1), earlier.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)


def word_weights(source: Source, balance: float) -> torch.Tensor:
    """A weight (K,) for each word, 1 on average over the regions that have one."""
    counts = Counter(
        word for lesson in source.lessons for word in lesson.target.tolist() if word != UNKNOWN
    )
    frequency = torch.tensor([counts[k] for k in range(len(source.vocabulary))]).float()
    weights = frequency.clamp(min=1) ** -balance
    return weights * frequency.sum().clamp(min=1) / (weights * frequency).sum().clamp(min=1e-6)


def _endless(
    lessons: Sequence[Lesson], size: int, generator: torch.Generator
) -> Iterator[list[Lesson]]:
    """Batches, each lesson once before any comes again."""
    while True:
        order = torch.randperm(len(lessons), generator=generator).tolist()
        for start in range(0, len(order), size):
            yield [lessons[row] for row in order[start : start + size]]
