"""Figures on given boxes, and the calibration of presence."""

import pytest
import torch

from tests.train.factories import image, images, vocabulary
from train.measure import calibrate_presence, top_k


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


def test_the_interval_holds_the_value() -> None:
    data = images(30)
    generator = torch.Generator().manual_seed(1)
    found = [torch.randn(len(i.names), 3, generator=generator) for i in data]
    accuracy = top_k(found, data, vocabulary(), 1)
    assert accuracy.low < accuracy.value < accuracy.high
    assert top_k(found, data, vocabulary(), 3).value == 100
