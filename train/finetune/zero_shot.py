"""Extends the adapter of the image tower's classifier so that corrected unseen classes win, with KL
divergence to the previous predictions elsewhere.

Only scores of unseen classes can change; the head, which was fine-tuned before, learned the others.

Axes: N regions, K classes, P pooled channels, T token width, R rank of the extension.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from regionspot.scoring import RegionScorer
from regionspot.zero_shot import ZeroShotClassifier
from train.finetune.examples import UNKNOWN, Source, cat_known
from train.finetune.losses import ReviewSettings, divergence, word_weights
from train.zero_shot import fit_projection

EPSILON = 1e-6  # length of a row below which it is a seen class's


def adapted_to_review(
    tuned: RegionScorer, sources: Sequence[Source], settings: ReviewSettings
) -> ZeroShotClassifier | None:
    """The zero-shot classifier with an extended adapter.

    Args:
        tuned: its head was fine-tuned on the sources. Its classifier is given back as it is where
            it has no adapter, or where no corrected class is unseen.
        sources: as of `fine_tune`.
    """
    zero_shot, scale = tuned.zero_shot, tuned.calibration.logit_scale
    sources = [source for source in sources if source.lessons]
    if zero_shot is None or zero_shot.adapter is None or not sources:
        return zero_shot
    rows = torch.cat([_corrected_rows(source, zero_shot) for source in sources])
    if not len(rows):
        return zero_shot
    up = torch.linalg.svd(rows, full_matrices=False).Vh  # (R, P)
    parts = [_part(source, tuned, zero_shot, up, scale, settings) for source in sources]

    def loss(down: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.loss(down, settings) for part in parts]).sum()

    down = fit_projection(len(zero_shot.adapter.mean), up, loss)
    return replace(zero_shot, adapter=zero_shot.adapter.extended(down, up))


@dataclass(frozen=True)
class _Part:
    """All regions of a source.

    Attributes:
        scaled: (N, P + T) as of `FeatureAdapter.scaled`.
        along: (R, K) logits of the rows of `up`.
        now, before: (N, K) logits of the fine-tuned head and of the one before, without extension.
        target, hold: (N,) as of `Lesson`.
        weights: (K,) of the classes.
    """

    scaled: torch.Tensor
    along: torch.Tensor
    now: torch.Tensor
    before: torch.Tensor
    target: torch.Tensor
    hold: torch.Tensor
    weights: torch.Tensor

    def loss(self, down: torch.Tensor, settings: ReviewSettings) -> torch.Tensor:
        """Cross-entropy of the regions with a word, and how far the held ones are from before."""
        logits = self.now + self.scaled @ down @ self.along  # (N, K)
        apart = self.hold * divergence(logits, self.before)
        loss = settings.hold_new_words * apart.sum() / self.hold.sum().clamp(min=1)
        taught = self.target != UNKNOWN
        if taught.any():
            loss = loss + F.cross_entropy(logits[taught], self.target[taught], self.weights)
        return loss


def _corrected_rows(source: Source, zero_shot: ZeroShotClassifier) -> torch.Tensor:
    """Rows (R, P) of the unseen classes that a person gave to regions."""
    classes = {k for lesson in source.lessons for k in lesson.target[lesson.corrected].tolist()}
    assert source.vocabulary.zero_shot
    rows = zero_shot.weighted_rows(source.vocabulary.zero_shot)[sorted(classes)]
    return rows[rows.norm(dim=1) > EPSILON]


def _part(
    source: Source,
    tuned: RegionScorer,
    zero_shot: ZeroShotClassifier,
    up: torch.Tensor,
    scale: float,
    settings: ReviewSettings,
) -> _Part:
    lessons = source.lessons
    features = cat_known([lesson.features.region_features for lesson in lessons])
    assert features is not None
    assert zero_shot.adapter
    assert source.vocabulary.zero_shot
    now = torch.cat([tuned.head.regions([lesson.features])[0].embedding for lesson in lessons])
    before = torch.cat([lesson.before for lesson in lessons])
    return _Part(
        zero_shot.adapter.scaled(features),
        scale * up @ zero_shot.weighted_rows(source.vocabulary.zero_shot).T,
        scale * source.scores(now, features),
        scale * source.scores(before, features),
        torch.cat([lesson.target for lesson in lessons]),
        torch.cat([lesson.hold for lesson in lessons]),
        word_weights(source, settings.balance),
    )
