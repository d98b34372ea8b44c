"""Loss of fine-tuning: cross-entropy with the annotator's classes, distillation elsewhere.

A step sees reviewed images, as many that nobody reviewed, and as many of each replayed data set.
Regions with a target are trained by cross-entropy over the classes of their own set. Regions with a
distillation weight are kept near the initial head's embedding (`anchor_weight`) and class
probabilities (`kl_weight`), as in learning without forgetting (Li & Hoiem 2016, arXiv 1606.09282).
Of background regions, in images that the annotator verified to be empty, the presence of the most
present class is lowered.

The zero-shot classifier's adapter is extended after the head, with a loss of the same form. Only
unseen classes can move with it.

Axes: B images, N regions, R regions of all images of a batch (of the adapter: its ranks),
K classes, D text width, P pooled channels, T token channels.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace

import torch
from torch import nn
from torch.nn import functional as F

from regionspot.scoring import RegionScorer, class_scores, presence
from regionspot.types import Regions, ScoreCalibration
from regionspot.zero_shot import ZeroShotClassifier
from train.batch import collate
from train.config import FinetuneConfig
from train.finetune.examples import IGNORE, ExampleSet, cat_or_none
from train.losses import class_weights
from train.sampler import batch_rows
from train.zero_shot import fit_down

Rows = list[list[int]]  # of each set, the examples of a batch


class FinetuneObjective:
    """Example sets and their loss, an `Objective` of the training loop.

    Args:
        sets: empty ones are left out.
        calibration: from scores to probabilities and presence.
    """

    dropout = False  # its noise is larger than the distance that distillation allows

    def __init__(
        self, sets: Sequence[ExampleSet], calibration: ScoreCalibration, config: FinetuneConfig
    ) -> None:
        self.sets = [each for each in sets if each.examples]
        self.calibration, self.config = calibration, config
        self._weights = [
            class_weights(target_frequency(each), config.balance) for each in self.sets
        ]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of classes, targets, weights and the initial head's embeddings."""
        digest = hashlib.sha256(json.dumps(asdict(self.calibration)).encode())
        for each in self.sets:
            digest.update(json.dumps(each.vocabulary.names).encode())
            for example in each.examples:
                for tensor in (
                    example.target,
                    example.background,
                    example.distill,
                    example.initial.embedding,
                ):
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
            set_loss(head, each.only(rows), weights, self.calibration, self.config)
            for each, rows, weights in zip(self.sets, batch, self._weights, strict=True)
        ]
        return torch.stack(losses).sum(), torch.ones(())


def set_loss(
    head: nn.Module,
    data: ExampleSet,
    weights: torch.Tensor,
    calibration: ScoreCalibration,
    config: FinetuneConfig,
) -> torch.Tensor:
    """Cross-entropy of the targets, background loss, and distillation of the others; a scalar.

    Args:
        head: as a module, which may be distributed.
        data: the examples of the batch.
        weights: (K,) class weights.
        calibration: from scores to probabilities and presence.
        config: of the fine-tuning.
    """
    images = [example.features for example in data.examples]
    batch = collate(images, [torch.arange(len(i.names)) for i in images], {"": 0})
    embedding = batch.embed(head)[~batch.padding].float()  # (B, N, D) to (R, D)
    initial = joined_regions([example.initial for example in data.examples])
    target = torch.cat([example.target for example in data.examples])  # (R,)
    distill = torch.cat([example.distill for example in data.examples])  # (R,)
    distance = 1 - (F.normalize(embedding, dim=-1) * initial.embedding).sum(-1)
    scores, initial_scores = (
        class_scores(each, data.vocabulary)  # (R, K)
        for each in (Regions(embedding, class_logits=initial.class_logits), initial)
    )
    logits = calibration.logit_scale * scores
    initial_logits = calibration.logit_scale * initial_scores
    each = config.anchor_weight * distance + config.kl_weight * kl_divergence(
        logits, initial_logits
    )
    loss = (distill * each).sum() / distill.sum().clamp(min=1)
    background = torch.cat([example.background for example in data.examples])  # (R,)
    if background.any():
        absent = Regions(
            embedding[background],
            class_logits=None if initial.class_logits is None else initial.class_logits[background],
        )
        present = presence(absent, scores[background], data.vocabulary, calibration)
        loss = loss + config.background_weight * background_loss(present)
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


def background_loss(present: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy of the most present class (R, K) being absent; a scalar."""
    highest = present.amax(1)  # (R,)
    return F.binary_cross_entropy(highest, torch.zeros_like(highest))


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
