"""Figures on given boxes, and the calibration of presence."""

import pytest
import torch

from regionspot.head import RegionHead
from regionspot.types import ScoreCalibration
from tests.train.factories import image, images, small_model, vocabulary
from train.metrics import boxes_of, calibrate_presence, mean_presence, region_scores, top_k


def test_presence_says_how_often_the_best_word_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    data = [image(("cat",), seed=i) for i in range(600)]
    cosine = torch.rand(600, generator=generator)
    is_right = torch.rand(600, generator=generator) < torch.sigmoid(8 * cosine - 4)
    found = [
        torch.tensor([[c, -1.0, -1.0] if ok else [-1.0, c, -1.0]])
        for c, ok in zip(cosine.tolist(), is_right.tolist(), strict=True)
    ]
    scale, bias = calibrate_presence(found, data, vocabulary())
    said = torch.sigmoid(scale * cosine + bias)
    assert said.mean().item() == pytest.approx(is_right.float().mean().item(), abs=0.01)
    assert scale == pytest.approx(8, rel=0.3)
    told = mean_presence(found, vocabulary(), ScoreCalibration(20, scale, bias))
    assert told == pytest.approx(100 * said.mean().item())


def test_the_interval_holds_the_value() -> None:
    data = images(30)
    generator = torch.Generator().manual_seed(1)
    found = [torch.randn(len(i.names), 3, generator=generator) for i in data]
    accuracy = top_k(found, data, vocabulary(), 1)
    assert accuracy.low < accuracy.value < accuracy.high
    assert top_k(found, data, vocabulary(), 3).value == 100


def test_boxes_of_some_words_are_chosen_among_all() -> None:
    data = [image(("cat", "dog")), image(("cup",)), image(("dog",))]
    says_cat, says_dog = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    found = [torch.tensor([says_cat, says_cat]), torch.tensor([says_cat]), torch.tensor([says_dog])]
    assert top_k(found, data, vocabulary(), 1).value == 50
    scores, dogs = boxes_of(found, data, {"dog"})
    assert [each.names for each in dogs] == [("dog",), ("dog",)]
    assert torch.equal(dogs[0].tokens[0], data[0].tokens[1])
    assert top_k(scores, dogs, vocabulary(), 1).value == 50
    assert boxes_of(found, data, {"bird"}) == ([], [])


def test_words_that_were_not_verified_are_not_chosen() -> None:
    torch.manual_seed(0)
    head = RegionHead(small_model().head).eval()
    names = ("dog", "cup")
    data = [image(names), image(names, verified=frozenset({"cup"})), image(names)]
    (everything, some, _), (narrower, *_) = (
        region_scores(head.regions, data, vocabulary(), broader)
        for broader in ({}, {"dog": frozenset({"cat"})})
    )
    assert everything.isfinite().all()
    assert some.isfinite().tolist() == [[False, True, True], [False, False, True]]
    assert torch.equal(some[some.isfinite()], everything[some.isfinite()])
    assert narrower.isfinite().tolist() == [[False, True, True], [True, True, True]]
    assert top_k([some], data[1:2], vocabulary(), 2).value == 100
