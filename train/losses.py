"""Losses of regions against classes under a loss mask.

A class that nobody looked for in an image is no negative there, nor is an ancestor of a region's
class: both are masked out of the region's loss.

Axes: B images, N regions, R regions of all images of a batch, K classes, D text width.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from regionspot.types import Vocabulary
from train.batch import Batch, LabelSpace, Reader
from train.config import Recipe
from train.distributed import Processes
from train.sampler import Sampler, TrainingSet, fingerprint


@dataclass(frozen=True)
class RegionLoss:
    """The loss of a recipe, for a head and a batch.

    Attributes:
        classes: (K, D) L2-normalised text embeddings.
        weights: (K,) class weights.
    """

    recipe: Recipe
    classes: torch.Tensor
    weights: torch.Tensor

    def __call__(self, head: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss summed over regions, and the sum of the regions' weights, both scalars."""
        batch = batch.to(self.classes.device)
        assert batch.loss_mask is not None
        is_half = self.recipe.precision == "bfloat16"
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=is_half):
            embedding = batch.embed(head)  # (B, N, D)
        is_region = batch.target >= 0
        region = F.normalize(embedding[is_region].float(), dim=-1)  # (R, D)
        target = batch.target[is_region]  # (R,)
        cosine = region @ self.classes.T
        loss, weight = region_loss(self.recipe, cosine, target, batch.loss_mask, self.weights)
        if batch.teacher_embedding is not None:
            teacher, weights = batch.teacher_embedding[is_region], self.weights[target]
            distilled = distillation_loss(
                self.recipe, region, teacher, self.classes, batch.loss_mask, weights
            )
            distill_weight = self.recipe.distill_weight
            loss = (1 - distill_weight) * loss + distill_weight * distilled
        return loss, weight


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


def region_loss(
    recipe: Recipe,
    cosine: torch.Tensor,
    target: torch.Tensor,
    loss_mask: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss that a recipe names, summed over regions, and what to divide the sum by.

    They are returned separately, so that micro-batches and processes can be summed first.

    Args:
        recipe: that names the loss.
        cosine: (R, K) float32 of regions and classes.
        target: (R,) column of each region's class.
        loss_mask: (R, K) bool; True at the target.
        weights: (K,) class weights.

    Returns:
        The sum of the losses and the sum of the regions' weights, both scalars.
    """
    logits = recipe.logit_scale * cosine
    if recipe.loss == "focal":
        each = focal_loss(logits, target, loss_mask, recipe.focal_alpha, recipe.focal_gamma)
        return (each * weights[target]).sum(), weights[target].sum()
    each = softmax_loss(logits, target, loss_mask, weights, recipe.label_smoothing)
    own = cosine.gather(1, target[:, None])[:, 0]  # (R,)
    each = each + recipe.cosine_weight * weights[target] * (1 - own)
    return each.sum(), weights[target].sum()


def distillation_loss(
    recipe: Recipe,
    region: torch.Tensor,
    teacher: torch.Tensor,
    classes: torch.Tensor,
    loss_mask: torch.Tensor,
    weight: torch.Tensor,
) -> torch.Tensor:
    """Distillation of teacher embeddings (Hinton et al. 2015), summed over regions.

    Cross-entropy with the teachers' class probabilities, and `distill_cosine_weight` times the
    cosine distance to the teacher embedding.

    Args:
        recipe: with `logit_scale` and the weights.
        region: (R, D) unit embeddings.
        teacher: (R, D) unit embeddings.
        classes: (K, D) L2-normalised text embeddings.
        loss_mask: (R, K) bool.
        weight: (R,) of each region.
    """
    student_logits, teacher_logits = (
        (recipe.logit_scale * each @ classes.T).masked_fill(~loss_mask, float("-inf"))
        for each in (region, teacher)
    )
    nll = -student_logits.log_softmax(1).masked_fill(~loss_mask, 0)
    distance = 1 - (region * teacher).sum(1)
    cross_entropy = (teacher_logits.softmax(1) * nll).sum(1)
    return (weight * (cross_entropy + recipe.distill_cosine_weight * distance)).sum()


def focal_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    loss_mask: torch.Tensor,
    alpha: float,
    gamma: float,
) -> torch.Tensor:
    """Sigmoid focal loss (R,), summed over unmasked classes (Lin et al. 2017, equation 5).

    Args:
        logits: (R, K).
        target: (R,) column of each region's class.
        loss_mask: (R, K) bool, the pairs that count.
        alpha: weight of the target class; that of the others is 1 minus it.
        gamma: focusing exponent.
    """
    one_hot = F.one_hot(target, logits.shape[1]).to(logits.dtype)  # (R, K)
    each: torch.Tensor = sigmoid_focal_loss(logits, one_hot, alpha, gamma, reduction="none")
    return each.masked_fill(~loss_mask, 0).sum(1)


def softmax_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    loss_mask: torch.Tensor,
    weights: torch.Tensor,
    smoothing: float,
) -> torch.Tensor:
    """Cross-entropy (R,) of the softmax over unmasked classes, weighted by class.

    Without a mask, its sum divided by that of the regions' weights is `F.cross_entropy`.

    Args:
        logits: (R, K).
        target: (R,) column of each region's class.
        loss_mask: (R, K) bool, the pairs that count.
        weights: (K,) class weights.
        smoothing: fraction of the target that is spread evenly over the unmasked classes.
    """
    nll = -logits.masked_fill(~loss_mask, float("-inf")).log_softmax(1)  # (R, K)
    own = nll.gather(1, target[:, None])[:, 0] * weights[target]
    if not smoothing:
        return own
    others = (nll * weights).masked_fill(~loss_mask, 0).sum(1) / loss_mask.sum(1)
    return (1 - smoothing) * own + smoothing * others


def class_weights(frequency: torch.Tensor, balance: float) -> torch.Tensor:
    """A weight (K,) for each class, 1 on average over all regions.

    Args:
        frequency: (K,) float32, number of regions of each class.
        balance: the weight is proportional to the frequency to the power of minus this.
    """
    weights = frequency.clamp(min=1) ** -balance
    # The lower bounds matter only where no region has a class.
    return weights * frequency.sum().clamp(min=1) / (weights * frequency).sum().clamp(min=1e-6)


def class_frequency(sets: Sequence[TrainingSet], vocabulary: Vocabulary) -> torch.Tensor:
    """Number of regions of each class, (K,) float32."""
    counts = Counter(name for data in sets for image in data.names for name in image)
    return torch.tensor([counts[name] for name in vocabulary.names], dtype=torch.float32)
