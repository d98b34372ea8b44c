"""The training loop on small made-up features in which the word can be read off the token."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from regionspot.head import HeadConfig
from regionspot.presets import preset
from regionspot.types import Vocabulary
from train.features import ImageFeatures
from train.fit import collate, fit, word_weights
from train.measure import calibrate_presence, region_cosines, top_k
from train.recipes import Recipe

WORDS = ("cat", "dog", "cup")


def vocabulary() -> Vocabulary:
    generator = torch.Generator().manual_seed(7)
    return Vocabulary(WORDS, F.normalize(torch.randn(3, 16, generator=generator), dim=-1))


def image(names: tuple[str, ...], seed: int) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    tokens = 0.3 * torch.randn(len(names), 256, generator=generator)
    for row, name in enumerate(names):
        tokens[row, WORDS.index(name)] += 10
    memory = torch.randn(5, 24, generator=generator)
    pooled = torch.randn(len(names), 24, generator=generator)
    return ImageFeatures(names, tokens, memory, pooled, torch.zeros(len(names), 16))


def images(count: int = 24) -> list[ImageFeatures]:
    kinds = (("cat",), ("dog", "cup"), ("cup", "cup", "cat"))
    return [image(kinds[i % 3], seed=i) for i in range(count)]


def recipe(**changes: object) -> Recipe:
    head = HeadConfig(
        map_width=24, text_width=16, width=32, depth=1, feedforward=32, pooled_width=24
    )
    model = replace(preset("mini"), head=head)
    settings = {"epochs": 10, "images_per_step": 4, "learning_rate": 2e-3, **changes}
    return replace(Recipe(model), **settings)  # type: ignore[arg-type]


def test_learns_what_the_tokens_say() -> None:
    losses: list[float] = []
    head = fit(recipe(), images(120), vocabulary(), lambda epoch, loss, head: losses.append(loss))
    unseen = [image(("dog", "cat", "cup"), seed=100 + i) for i in range(8)]
    found = region_cosines(head, unseen, vocabulary())
    assert top_k(found, unseen, vocabulary(), 1).value > 95
    assert losses[-1] < losses[0]


def test_same_seed_same_weights() -> None:
    first, second = (fit(recipe(epochs=2), images(), vocabulary()) for _ in range(2))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_stops_before_stepping_on_a_loss_that_is_not_finite() -> None:
    broken = images(4)
    broken[2].tokens[:] = float("nan")
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit(recipe(epochs=1), broken, vocabulary())


def test_a_batch_pads_and_keeps_names_with_rows() -> None:
    words = {name: i for i, name in enumerate(WORDS)}
    pair = [image(("cat",), 0), image(("dog", "cup"), 1)]
    batch = collate(pair, [torch.tensor([0]), torch.tensor([1, 0])], words)
    assert batch.target.tolist() == [[0, -1], [2, 1]]
    assert batch.padding.tolist() == [[False, True], [False, False]]
    assert torch.equal(batch.tokens[1, 0], pair[1].tokens[1])


def test_rare_words_weigh_more_and_all_regions_one_on_average() -> None:
    data = [image(("cat",) * 9 + ("dog",), 0)]
    weights = word_weights(data, vocabulary(), balance=0.5)
    assert weights[1] == pytest.approx(3 * weights[0].item())
    assert (9 * weights[0] + weights[1]).item() == pytest.approx(10)


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
