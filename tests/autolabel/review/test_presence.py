"""Absent words and nonsense for the figures of presence."""

import random

from autolabel.review.presence import ABSENT, NOT_LETTERS, matched_classes, nonsense, unrelated
from integrations.annotations import Annotation, LabelledImage


def test_absent_words_stand_to_no_class() -> None:
    found = unrelated(["poodle", "minivan", "walrus", "sofa"], ["dog", "car", "couch"])
    assert found == ["walrus"]


def test_nonsense_is_the_same_for_a_seed() -> None:
    found = nonsense(random.Random(3))
    assert len(found) == len(set(found)) == ABSENT
    assert set(NOT_LETTERS) < set(found)
    assert found == nonsense(random.Random(3))


def test_a_label_matches_the_box_that_it_overlaps_most() -> None:
    def image(*boxes: tuple[int, tuple[float, float, float, float]]) -> LabelledImage:
        rows = tuple(Annotation(category, box) for category, box in boxes)
        return LabelledImage(1, "a.jpg", 100, 100, rows)

    truth = image((1, (0.0, 0.0, 10.0, 10.0)), (2, (50.0, 50.0, 90.0, 90.0)))
    found = image(
        (7, (0.0, 0.0, 10.0, 9.0)), (7, (52.0, 50.0, 90.0, 90.0)), (7, (20.0, 0.0, 30.0, 9.0))
    )
    classes = {1: "cup", 2: "dog"}
    assert matched_classes(found, truth, classes) == ["cup", "dog", None]
    assert matched_classes(found, image(), classes) == [None] * 3
    assert matched_classes(image(), truth, classes) == []
