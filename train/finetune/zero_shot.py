"""Extends the adapter so that corrected unseen classes win, with KL to the previous predictions.

Only unseen classes can move: the seen ones were learned by the head, which was fine-tuned before.

Axes: N regions, K classes, P pooled channels, T token width, R ranks.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from regionspot.scoring import RegionScorer, class_scores
from regionspot.zero_shot import ZeroShotClassifier
from train.config import FinetuneConfig
from train.finetune.examples import ExampleSet, cat_or_none
from train.finetune.losses import cross_entropy, joined_regions, kl_divergence, target_frequency
from train.losses import class_weights
from train.zero_shot import fit_down

Loss = Callable[[torch.Tensor], torch.Tensor]  # of `down`
EPSILON = 1e-6  # length of a classifier row below which a class is seen


def extended_classifier(
    scorer: RegionScorer, sets: Sequence[ExampleSet], config: FinetuneConfig
) -> ZeroShotClassifier | None:
    """The zero-shot classifier, its adapter extended by what the fine-tuned head still lacks.

    Args:
        scorer: with the fine-tuned head and the initial classifier.
        sets: those that the head was fine-tuned on.
        config: of the fine-tuning.

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
    losses = [_set_loss(each, scorer, classifier, up, config) for each in sets]
    width = len(classifier.adapter.mean)
    down = fit_down(width, up, lambda down: torch.stack([loss(down) for loss in losses]).sum())
    return replace(classifier, adapter=classifier.adapter.extended(down, up))


def _corrected_rows(data: ExampleSet, classifier: ZeroShotClassifier) -> torch.Tensor:
    """Classifier rows (R, P) of the unseen classes that the annotator gave to regions."""
    corrected = {k for each in data.examples for k in each.target[each.corrected].tolist()}
    assert data.vocabulary.zero_shot, "the scorer embeds it with its classifier"
    rows = classifier.weighted_rows(data.vocabulary.zero_shot)[sorted(corrected)]
    return rows[rows.norm(dim=1) > EPSILON]


def _set_loss(
    data: ExampleSet,
    scorer: RegionScorer,
    classifier: ZeroShotClassifier,
    up: torch.Tensor,
    config: FinetuneConfig,
) -> Loss:
    """Cross-entropy of all regions with a target, plus the KL divergence of distilled ones."""
    images = [example.features for example in data.examples]
    features = cat_or_none([image.region_features for image in images])
    assert features is not None, "an encoder with a classifier pools boxes"
    assert classifier.adapter
    assert data.vocabulary.zero_shot
    inputs = classifier.adapter.scaled(features)  # (N, P + T)
    logit_scale = scorer.calibration.logit_scale
    up_to_logits = (
        logit_scale * up @ classifier.weighted_rows(data.vocabulary.zero_shot).T
    )  # (R, K)
    tuned = joined_regions([scorer.regions([image])[0] for image in images])
    initial = joined_regions([example.initial for example in data.examples])
    tuned_logits, initial_logits = (
        logit_scale * class_scores(each, data.vocabulary) for each in (tuned, initial)
    )  # (N, K)
    target = torch.cat([example.target for example in data.examples])  # (N,)
    distill = torch.cat([example.distill for example in data.examples])  # (N,)
    weights = class_weights(target_frequency(data), config.balance)

    def loss(down: torch.Tensor) -> torch.Tensor:
        logits = tuned_logits + inputs @ down @ up_to_logits
        divergence = distill * kl_divergence(logits, initial_logits)
        kept = config.kl_weight_unseen * divergence.sum() / distill.sum().clamp(min=1)
        return kept + cross_entropy(logits, target, weights)

    return loss
