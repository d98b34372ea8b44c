"""Losses without a mask, and what a mask leaves out of them."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.train.factories import image, recipe, training_set, vocabulary
from train.batch import LabelSpace
from train.losses import (
    class_frequency,
    class_weights,
    distillation_loss,
    focal_loss,
    region_loss,
    softmax_loss,
)

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


def test_focal_loss_is_that_of_the_paper() -> None:
    """Lin et al. 2017, equation 5: -alpha_t (1 - p_t)^gamma log p_t, summed over classes."""
    is_target = F.one_hot(TARGET, K).bool()
    logits = LOGITS.double()  # the naive form below loses digits
    probability = torch.where(is_target, logits.sigmoid(), 1 - logits.sigmoid())
    alpha = torch.where(is_target, 0.25, 0.75).double()
    expected = -(alpha * (1 - probability) ** 2 * probability.log()).sum(1)
    torch.testing.assert_close(focal_loss(logits, TARGET, ALL, 0.25, 2), expected)


@pytest.mark.parametrize("loss", ["focal", "softmax"])
def test_a_masked_pair_is_as_if_the_class_were_not_there(loss: str) -> None:
    config = replace(recipe(), loss=loss)
    mask = ALL.clone()
    mask[:, 4] = False
    target = TARGET.clamp(max=3)
    cosine = (LOGITS / 20).requires_grad_()
    total, weight = region_loss(config, cosine, target, mask, WEIGHTS)
    without = region_loss(config, cosine[:, :4], target, ALL[:, :4], WEIGHTS[:4])
    torch.testing.assert_close((total, weight), without)
    total.backward()  # type: ignore[no-untyped-call]
    assert cosine.grad is not None
    assert not cosine.grad[:, 4].any()
    assert cosine.grad.isfinite().all()


def test_the_loss_mask_has_verified_classes_of_the_label_space_and_no_ancestors() -> None:
    every = vocabulary(("cat", "dog", "cup", "pet", "car"))
    data = training_set([image(("cat", "cup"))], ("cat", "dog", "cup", "pet"))
    ancestors = {"cat": frozenset({"pet", "unheard of"})}
    space = LabelSpace.of(data.classes, ancestors, every)
    assert space.loss_mask(data.features[0], [1, 0]).tolist() == [
        [True, True, True, True, False],
        [True, True, True, False, False],
    ]
    # The target class is never masked, whatever was verified.
    verified = image(("cat", "cup"), verified=frozenset({"dog", "car"}))
    assert space.loss_mask(verified, [0, 1]).tolist() == [
        [True, True, False, False, False],
        [False, True, True, False, False],
    ]


def test_rare_classes_weigh_more_and_regions_one_on_average() -> None:
    data = training_set([image(("cat",) * 9 + ("dog",))])
    weights = class_weights(class_frequency([data], vocabulary()), balance=0.5)
    assert weights[1] == pytest.approx(3 * weights[0].item())
    assert (9 * weights[0] + weights[1]).item() == pytest.approx(10)


def test_weights_without_any_region_are_finite() -> None:
    assert torch.isfinite(class_weights(torch.zeros(3), 0.5)).all()


def test_distillation_is_minimal_at_the_teachers_and_masked_classes_do_not_matter() -> None:
    classes, weight = vocabulary().embedding, torch.tensor([1.0, 2.0])
    teacher = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    mask = torch.tensor([[True, True, False], [True, True, True]])

    def loss(region: torch.Tensor) -> float:
        return distillation_loss(recipe(), region, teacher, classes, mask, weight).item()

    for seed in range(1, 6):
        noise = 0.1 * torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
        assert loss(F.normalize(teacher + noise, dim=-1)) > loss(teacher)
    region, other = teacher.flip(0), classes.clone()
    other[2] = -other[2]
    each = [
        distillation_loss(recipe(), region, teacher, known, mask, alone)
        for alone in torch.eye(2)
        for known in (classes, other)
    ]
    assert each[0] == each[1]
    assert each[2] != each[3]
