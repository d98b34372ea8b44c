"""Losses of regions against words, of which some pairs do not count.

What nobody checked for is no negative: a word that an image was not searched for, or one that is
true of a region beside its own, is left out of that region's loss.

Axes: R regions of all images of a batch, K words.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from regionspot.types import Vocabulary
from train.config import Recipe
from train.features.cache import ImageFeatures
from train.sampler import TrainingSet


@dataclass(frozen=True)
class Words:
    """The words of one data set among those of all.

    Attributes:
        index: the column of each word, of all data sets.
        listed: (K,) bool, the words that this data set distinguishes.
        broader: for a column, those of the words that are true of its regions too.
    """

    index: Mapping[str, int]
    listed: torch.Tensor
    broader: Mapping[int, torch.Tensor]

    @classmethod
    def of(cls, data: TrainingSet, vocabulary: Vocabulary) -> "Words":
        """The words of a data set in a vocabulary that holds them all."""
        return cls.among(data.words, data.broader, vocabulary)

    @classmethod
    def among(
        cls,
        words: Sequence[str],
        broader: Mapping[str, frozenset[str]],
        vocabulary: Vocabulary,
    ) -> "Words":
        """Words that are distinguished, and what is broader than them, in a vocabulary."""
        index = {name: column for column, name in enumerate(vocabulary.names)}
        columns = {
            index[word]: _columns(others, index)
            for word, others in broader.items()
            if word in index
        }
        return cls(index, _chosen(words, index), columns)

    def counted(self, image: ImageFeatures, rows: Sequence[int]) -> torch.Tensor:
        """(N, K) bool: which words count for some regions of an image, their own always."""
        searched = self.listed
        if image.verified is not None:
            searched = searched & _chosen(image.verified, self.index)
        counted = searched.repeat(len(rows), 1)
        for row, name in zip(counted, (image.names[r] for r in rows), strict=True):
            own = self.index[name]
            if own in self.broader:
                row[self.broader[own]] = False
            row[own] = True
        return counted


def _columns(words: Sequence[str] | frozenset[str], index: Mapping[str, int]) -> torch.Tensor:
    return torch.tensor(sorted(index[w] for w in words if w in index), dtype=torch.int64)


def _chosen(words: Sequence[str] | frozenset[str], index: Mapping[str, int]) -> torch.Tensor:
    chosen = torch.zeros(len(index), dtype=torch.bool)
    chosen[_columns(words, index)] = True
    return chosen


def region_loss(
    recipe: Recipe,
    cosine: torch.Tensor,
    target: torch.Tensor,
    counted: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss that a recipe names, summed over regions, and what to divide the sum by.

    They are given apart so that parts of a step and processes can be added up first.

    Args:
        cosine: (R, K) float32 of regions and words.
        target: (R,) each region's word.
        counted: (R, K) bool, the pairs that count; the own word's always does.
        weights: (K,) of the words.

    Returns:
        The sum, and the sum of the regions' weights; both of no dimension.
    """
    logits = recipe.logit_scale * cosine
    if recipe.loss == "focal":
        each = focal_loss(logits, target, counted, recipe.focal_alpha, recipe.focal_gamma)
        return (each * weights[target]).sum(), weights[target].sum()
    each = softmax_loss(logits, target, counted, weights, recipe.label_smoothing)
    own = cosine.gather(1, target[:, None])[:, 0]
    each = each + recipe.pull * weights[target] * (1 - own)
    return each.sum(), weights[target].sum()


def teacher_loss(
    recipe: Recipe,
    region: torch.Tensor,
    taught: torch.Tensor,
    words: torch.Tensor,
    counted: torch.Tensor,
    weight: torch.Tensor,
) -> torch.Tensor:
    """The distance of regions from what their teachers say, summed over regions.

    It is the cross-entropy of the shares of the words that count, and one minus the cosine.

    Args:
        region, taught: (R, D) unit embeddings.
        words: (K, D), likewise.
        counted: (R, K) bool.
        weight: (R,) of each region.
    """
    own, theirs = (
        (recipe.logit_scale * each @ words.T).masked_fill(~counted, float("-inf"))
        for each in (region, taught)
    )
    surprise = -own.log_softmax(1).masked_fill(~counted, 0)
    apart = 1 - (region * taught).sum(1)
    return (weight * ((theirs.softmax(1) * surprise).sum(1) + recipe.teacher_pull * apart)).sum()


def focal_loss(
    logits: torch.Tensor, target: torch.Tensor, counted: torch.Tensor, alpha: float, gamma: float
) -> torch.Tensor:
    """Sigmoid focal loss (R,), summed over the words that count (Lin et al. 2017, equation 5).

    Args:
        logits, target, counted: as of `region_loss`, cosines times the scale.
        alpha: weight of a region's own word; that of the others is one minus it.
        gamma: power of how wrong a pair is.
    """
    own = F.one_hot(target, logits.shape[1]).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, own, reduction="none")
    wrong = (logits.sigmoid() - own).abs()
    weight = own * alpha + (1 - own) * (1 - alpha)
    return (weight * wrong**gamma * entropy).masked_fill(~counted, 0).sum(1)


def softmax_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    counted: torch.Tensor,
    weights: torch.Tensor,
    smoothing: float,
) -> torch.Tensor:
    """Cross-entropy (R,) of the softmax over the words that count, weighted by word.

    With all pairs counted, its sum over that of the regions' weights is `F.cross_entropy`'s.

    Args:
        logits, target, counted, weights: as of `region_loss`, cosines times the scale.
        smoothing: share of the target that is spread evenly over the words that count.
    """
    surprise = -logits.masked_fill(~counted, float("-inf")).log_softmax(1)
    own = surprise.gather(1, target[:, None])[:, 0] * weights[target]
    if not smoothing:
        return own
    others = (surprise * weights).masked_fill(~counted, 0).sum(1) / counted.sum(1)
    return (1 - smoothing) * own + smoothing * others


def word_weights(
    sets: Sequence[TrainingSet], vocabulary: Vocabulary, balance: float
) -> torch.Tensor:
    """A weight (K,) for each word, 1 on average over all regions.

    Args:
        balance: a weight is the word's count to the power of minus this, before scaling.
    """
    counts = Counter(name for data in sets for image in data.names for name in image)
    frequency = torch.tensor([counts[name] for name in vocabulary.names], dtype=torch.float32)
    weights = frequency.clamp(min=1) ** -balance
    return weights * frequency.sum() / (weights * frequency).sum()
