"""What a training shows: held-out figures, curves, and where the head looks."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regionspot.errors import InputError
from regionspot.head import RegionHead
from tests.conftest import photo_path
from tests.train.factories import images, recipe, small_model, training_set, vocabulary
from train.callbacks import SIDE, Monitor, Shown, attention_picture
from train.sampler import TrainingSet
from train.trainer import fit


def shown() -> Shown:
    boxes = np.array([[10, 20, 200, 210], [0, 0, 5, 5]], np.float32)
    return Shown(images(2)[1], photo_path("coffee"), boxes)


def test_curves_and_pictures_of_a_training_that_was_stopped(tmp_path: Path) -> None:
    said = io.StringIO()
    data, held_out = training_set(images()), training_set(images(3))
    for _ in range(2):  # the second goes on from the first's last step and adds nothing
        curves = tmp_path / "tensorboard"
        with Monitor(Console(file=said), 40, [held_out], vocabulary(), shown(), curves) as monitor:
            fit(recipe(iterations=40), [data], vocabulary(), tmp_path, observer=monitor)
    written = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in written.Scalars("train/loss")] == [20, 40]
    assert len(written.Scalars("held_out/made up/top-1")) == 7
    assert [event.step for event in written.Images("attention")][-1] == 40
    assert "step 6/40: made up held-out top-1" in said.getvalue()


def test_a_picture_has_a_panel_for_each_region() -> None:
    torch.manual_seed(0)
    head = RegionHead(small_model().head).eval()
    picture = attention_picture(head, shown())
    assert picture.shape == (SIDE, 2 * SIDE, 3)
    assert picture.dtype == np.uint8


def test_without_tensorboard_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    none: list[TrainingSet] = []
    Monitor(Console(), 1, none, vocabulary())
    with pytest.raises(InputError, match=r"regionspot-autolabel\[train\]'.* --no-curves"):
        Monitor(Console(), 1, none, vocabulary(), curves=tmp_path)
