"""The loss of fine-tuning."""

import torch
from torch.nn import functional as F

from tests.train.finetune.factories import photos, renaming_review, scorer, trained_head
from train.finetune.examples import IGNORE
from train.finetune.losses import cross_entropy, kl_divergence, target_frequency
from train.losses import class_weights

LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def test_regions_without_a_target_have_no_cross_entropy() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0])
    found = cross_entropy(LOGITS, torch.tensor([0, IGNORE, 2, IGNORE]), weights, 0.1)
    expected = F.cross_entropy(LOGITS[[0, 2]], torch.tensor([0, 2]), weights, label_smoothing=0.1)
    torch.testing.assert_close(found, expected)
    assert cross_entropy(LOGITS, torch.full((4,), IGNORE), weights) == 0


def test_divergence_is_zero_from_itself_alone() -> None:
    assert kl_divergence(LOGITS, LOGITS).abs().max() < 1e-6
    assert (kl_divergence(LOGITS, LOGITS.flip(1)) > 0).all()


def test_weights_of_classes_without_a_target_are_finite() -> None:
    review = renaming_review(scorer(trained_head()), photos(6, seed=2), count=0)
    assert not target_frequency(review).any()
    assert torch.isfinite(class_weights(target_frequency(review), 0.5)).all()
