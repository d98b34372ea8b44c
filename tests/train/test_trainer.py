"""The training loop, on features in which a token encodes the class."""

from pathlib import Path

import pytest
import torch

from regionspot.errors import InputError
from regionspot.head import RegionHead
from tests.train.factories import (
    CLASSES,
    image,
    images,
    recipe,
    small_model,
    training_set,
    vocabulary,
)
from train.batch import collate
from train.config import Recipe, stage1
from train.metrics import region_scores, top_k
from train.pretrain import fit, initial_head
from train.sampler import TrainingSet
from train.trainer import STATE, Callback, learning_rate


class Recorder(Callback):
    """Records steps and evaluations; interrupts the training after a step, as a kill would."""

    def __init__(self, stop_at: int = 0) -> None:
        self.losses: list[float] = []
        self.evaluated_at: list[int] = []
        self.stop_at = stop_at

    def on_step(self, done: int, loss: float, rate: float, gradient_norm: float) -> None:
        self.losses.append(loss)
        if done == self.stop_at:
            raise KeyboardInterrupt

    def on_evaluation(self, done: int, head: RegionHead) -> None:
        assert not head.training
        self.evaluated_at.append(done)


def trained(config: Recipe, data: list[TrainingSet], run: Path | None = None) -> RegionHead:
    return fit(config, data, vocabulary(), run)


def assert_equal(first: RegionHead, second: RegionHead) -> None:
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


@pytest.mark.parametrize("loss", ["softmax", "focal"])
def test_the_head_learns_the_classes(loss: str) -> None:
    recorder = Recorder()
    config = recipe(loss=loss, epochs=8)
    head = fit(config, [training_set(images(80))], vocabulary(), callback=recorder)
    unseen = [image(("dog", "cat", "cup"), seed=1000 + i) for i in range(8)]
    scores = region_scores(head, unseen, vocabulary())
    assert top_k(scores, unseen, vocabulary(), 1).value > 95
    assert recorder.losses[-1] < recorder.losses[0]
    assert recorder.evaluated_at == [20 * epoch for epoch in range(1, 9)]


def test_same_seed_same_weights() -> None:
    data = [training_set(images())]
    assert_equal(*(trained(recipe(epochs=2), data) for _ in range(2)))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_stopped_training_resumes_to_the_same_weights(tmp_path: Path, ema: float) -> None:
    config, data = recipe(iterations=9, ema=ema, save_every=2), [training_set(images())]
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, vocabulary(), tmp_path, callback=Recorder(stop_at=5))
    recorder = Recorder()
    stopped = fit(config, data, vocabulary(), tmp_path, callback=recorder)
    assert len(recorder.losses) == 5  # steps 5 to 9: the state was of step 4
    assert_equal(stopped, trained(config, data))
    assert_equal(stopped, fit(config, data, vocabulary(), tmp_path))


@pytest.mark.parametrize(
    ("changes", "count", "message"),
    [
        (
            {"learning_rate": 1e-3},
            24,
            "other settings .learning_rate 0.002, now 0.001.; give",
        ),
        ({}, 23, "trained on other data"),
    ],
)
def test_a_state_of_another_training_is_refused(
    tmp_path: Path, changes: dict[str, object], count: int, message: str
) -> None:
    trained(recipe(iterations=1), [training_set(images())], tmp_path)
    trained(recipe(iterations=1, save_every=7), [training_set(images())], tmp_path)
    with pytest.raises(InputError, match=message):
        trained(recipe(iterations=1, **changes), [training_set(images(count))], tmp_path)


def test_a_broken_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"no state")
    with pytest.raises(InputError, match="not a state of this training"):
        trained(recipe(iterations=1), [training_set(images())], tmp_path)


def test_parts_of_a_step_add_up_to_it() -> None:
    # Adam's first steps are of the learning rate's size wherever a gradient is not 0.
    changes = {"iterations": 4, "precision": "float32", "model": small_model(dropout=0.0)}
    data = [training_set(images())]
    whole = trained(recipe(**changes, learning_rate=2.5e-5), data).state_dict()
    parts = trained(recipe(**changes, learning_rate=2.5e-5, accumulate=4), data).state_dict()
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="must be a multiple of 3, 1 processes times 3 parts"):
        trained(recipe(accumulate=3), data)


def test_stops_before_stepping_on_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    broken = images(4)
    broken[2].tokens[:] = float("nan")
    with pytest.raises(InputError, match="the loss is nan in step 1; lower the learning rate"):
        trained(recipe(iterations=1, save_every=1), [training_set(broken)], tmp_path)
    assert not (tmp_path / STATE).exists()


def test_the_average_follows_the_weights() -> None:
    data = [training_set(images())]
    start = initial_head(recipe())
    last = trained(recipe(iterations=5), data).projector.weight
    average = trained(recipe(iterations=5, ema=0.99), data).projector.weight
    assert 0 < (average - start.projector.weight).norm() < (last - start.projector.weight).norm()


def test_the_papers_rate_warms_up_and_falls_twice() -> None:
    config = stage1()
    rates = [learning_rate(config, step) for step in (0, 499, 999, 349_999, 350_000, 420_000)]
    assert rates == pytest.approx([2.5e-8, 1.25e-5, 2.5e-5, 2.5e-5, 2.5e-6, 2.5e-7])


def test_the_rate_of_mini_falls_to_nothing() -> None:
    config = recipe(iterations=100)
    rates = [learning_rate(config, step) for step in range(100)]
    assert max(rates) == pytest.approx(2e-3)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] < 1e-5


def test_a_batch_pads_and_keeps_names_with_rows() -> None:
    index = {name: i for i, name in enumerate(CLASSES)}
    pair = [image(("cat",), 0), image(("dog", "cup"), 1)]
    batch = collate(pair, [torch.tensor([0]), torch.tensor([1, 0])], index)
    assert batch.target.tolist() == [[0, -1], [2, 1]]
    assert batch.padding.tolist() == [[False, True], [False, False]]
    assert torch.equal(batch.tokens[1, 0], pair[1].tokens[1])
