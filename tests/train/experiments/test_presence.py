"""The constants of presence: fitted, and how well they agree with what is right."""

from dataclasses import replace

import pytest
import torch

from regionspot.nouns.bank import PresenceConstants, bank_presence
from train.experiments.presence import (
    Answers,
    calibration_of_left_out,
    calibrations_of,
    expected_calibration_error,
    fit_constants,
)

TRUE = PresenceConstants(slope=1.5, bias=0.5, novelty_bias=-1.0, novelty_slope=-0.5)
SEEN, UNSEEN = 60, 20  # classes


def drawn(number: int) -> Answers:
    """Best words that are right as often as `TRUE` says."""
    generator = torch.Generator().manual_seed(0)
    evidence = 3 * torch.randn(number, generator=generator)
    unseen = torch.rand(number, generator=generator) < 0.25
    novelty = unseen * torch.rand(number, generator=generator)
    right = torch.rand(number, generator=generator) < bank_presence(evidence, novelty, TRUE)
    number_of_kind = torch.where(unseen, UNSEEN, SEEN)
    first = torch.where(unseen, SEEN, 0)
    place = (number_of_kind * torch.rand(number, generator=generator)).long()
    target = first + torch.where(right, place, (place + 1) % number_of_kind)
    return Answers(evidence, novelty, first + place, target, unseen, unseen)


def test_constants_are_found_again() -> None:
    found = fit_constants(drawn(20_000))
    assert found.slope == pytest.approx(TRUE.slope, abs=0.1)
    assert found.bias == pytest.approx(TRUE.bias, abs=0.1)
    assert found.novelty_bias == pytest.approx(TRUE.novelty_bias, abs=0.2)
    assert found.novelty_slope == pytest.approx(TRUE.novelty_slope, abs=0.2)


def test_a_left_out_class_has_constants_that_were_fitted_without_it() -> None:
    every = drawn(20_000)
    found = calibration_of_left_out(every)
    assert (found.name, found.labels) == ("left-out classes", int(every.unseen.sum()))
    assert found.ece < 0.05  # boxes of left-out classes are all wrong elsewhere
    # One class whose best words are never right does not lower the presence of its own labels.
    odd = SEEN + 3
    changed = replace(every, target=torch.where(every.word == odd, odd + 1, every.target))
    worse = calibration_of_left_out(changed)
    assert worse.accuracy < found.accuracy
    of_odd = changed.only(changed.word == odd)
    with_it = bank_presence(of_odd.evidence, of_odd.novelty, fit_constants(changed)).mean()
    assert with_it < bank_presence(of_odd.evidence, of_odd.novelty, TRUE).mean()
    assert worse.ece > found.ece


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
