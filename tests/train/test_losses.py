"""Losses: what they are without masks, and what masks leave out of them."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from tests.train.factories import image, recipe, training_set, vocabulary
from train.losses import Words, focal_loss, region_loss, softmax_loss, word_weights

R, K = 6, 5
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 4 * torch.randn(R, K, generator=GENERATOR)
TARGET = torch.tensor([0, 1, 2, 3, 4, 0])
WEIGHTS = torch.rand(K, generator=GENERATOR) + 0.5
ALL = torch.ones(R, K, dtype=torch.bool)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_loss_is_cross_entropy(smoothing: float) -> None:
    got = softmax_loss(LOGITS, TARGET, ALL, WEIGHTS, smoothing).sum() / WEIGHTS[TARGET].sum()
    expected = F.cross_entropy(LOGITS, TARGET, WEIGHTS, label_smoothing=smoothing)
    torch.testing.assert_close(got, expected)


def test_focal_loss_is_torchvisions() -> None:
    own = F.one_hot(TARGET, K).float()
    expected = sigmoid_focal_loss(LOGITS, own, alpha=0.25, gamma=2)
    torch.testing.assert_close(focal_loss(LOGITS, TARGET, ALL, 0.25, 2), expected.sum(1))


@pytest.mark.parametrize("loss", ["focal", "softmax"])
def test_a_pair_that_does_not_count_is_as_if_the_word_were_not_there(loss: str) -> None:
    config = replace(recipe(), loss=loss)
    counted = ALL.clone()
    counted[:, 4] = False
    target = TARGET.clamp(max=3)
    cosine = (LOGITS / 20).requires_grad_()
    total, weight = region_loss(config, cosine, target, counted, WEIGHTS)
    without = region_loss(config, cosine[:, :4], target, ALL[:, :4], WEIGHTS[:4])
    torch.testing.assert_close((total, weight), without)
    total.backward()  # type: ignore[no-untyped-call]
    assert cosine.grad is not None
    assert not cosine.grad[:, 4].any()
    assert cosine.grad.isfinite().all()


def test_only_listed_and_verified_words_that_are_not_broader_count() -> None:
    every = vocabulary(("cat", "dog", "cup", "pet", "car"))
    data = training_set([image(("cat", "cup"))], ("cat", "dog", "cup", "pet"))
    words = Words.of(replace(data, broader={"cat": frozenset({"pet", "unheard of"})}), every)
    assert words.counted(data.features[0], [1, 0]).tolist() == [
        [True, True, True, True, False],
        [True, True, True, False, False],
    ]
    # What is in the image counts for itself, whatever was verified.
    verified = image(("cat", "cup"), verified=frozenset({"dog", "car"}))
    assert words.counted(verified, [0, 1]).tolist() == [
        [True, True, False, False, False],
        [False, True, True, False, False],
    ]


def test_rare_words_weigh_more_and_all_regions_one_on_average() -> None:
    data = training_set([image(("cat",) * 9 + ("dog",))])
    weights = word_weights([data], vocabulary(), balance=0.5)
    assert weights[1] == pytest.approx(3 * weights[0].item())
    assert (9 * weights[0] + weights[1]).item() == pytest.approx(10)
