"""Ground truth and predictions brought together: images and categories."""

import dataclasses

import pytest

from autolabel.evaluation.pairing import match_classes, pair_images
from integrations.annotations import Category, LabelledSet
from regionspot.errors import InputError
from tests.autolabel.evaluation.factories import random_sets


def test_classes_match_by_name_then_by_synonym() -> None:
    ground_truth = [
        Category(5, "baseball_bat"),
        Category(7, "sofa", ("couch", "seat")),
        Category(8, "cup"),
    ]
    ground_truth.append(Category(9, "bench", ("seat",)))
    predicted = [Category(1, "Baseball bat"), Category(2, "couch"), Category(3, "seat")]
    found = match_classes(ground_truth, [*predicted, Category(4, "dragon")])
    assert found.ids == {1: 5, 2: 7}
    assert found.by_synonym == (("couch", "sofa"),)
    assert found.unmatched_predicted == ("seat", "dragon")
    assert found.unmatched_ground_truth == ("cup", "bench")


def test_what_stands_in_brackets_is_no_part_of_a_name() -> None:
    ground_truth = [Category(1, "bus_(vehicle)", ("autobus",)), Category(2, "mouse_(animal)")]
    ground_truth.append(Category(3, "mouse_(computer)", ("computer_mouse",)))
    predicted = [Category(1, "bus"), Category(2, "mouse"), Category(3, "mouse (computer)")]
    predicted.append(Category(4, "mouse", ("computer mouse",)))
    found = match_classes(ground_truth, predicted)
    assert found.ids == {1: 1, 3: 3, 4: 3}
    assert found.unmatched_predicted == ("mouse",)


def test_nothing_in_common_is_refused() -> None:
    ground_truth, predicted = random_sets(1, images=2)
    other = tuple(
        dataclasses.replace(each, id=each.id + 1000, file_name="x" + each.file_name)
        for each in predicted.images
    )
    with pytest.raises(InputError, match="no image in common"):
        pair_images(ground_truth, LabelledSet(predicted.categories, other))
    with pytest.raises(InputError, match="no class in common"):
        pair_images(ground_truth, LabelledSet((Category(1, "dragon"),), ()))
