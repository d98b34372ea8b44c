"""Words that a few example regions stand for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from integrations.progress import NullReporter
from regionspot.types import Regions
from tests.train.factories import CLASSES, RecordingReporter, image, vocabulary
from train.data.dataset import AnnotatedImage
from train.experiments.examples import (
    ExampleFigures,
    ExamplePool,
    Experiment,
    examples_table,
    pool_images,
)
from train.features.cache import ImageFeatures

NEW = ("cup",)
NAMES = (("cat", "cup"), ("dog",), ("cup", "dog"), ("cat",))


def data(count: int = 12) -> tuple[list[ImageFeatures], list[Regions]]:
    """Images whose regions lie near their class's text, but those of a cup near no text."""
    texts = dict(zip(CLASSES, vocabulary().embedding, strict=True))
    generator = torch.Generator().manual_seed(3)
    texts["cup"] = torch.randn(16, generator=generator)
    images = [image(NAMES[i % 4], seed=i) for i in range(count)]
    noise = 0.05 * torch.randn(count, 16, generator=generator)
    regions = [
        Regions(torch.stack([texts[name] for name in each.names]) + noise[i])
        for i, each in enumerate(images)
    ]
    return images, regions


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_examples_stand_for_a_word_whose_text_does_not(leave_one_out: bool) -> None:
    images, regions = data()
    pool = ExamplePool.of(images, regions, NEW)
    experiment = Experiment(vocabulary(), images, regions, pool, leave_one_out)
    parts = {"new": NEW, "others": ("cat", "dog")}
    reporter = RecordingReporter()
    reporter.start("draws", 6)
    figures = list(experiment.figures(parts, [1, 3], 3, reporter))
    assert reporter.tasks == {"draws": 6}
    found = {(each.classes, each.examples, each.has_text): each.top_1 for each in figures}
    assert len(found) == len(figures) == 10
    assert found["new", 0, True].value < 50
    for mode in ((1, True), (1, False), (3, True), (3, False)):
        assert found["new", *mode].value == 100
        assert found["others", *mode].value == found["others", 0, True].value == 100
    assert found["new", 3, True].total == 6
    assert examples_table(figures).row_count == 10


def test_the_nearest_mean_of_examples_is_a_baseline() -> None:
    images, regions = data()
    pool = ExamplePool.of(images, regions, CLASSES)
    experiment = Experiment(vocabulary(), images, regions, pool, leave_one_out=True)
    figures = list(experiment.figures({"all": CLASSES}, [3], 2, NullReporter(), True))
    (baseline,) = [each for each in figures if each.nearest_mean]
    assert (baseline.examples, baseline.has_text) == (3, False)
    assert baseline.top_1.value == 100


def test_an_image_is_no_example_for_itself() -> None:
    images, regions = data(4)
    pool = ExamplePool.of(images, regions, CLASSES)
    assert {word: [number for number, _ in found] for word, found in pool.by_word.items()} == {
        "cat": [0, 3],
        "cup": [0, 2],
        "dog": [1, 2],
    }
    assert pool.first(1) == {"cat": [0], "cup": [0], "dog": [0]}
    assert pool.first(2, without=0) == {"cat": [1], "cup": [1], "dog": [0, 1]}
    assert pool.draw(1) == pool.draw(1)
    # A word whose only example is of the image itself has its text alone.
    only = ExamplePool({"cup": pool.by_word["cup"][:1]})
    experiment = Experiment(vocabulary(), images, regions, only, leave_one_out=True)
    (first, *_, third, _) = experiment.correct(only, 1, has_text=True)
    assert not first[1]
    assert third[0]


def test_images_are_taken_until_each_word_has_its_boxes() -> None:
    boxes = np.array([[0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 6, 6]], np.float32)
    whole = AnnotatedImage(1, Path(__file__), 9, 9, boxes, ("cat", "cup", "cup"))
    names = (whole.names, ("cat", "cat", "cat"), ("dog", "cat", "cup"))
    images = [replace(whole, names=each) for each in names]
    found = pool_images(images, {"cup", "dog"}, 2)
    assert [each.names for each in found] == [("cup", "cup"), ("dog", "cup")]
    assert found[0].boxes.tolist() == boxes[1:].tolist()
    assert len(pool_images(images, {"cup"}, 2)) == 1


def test_classes_without_a_box_are_not_in_the_table() -> None:
    images, regions = data(2)
    experiment = Experiment(vocabulary(), images, regions, ExamplePool({}), leave_one_out=False)
    (figures,) = experiment.figures({"none": ()}, [], 1, RecordingReporter())
    assert isinstance(figures, ExampleFigures)
    assert examples_table([figures]).row_count == 0
