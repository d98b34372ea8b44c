"""Held-out accuracy, curves, and attention of a training."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from integrations.progress import NullReporter
from regionspot.errors import InputError
from regionspot.head import RegionHead
from tests.conftest import photo_path
from tests.train.factories import (
    RecordingReporter,
    images,
    recipe,
    small_model,
    training_set,
    vocabulary,
)
from train.callbacks import SIDE, AttentionImage, Monitor, attention_picture
from train.pretrain import fit
from train.sampler import TrainingSet


def shown() -> AttentionImage:
    boxes = np.array([[10, 20, 200, 210], [0, 0, 5, 5]], np.float32)
    return AttentionImage(images(2)[1], photo_path("coffee"), boxes)


def test_curves_and_pictures_of_a_training_that_was_stopped(tmp_path: Path) -> None:
    reporter = RecordingReporter()
    data, held_out = training_set(images()), training_set(images(3))
    for _ in range(2):  # the second resumes from the first's last step and adds nothing
        curves = tmp_path / "tensorboard"
        with Monitor(reporter, 40, [held_out], vocabulary(), shown(), curves) as monitor:
            fit(recipe(iterations=40), [data], vocabulary(), tmp_path, callback=monitor)
    written = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in written.Scalars("train/loss")] == [20, 40]
    assert len(written.Scalars("held_out/synthetic/top-1")) == 7
    assert [event.step for event in written.Images("attention")][-1] == 40
    assert any("step 6/40: synthetic held-out top-1" in line for line in reporter.messages)
    assert reporter.tasks == {"train": 40}


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
    Monitor(NullReporter(), 1, none, vocabulary())
    with pytest.raises(InputError, match=r"regionspot-autolabel\[train\]'.* --no-curves"):
        Monitor(NullReporter(), 1, none, vocabulary(), curves=tmp_path)
