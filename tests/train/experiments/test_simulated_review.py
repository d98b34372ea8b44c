"""Simulated reviews."""

from dataclasses import replace

import numpy as np
import pytest

from tests.train.finetune.factories import (
    CLASSES,
    NEW_CLASSES,
    RENAMED,
    photos,
    renamed,
    scorer,
    trained_head,
    vocabulary,
)
from train.config import FinetuneConfig
from train.experiments.simulated_review import Simulation, mean_and_error, review_table
from train.sampler import TrainingSet


def test_a_simulated_annotator_corrects_new_classes() -> None:
    """The head was trained on the old names of classes that the annotator calls otherwise."""
    training, reviewed = (
        TrainingSet("photos", images, [i.names for i in images], CLASSES)
        for images in (photos(40, seed=1), renamed(photos(40, seed=2), RENAMED))
    )
    simulation = Simulation(
        scorer(trained_head()),
        CLASSES,
        vocabulary(*CLASSES, *NEW_CLASSES),
        training,
        reviewed,
        renamed(photos(100, seed=3), RENAMED),
    )
    config = FinetuneConfig(seed=1, epochs=40, learning_rate=1e-3)
    effect = simulation.review(2, 10, config)
    before, after = effect.before, effect.after
    assert effect.corrections > 40
    assert before["corrected classes"].value < 20
    assert after["corrected classes"].value > 90
    assert after["seen others"].value >= before["seen others"].value - 1
    groups = ("seen others", "unseen others", "corrected classes")
    assert sum(after[group].total for group in groups) == 400
    table = review_table([effect, replace(effect, before=after)])
    assert [column.header for column in table.columns][2:] == [
        "corrected classes",
        "all others",
        "seen others",
    ]
    assert table.row_count == 3


def test_mean_and_standard_error_leave_out_nan() -> None:
    means, errors = mean_and_error(np.array([[1.0, np.nan], [3.0, 2.0], [5.0, 4.0]]))
    assert means.tolist() == [3, 3]
    assert errors == pytest.approx([2 / 3**0.5, 1])
