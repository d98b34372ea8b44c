"""Extends the adapter so that corrected unseen classes win, with KL to the previous predictions.

Only unseen classes can move: the seen ones were learned by the head, which was fine-tuned before.

Axes: N regions, K classes, P pooled channels, T token width, R ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from regionspot.scoring import RegionScorer, class_scores
from regionspot.zero_shot import ZeroShotClassifier
from train.config import FinetuneConfig
from train.finetune.examples import ExampleSet, cat_or_none
from train.finetune.losses import cross_entropy, joined_regions, kl_divergence, target_frequency
from train.losses import class_weights
from train.zero_shot import fit_down

EPSILON = 1e-6  # length of a classifier row below which a class is seen


def extended_classifier(
    scorer: RegionScorer, sets: Sequence[ExampleSet], config: FinetuneConfig
) -> ZeroShotClassifier | None:
    """The zero-shot classifier, its adapter extended by what the fine-tuned head still lacks.

    Args:
        scorer: with the fine-tuned head and the initial classifier.
        sets: those that the head was fine-tuned on.

    Returns:
        The initial classifier where it has no adapter, or where no corrected class is unseen.
    """
    classifier = scorer.zero_shot
    sets = [each for each in sets if each.examples]
    if classifier is None or classifier.adapter is None or not sets:
        return classifier
    rows = torch.cat([_corrected_rows(each, classifier) for each in sets])
    if not len(rows):
        return classifier
    up = torch.linalg.svd(rows, full_matrices=False).Vh  # (R, P)
    parts = [_part(each, scorer, classifier, up, config) for each in sets]

    def loss(down: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.loss(down, config) for part in parts]).sum()

    down = fit_down(len(classifier.adapter.mean), up, loss)
    return replace(classifier, adapter=classifier.adapter.extended(down, up))


@dataclass(frozen=True)
class _Part:
    """All regions of a set.

    Attributes:
        inputs: (N, P + T) as of `FeatureAdapter.scaled`.
        up_to_logits: (R, K) of each rank, to logits.
        logits: (N, K) of the fine-tuned head, before the extension.
        initial_logits: (N, K) of the initial head.
        target, distill: (N,) as of `FinetuneExample`.
        weights: (K,) class weights.
    """

    inputs: torch.Tensor
    up_to_logits: torch.Tensor
    logits: torch.Tensor
    initial_logits: torch.Tensor
    target: torch.Tensor
    distill: torch.Tensor
    weights: torch.Tensor

    def loss(self, down: torch.Tensor, config: FinetuneConfig) -> torch.Tensor:
        """Cross-entropy of regions with a target, plus the KL divergence of distilled ones."""
        logits = self.logits + self.inputs @ down @ self.up_to_logits  # (N, K)
        divergence = self.distill * kl_divergence(logits, self.initial_logits)
        loss = config.kl_weight_unseen * divergence.sum() / self.distill.sum().clamp(min=1)
        return loss + cross_entropy(logits, self.target, self.weights)


def _corrected_rows(data: ExampleSet, classifier: ZeroShotClassifier) -> torch.Tensor:
    """Classifier rows (R, P) of the unseen classes that the annotator gave to regions."""
    corrected = {k for each in data.examples for k in each.target[each.corrected].tolist()}
    assert data.vocabulary.zero_shot, "the scorer embeds it with its classifier"
    rows = classifier.weighted_rows(data.vocabulary.zero_shot)[sorted(corrected)]
    return rows[rows.norm(dim=1) > EPSILON]


def _part(
    data: ExampleSet,
    scorer: RegionScorer,
    classifier: ZeroShotClassifier,
    up: torch.Tensor,
    config: FinetuneConfig,
) -> _Part:
    images = [example.features for example in data.examples]
    features = cat_or_none([image.region_features for image in images])
    assert features is not None, "an encoder with a classifier pools boxes"
    assert classifier.adapter
    assert data.vocabulary.zero_shot
    logit_scale = scorer.calibration.logit_scale
    logits, initial_logits = (
        logit_scale * class_scores(regions, data.vocabulary)
        for regions in (
            joined_regions([scorer.regions([image])[0] for image in images]),
            joined_regions([example.initial for example in data.examples]),
        )
    )
    return _Part(
        classifier.adapter.scaled(features),
        logit_scale * up @ classifier.weighted_rows(data.vocabulary.zero_shot).T,
        logits,
        initial_logits,
        torch.cat([example.target for example in data.examples]),
        torch.cat([example.distill for example in data.examples]),
        class_weights(target_frequency(data), config.balance),
    )
