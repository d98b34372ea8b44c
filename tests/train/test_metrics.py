"""Accuracy on ground-truth boxes, and the calibration of presence."""

import numpy as np
import pytest
import torch

from regionspot.head import RegionHead
from regionspot.types import Regions, ScoreCalibration
from tests.train.factories import image, images, small_model, vocabulary
from train.metrics import (
    accuracy_of,
    best_presence,
    calibrate_presence,
    region_scores,
    regions_of,
    top_k,
)


def test_presence_estimates_how_often_the_best_class_is_correct() -> None:
    generator = torch.Generator().manual_seed(0)
    data = [image(("cat",), seed=i) for i in range(600)]
    cosine = torch.rand(600, generator=generator)
    is_correct = torch.rand(600, generator=generator) < torch.sigmoid(8 * cosine - 4)
    found = [
        torch.tensor([[c, -1.0, -1.0] if ok else [-1.0, c, -1.0]])
        for c, ok in zip(cosine.tolist(), is_correct.tolist(), strict=True)
    ]
    scale, bias = calibrate_presence(found, data, vocabulary())
    estimated = torch.sigmoid(scale * cosine + bias)
    assert estimated.mean().item() == pytest.approx(is_correct.float().mean().item(), abs=0.01)
    assert scale == pytest.approx(8, rel=0.3)
    regions = [Regions(torch.zeros(1, 8))] * len(found)  # a model without a bank reads scores alone
    best = best_presence(regions, found, vocabulary(), ScoreCalibration(20, scale, bias))
    torch.testing.assert_close(torch.cat(best), estimated)


def test_the_interval_holds_the_value() -> None:
    data = images(30)
    generator = torch.Generator().manual_seed(1)
    found = [torch.randn(len(i.names), 3, generator=generator) for i in data]
    accuracy = top_k(found, data, vocabulary(), 1)
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert accuracy.low < accuracy.value < accuracy.high
    assert top_k(found, data, vocabulary(), 3).value == 100


def test_regions_of_some_classes_are_classified_among_all() -> None:
    data = [image(("cat", "dog")), image(("cup",)), image(("dog",))]
    says_cat, says_dog = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    found = [torch.tensor([says_cat, says_cat]), torch.tensor([says_cat]), torch.tensor([says_dog])]
    assert top_k(found, data, vocabulary(), 1).value == 50
    cosines, dogs = regions_of({"dog"}, found, data)
    assert [each.names for each in dogs] == [("dog",), ("dog",)]
    assert torch.equal(dogs[0].tokens[0], data[0].tokens[1])
    assert top_k(cosines, dogs, vocabulary(), 1).value == 50
    assert regions_of({"bird"}, found, data) == ([], [])


def test_classes_that_were_not_verified_are_not_chosen() -> None:
    torch.manual_seed(0)
    head = RegionHead(small_model().head).eval()
    names = ("dog", "cup")
    data = [image(names), image(names, verified=frozenset({"cup"})), image(names)]
    (everything, some, _), (masked, *_) = (
        region_scores(head, data, vocabulary(), ancestors)
        for ancestors in ({}, {"dog": frozenset({"cat"})})
    )
    assert everything.isfinite().all()
    assert some.isfinite().tolist() == [[False, True, True], [False, False, True]]
    assert torch.equal(some[some.isfinite()], everything[some.isfinite()])
    assert masked.isfinite().tolist() == [[False, True, True], [True, True, True]]
    assert top_k([some], data[1:2], vocabulary(), 2).value == 100


def test_without_a_region_there_is_no_accuracy() -> None:
    assert str(top_k([], [], vocabulary(), 1)) == "none"
    some = accuracy_of(np.array([0.0, 3.0]), np.array([0.0, 4.0]))
    assert (some.value, some.low, some.high) == (75, 75, 75)
