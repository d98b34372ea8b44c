"""Loss of fine-tuning: cross-entropy with the annotator's classes, distillation elsewhere.

A step sees reviewed images, as many that nobody reviewed, and as many of each replayed data set.
Regions with a target are trained by cross-entropy over the classes of their own set. Regions with a
distillation weight are kept near the initial head's embedding (`anchor_weight`) and class
probabilities (`kl_weight`), as in learning without forgetting (Li & Hoiem 2016, arXiv 1606.09282).

Axes: B images, N regions, R regions of all images of a batch, K classes, D text width.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from regionspot.scoring import class_scores
from regionspot.types import Regions
from train.batch import collate
from train.config import FinetuneConfig
from train.finetune.examples import IGNORE, ExampleSet, cat_or_none
from train.losses import class_weights
from train.sampler import batch_rows

Rows = list[list[int]]  # of each set, the examples of a batch


class FinetuneObjective:
    """Example sets and their loss, an `Objective` of the training loop.

    Args:
        sets: empty ones are left out.
        logit_scale: factor from scores to logits.
    """

    dropout = False  # its noise is larger than the distance that distillation allows

    def __init__(
        self, sets: Sequence[ExampleSet], logit_scale: float, config: FinetuneConfig
    ) -> None:
        self.sets = [each for each in sets if each.examples]
        self.logit_scale, self.config = logit_scale, config
        self._weights = [
            class_weights(target_frequency(each), config.balance) for each in self.sets
        ]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of classes, targets, weights and the initial head's embeddings."""
        digest = hashlib.sha256(json.dumps(self.logit_scale).encode())
        for each in self.sets:
            digest.update(json.dumps(each.vocabulary.names).encode())
            for example in each.examples:
                for tensor in (example.target, example.distill, example.initial.embedding):
                    digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def batches(self, first: int, last: int) -> Iterator[list[Rows]]:
        """One batch a step, of some examples of each set."""
        for step in range(first, last):
            yield [
                [
                    batch_rows(
                        len(each.examples),
                        self.config.images_per_step,
                        step,
                        self.config.seed,
                        "finetune",
                        number,
                    )
                    for number, each in enumerate(self.sets)
                ]
            ]

    def loss(self, head: nn.Module, batch: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of the sets' losses, and 1: each is a mean over regions already."""
        losses = [
            set_loss(head, each.only(rows), weights, self.logit_scale, self.config)
            for each, rows, weights in zip(self.sets, batch, self._weights, strict=True)
        ]
        return torch.stack(losses).sum(), torch.ones(())


def set_loss(
    head: nn.Module,
    data: ExampleSet,
    weights: torch.Tensor,
    logit_scale: float,
    config: FinetuneConfig,
) -> torch.Tensor:
    """Cross-entropy of the regions with a target, plus the distillation of the others; a scalar.

    Args:
        head: as a module, which may be distributed.
        data: the examples of the batch.
        weights: (K,) class weights.
        logit_scale: factor from scores to logits.
        config: of the fine-tuning.
    """
    images = [example.features for example in data.examples]
    batch = collate(images, [torch.arange(len(i.names)) for i in images], {"": 0})
    embedding = batch.embed(head)[~batch.padding].float()  # (B, N, D) to (R, D)
    initial = joined_regions([example.initial for example in data.examples])
    target = torch.cat([example.target for example in data.examples])  # (R,)
    distill = torch.cat([example.distill for example in data.examples])  # (R,)
    distance = 1 - (F.normalize(embedding, dim=-1) * initial.embedding).sum(-1)
    logits, initial_logits = (
        logit_scale * class_scores(each, data.vocabulary)  # (R, K)
        for each in (Regions(embedding, class_logits=initial.class_logits), initial)
    )
    each = config.anchor_weight * distance + config.kl_weight * kl_divergence(
        logits, initial_logits
    )
    loss = (distill * each).sum() / distill.sum().clamp(min=1)
    return loss + cross_entropy(logits, target, weights, config.label_smoothing)


def cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Weighted mean over the regions with a target, 0 without any.

    Args:
        logits: (R, K).
        target: (R,), `IGNORE` where there is none.
        weights: (K,) class weights.
        smoothing: label smoothing.
    """
    if not (target != IGNORE).any():
        return logits.new_zeros(())
    return F.cross_entropy(logits, target, weights, ignore_index=IGNORE, label_smoothing=smoothing)


def kl_divergence(logits: torch.Tensor, initial_logits: torch.Tensor) -> torch.Tensor:
    """(R,) KL divergence of the class probabilities from the initial ones, for logits (R, K)."""
    return F.kl_div(
        logits.log_softmax(-1), initial_logits.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)


def joined_regions(parts: Sequence[Regions]) -> Regions:
    """The regions of several images, one after another, without masks."""
    return Regions(
        torch.cat([part.embedding for part in parts]),
        class_logits=cat_or_none([part.class_logits for part in parts]),
    )


def target_frequency(data: ExampleSet) -> torch.Tensor:
    """Number of regions with each class as target, (K,) float32."""
    target = torch.cat([example.target for example in data.examples])
    return torch.bincount(target[target != IGNORE], minlength=len(data.vocabulary)).float()
