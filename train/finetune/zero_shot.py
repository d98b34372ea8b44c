"""Teaching the image tower's classifier a person's review, for words unseen in training.

What it is told of boxes is fitted once more: the words that a person gave shall be the best, and
the other regions' shares of the words shall stay as they were. Only words that the head was not
trained on can move; the head, which was fine-tuned before, alone has learned the others.

Axes: N regions, K words, P pooled channels, T token width, R directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from regionspot.head import RegionHead
from regionspot.zero_shot import UnseenWords, word_cosines
from train.finetune.examples import UNKNOWN, Source, cat_known, embed
from train.finetune.losses import ReviewSettings, divergence, word_weights
from train.zero_shot import fit_reading

EPSILON = 1e-6  # length of a row below which it is a trained word's


def adapted_to_review(
    unseen: UnseenWords,
    head: RegionHead,
    sources: Sequence[Source],
    logit_scale: float,
    settings: ReviewSettings,
) -> UnseenWords:
    """Adapted further, to what a head that was fine-tuned on the same sources still lacks.

    Args:
        unseen: that of the sources; as it is where it has no adaptation, or where no word of
            a review is new.
        sources: as of `fine_tune`.
        logit_scale: what the model multiplies cosines with.
    """
    adaptation = unseen.adaptation
    rows = [_corrected_rows(source, unseen) for source in sources if source.lessons]
    if not adaptation or not rows or not len(torch.cat(rows)):
        return unseen
    directions = torch.linalg.svd(torch.cat(rows), full_matrices=False).Vh
    parts = [
        _part(source, unseen, head, directions, logit_scale, settings)
        for source in sources
        if source.lessons
    ]

    def loss(reading: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.loss(reading, settings) for part in parts]).sum()

    reading = fit_reading(len(adaptation.usual), directions, loss)
    return replace(unseen, adaptation=adaptation.told_more(reading, directions))


@dataclass(frozen=True)
class _Part:
    """All regions of a source.

    Attributes:
        read: (N, P + T) as of `Adaptation.scaled`.
        along: (R, K) of the directions, in logits.
        now, before: (N, K) logits of the fine-tuned head and of the one before, as yet.
        target, hold: (N,) as of `Lesson`.
        weights: (K,) of the words.
    """

    read: torch.Tensor
    along: torch.Tensor
    now: torch.Tensor
    before: torch.Tensor
    target: torch.Tensor
    hold: torch.Tensor
    weights: torch.Tensor

    def loss(self, reading: torch.Tensor, settings: ReviewSettings) -> torch.Tensor:
        """Cross-entropy of the regions with a word, and how far the held ones are from before."""
        logits = self.now + self.read @ reading @ self.along
        apart = self.hold * divergence(logits, self.before)
        loss = settings.hold_new_words * apart.sum() / self.hold.sum().clamp(min=1)
        taught = self.target != UNKNOWN
        if taught.any():
            loss = loss + F.cross_entropy(logits[taught], self.target[taught], self.weights)
        return loss


def _corrected_rows(source: Source, unseen: UnseenWords) -> torch.Tensor:
    """Rows (R, P) of the new words that a person gave to regions."""
    words = {k for lesson in source.lessons for k in lesson.target[lesson.corrected].tolist()}
    rows = unseen.scored_rows(source.vocabulary)[sorted(words)]
    return rows[rows.norm(dim=1) > EPSILON]


def _part(
    source: Source,
    unseen: UnseenWords,
    head: RegionHead,
    directions: torch.Tensor,
    logit_scale: float,
    settings: ReviewSettings,
) -> _Part:
    looks = cat_known([lesson.features.looks for lesson in source.lessons])
    assert looks is not None
    assert unseen.adaptation
    now, before = (
        logit_scale * word_cosines(embedding, looks, source.vocabulary, unseen)
        for embedding in (
            torch.cat(embed([lesson.features for lesson in source.lessons], head)),
            torch.cat([lesson.before for lesson in source.lessons]),
        )
    )
    return _Part(
        unseen.adaptation.scaled(looks),
        logit_scale * directions @ unseen.scored_rows(source.vocabulary).T,
        now,
        before,
        torch.cat([lesson.target for lesson in source.lessons]),
        torch.cat([lesson.hold for lesson in source.lessons]),
        word_weights(source, settings.balance),
    )
