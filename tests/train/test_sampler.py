"""Which images a step sees."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from regionspot.errors import InputError
from tests.train.factories import image, images, training_set
from train.sampler import (
    Sampler,
    TrainingSet,
    batch_rows,
    held_out_rows,
    hold_out,
    repeat_factors,
)


def drawn(sampler: Sampler, count: int, start: int = 0) -> list[tuple[int, int]]:
    return [sampler[position] for position in range(start, start + count)]


def test_a_pass_shows_each_image_once_and_each_pass_in_its_own_order() -> None:
    sampler = Sampler([training_set(images(10))], seed=0)
    first, second = drawn(sampler, 10), drawn(sampler, 10, start=10)
    assert sorted(first) == sorted(second) == [(0, number) for number in range(10)]
    assert first != second
    assert first != drawn(Sampler([training_set(images(10))], seed=1), 10)
    assert sampler.images_a_pass == 10


def test_a_position_alone_says_the_image() -> None:
    sets = [training_set(images(7)), replace(training_set(images(5)), ratio=2.0)]
    in_order = drawn(Sampler(sets, seed=0), 40)
    backwards = Sampler(sets, seed=0)
    assert [backwards[position] for position in range(39, -1, -1)][::-1] == in_order


def test_processes_share_the_images_of_a_step() -> None:
    sampler = Sampler([training_set(images(24))], seed=0)
    alone = sampler.step(5, images=8)
    shared = [position for rank in range(4) for position in sampler.step(5, 8, rank, 4)]
    assert shared == list(alone)
    assert sampler.step(6, images=8).start == alone[-1] + 1


def test_data_sets_are_seen_in_their_ratios() -> None:
    sets = [replace(training_set(images(n)), ratio=r) for n, r in ((50, 1.0), (10, 3.0))]
    seen = Counter(chosen for chosen, _ in drawn(Sampler(sets, seed=0), 2000))
    assert seen[1] / seen[0] == pytest.approx(3, rel=0.15)
    whole = drawn(Sampler(sets, seed=0), 10_000)
    assert Counter(chosen for chosen, _ in whole) == {0: 2500, 1: 7500}
    each = Counter(number for chosen, number in whole if chosen == 1)
    assert set(each.values()) == {750}


def test_images_of_rare_classes_come_more_often() -> None:
    names = [("cat",)] * 99 + [("cat", "dog")]
    factors = repeat_factors(names, threshold=0.09)
    assert factors[:99].tolist() == [1] * 99
    assert factors[99] == pytest.approx(3)  # sqrt(0.09 / 0.01)
    data = training_set([image(each) for each in names])
    sampler = Sampler([data], seed=0, repeat_threshold=0.0225)  # a factor of 1.5
    assert sampler.images_a_pass == 100
    seen = Counter(number for _, number in drawn(sampler, 100 * 200))
    assert seen[99] / seen[0] == pytest.approx(1.5, rel=0.1)


def test_held_out_images_are_not_trained_on_and_empty_ones_not_used() -> None:
    data = training_set([*images(19), image(())])
    training, held_out = hold_out(data, 0.25, seed=3)
    assert len(training) + len(held_out) == 19
    tokens = {each.tokens.sum().item() for part in (training, held_out) for each in part.features}
    assert len(tokens) == 19
    assert training.names == [each.names for each in training.features]
    with pytest.raises(InputError, match="no image with a box"):
        Sampler([training_set([])], seed=0)


def test_an_inconsistent_training_set_is_refused() -> None:
    with pytest.raises(InputError, match="features of 1 images, class names of 2"):
        TrainingSet("x", [image(("cat",))], [("cat",), ("dog",)], ("cat", "dog"))
    with pytest.raises(InputError, match="ratio of synthetic must be above 0"):
        replace(training_set(images(1)), ratio=0.0)


def test_features_of_some_images_are_read_when_asked_for() -> None:
    data = training_set(images(9)).only([4, 2]).only([1])
    assert torch.equal(data.features[0].tokens, images(9)[2].tokens)
    assert len(data.features[:1]) == 1


def test_the_same_fraction_of_each_group_is_held_out() -> None:
    groups = [list(range(20)), list(range(20, 60))]
    rows = held_out_rows(groups, 0.25, torch.Generator().manual_seed(0))
    assert [len(rows & set(group)) for group in groups] == [5, 10]


def test_batches_of_a_small_set_have_each_row_once_a_pass() -> None:
    passes = [[batch_rows(5, 2, step, 0, "x") for step in range(s, s + 3)] for s in (0, 3)]
    for batches in passes:
        assert [len(batch) for batch in batches] == [2, 2, 1]
        assert sorted(row for batch in batches for row in batch) == list(range(5))
    assert passes[0] != passes[1]
    assert batch_rows(5, 2, 4, 0, "x") == passes[1][1]
