"""Calibration, confusions, recall of boxes, and oracle labels."""

import numpy as np
import pytest

from autolabel.evaluation.diagnostics import (
    NOT_FOUND,
    calibration,
    class_agnostic_matches,
    confusions,
    recall_by_size,
    with_oracle_labels,
)
from autolabel.evaluation.matching import match_predictions, pair_images
from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from tests.autolabel.evaluation.factories import random_sets
from tests.autolabel.evaluation.test_metrics import by_evaluator

CATEGORIES = (Category(1, "cat"), Category(2, "dog"))


def one_image(annotations: list[Annotation], name: str = "a.jpg") -> LabelledSet:
    return LabelledSet(CATEGORIES, (LabelledImage(1, name, 100, 100, tuple(annotations)),))


def test_calibration_error_is_the_gap() -> None:
    box = (0, 0, 50, 50)
    predicted = [Annotation(1, box, 0.75), Annotation(2, box, 0.25)]
    pairs = pair_images(one_image([Annotation(1, box)]), one_image(predicted))
    found = calibration(match_predictions(pairs, "bbox"), 20)
    assert found.error.value == pytest.approx(0.25)
    assert found.count.sum() == 2
    assert np.nansum(found.precision) == 1


def test_confusions_and_recall() -> None:
    labels = [
        Annotation(1, (0, 0, 20, 20)),
        Annotation(2, (50, 50, 99, 99)),
        Annotation(1, (0, 60, 20, 80)),
        Annotation(2, (0, 0, 99, 99), is_crowd=True),
    ]
    predicted = [
        Annotation(1, (0, 0, 20, 21), 0.9),
        Annotation(2, (0, 0, 20, 20), 0.8),
        Annotation(1, (50, 50, 99, 90), 0.7),
    ]
    pairs = pair_images(one_image(labels), one_image(predicted))
    matches = class_agnostic_matches(pairs)
    expected = {("cat", "cat"): 1, ("dog", "cat"): 1, ("cat", NOT_FOUND): 1}
    assert confusions(pairs, matches[0.5]) == expected
    recalls = {(each.size, each.iou): each for each in recall_by_size(pairs, matches, 10)}
    assert recalls["all", 0.5].recall.value == pytest.approx(2 / 3)
    assert recalls["small", 0.5].boxes == 2
    assert recalls["medium", 0.75].recall.value == 1
    assert np.isnan(recalls["large", 0.5].recall.value)


def test_oracle_labels_on_the_same_boxes() -> None:
    labels = [
        Annotation(1, (0, 0, 20, 20)),
        Annotation(2, (50, 50, 99, 99)),
        Annotation(2, (0, 50, 40, 99), is_crowd=True),
    ]
    predicted = [
        Annotation(2, (0, 0, 20, 18), 0.4),
        Annotation(1, (0, 0, 20, 18), 0.9),
        Annotation(9, (52, 50, 99, 99), 0.8),
        Annotation(2, (0, 50, 40, 99), 0.7),
        Annotation(1, (30, 0, 40, 20), 0.6),
    ]
    sets = one_image(labels), one_image(predicted, "b.jpg")
    (image,) = with_oracle_labels(*sets, "id").images
    assert image.file_name == "a.jpg"
    assert [(each.category_id, each.score) for each in image.annotations] == [(1, 0.9), (2, 0.8)]
    empty = LabelledSet(CATEGORIES, ())
    assert not with_oracle_labels(sets[0], empty).images[0].annotations


def test_oracle_labels_are_never_worse() -> None:
    for federated in (True, False):
        ground_truth, predicted = random_sets(7, federated=federated)
        found = by_evaluator(pair_images(ground_truth, predicted), "bbox")
        oracle = with_oracle_labels(ground_truth, predicted)
        best = by_evaluator(pair_images(ground_truth, oracle), "bbox")
        assert best["AP"] > found["AP"]
        oracle = with_oracle_labels(ground_truth, ground_truth)
        perfect = by_evaluator(pair_images(ground_truth, oracle), "bbox")
        assert perfect["AP50"] == pytest.approx(1)
