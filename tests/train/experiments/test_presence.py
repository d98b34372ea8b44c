"""The constants of presence: fitted, and how well they agree with what is right."""

import pytest
import torch

from regionspot.nouns.bank import PresenceConstants
from train.experiments.presence import (
    Answers,
    calibrations_of,
    expected_calibration_error,
    fit_constants,
)

TRUE = PresenceConstants(slope=1.5, bias=0.5, novelty_bias=-1.0)


def drawn(number: int) -> Answers:
    """Best words that are right as often as `TRUE` says."""
    generator = torch.Generator().manual_seed(0)
    evidence = 3 * torch.randn(number, generator=generator)
    unseen = torch.rand(number, generator=generator) < 0.25
    novelty = unseen * torch.rand(number, generator=generator)
    chance = torch.sigmoid(TRUE.slope * evidence + TRUE.bias + TRUE.novelty_bias * novelty)
    right = torch.rand(number, generator=generator) < chance
    return Answers(evidence, novelty, right, unseen, unseen)


def test_constants_are_found_again() -> None:
    found = fit_constants(drawn(20_000))
    assert found.slope == pytest.approx(TRUE.slope, abs=0.1)
    assert found.bias == pytest.approx(TRUE.bias, abs=0.1)
    assert found.novelty_bias == pytest.approx(TRUE.novelty_bias, abs=0.2)


def test_calibration_is_of_all_labels_and_of_unseen_classes() -> None:
    found = calibrations_of("photos", drawn(20_000), TRUE)
    assert [each.name for each in found] == [
        "photos",
        "photos: labels of unseen classes",
        "photos: boxes of unseen classes",
    ]
    assert found[0].labels == 20_000
    assert all(each.ece < 0.03 for each in found)
    assert found[0].presence == pytest.approx(found[0].accuracy, abs=1)


def test_expected_calibration_error() -> None:
    presence = torch.tensor([0.95, 0.85, 1.0, 0.05])
    right = torch.tensor([True, False, True, False])
    # |0.95 + 1.0 - 2|, |0.85 - 0| and |0.05 - 0|, over 4
    assert expected_calibration_error(presence, right) == pytest.approx((0.05 + 0.85 + 0.05) / 4)
    assert expected_calibration_error(torch.ones(3), torch.ones(3, dtype=torch.bool)) == 0
