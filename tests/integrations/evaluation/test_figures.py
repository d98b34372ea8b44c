"""Figures equal those of pycocotools and of the `lvis` package."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from autolabel.evaluation.bootstrap import intervals, weighted_curves
from autolabel.evaluation.classes import match_classes
from autolabel.evaluation.coco_eval import fast_curves
from autolabel.evaluation.matching import match
from autolabel.evaluation.metrics import COCO_LIMITS, LVIS_LIMITS, figures
from autolabel.evaluation.oracle import with_true_words
from autolabel.evaluation.pairing import Paired, pair, read_predictions
from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from integrations.formats.coco import write_coco
from regionspot.errors import InputError
from tests.integrations.evaluation.factories import truth_and_predictions
from tests.integrations.evaluation.reference import coco_figures, lvis_figures


def fast(paired: Paired, kind: str) -> dict[str, float]:
    return figures(fast_curves(paired, kind), paired.categories, paired.federated)


def ours(paired: Paired, kind: str) -> dict[str, float]:
    ones = np.ones(len(paired.images), np.int64)
    limits = LVIS_LIMITS if paired.federated else COCO_LIMITS
    curves = weighted_curves(match(paired, kind), ones, limits)
    return figures(curves, paired.categories, paired.federated)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_coco_figures_equal_pycocotools(seed: int, kind: str) -> None:
    paired = pair(*truth_and_predictions(seed, federated=False))
    expected = coco_figures(paired, kind)
    assert 0.1 < expected["AP"] < 0.9
    assert fast(paired, kind) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert ours(paired, kind) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_lvis_figures_equal_the_lvis_package(tmp_path: Path, seed: int, kind: str) -> None:
    paired = pair(*truth_and_predictions(seed))
    assert paired.federated
    expected = lvis_figures(paired, kind, tmp_path)
    assert 0.1 < expected["AP"] < 0.9
    assert fast(paired, kind) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert ours(paired, kind) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_more_than_300_predictions_an_image(tmp_path: Path) -> None:
    truth, predicted = truth_and_predictions(5, images=2)
    many = tuple(
        dataclasses.replace(image, annotations=image.annotations * 40) for image in predicted.images
    )
    paired = pair(truth, LabelledSet(predicted.categories, many))
    expected = lvis_figures(paired, "bbox", tmp_path)
    assert fast(paired, "bbox") == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert ours(paired, "bbox") == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("federated", [True, False])
def test_no_prediction_at_all(federated: bool) -> None:
    truth, predicted = truth_and_predictions(1, federated=federated)
    paired = pair(truth, LabelledSet(predicted.categories, ()))
    assert paired.without_predictions == len(truth.images)
    assert fast(paired, "bbox")["AP"] == 0
    assert ours(paired, "bbox") == pytest.approx(fast(paired, "bbox"), nan_ok=True)


def test_weights_are_repeated_images() -> None:
    truth, predicted = truth_and_predictions(2, images=6, federated=False)
    weights = np.array([2, 0, 1, 3, 0, 1])
    paired = pair(truth, predicted)
    weighted = weighted_curves(match(paired, "bbox"), weights, COCO_LIMITS)
    by_id = sorted(range(6), key=lambda index: truth.images[index].id)
    repeated: list[list[LabelledImage]] = [[], []]
    for weight, index in zip(weights, by_id, strict=True):
        for _ in range(weight):
            for images, data in zip(repeated, (truth, predicted), strict=True):
                number = len(images)
                image = data.images[index]
                images.append(dataclasses.replace(image, id=number, file_name=f"{number}"))
    again = pair(*(LabelledSet(truth.categories, tuple(images)) for images in repeated))
    expected = figures(weighted, paired.categories, False)
    assert ours(again, "bbox") == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_intervals_hold_the_figure_and_repeat() -> None:
    paired = pair(*truth_and_predictions(3, images=30))
    matches = match(paired, "bbox")
    found = intervals(matches, paired, 60)
    assert found.figures == intervals(matches, paired, 60).figures
    assert found.words.shape == (len(paired.categories), 2)
    low, high = found.figures["AP"]
    assert low < ours(paired, "bbox")["AP"] < high


def test_words_match_by_name_then_by_synonym() -> None:
    truth = [
        Category(5, "baseball_bat"),
        Category(7, "sofa", ("couch", "seat")),
        Category(8, "cup"),
    ]
    truth.append(Category(9, "bench", ("seat",)))
    predicted = [Category(1, "Baseball bat"), Category(2, "couch"), Category(3, "seat")]
    found = match_classes(truth, [*predicted, Category(4, "dragon")])
    assert found.ids == {1: 5, 2: 7}
    assert found.by_synonym == (("couch", "sofa"),)
    assert found.unmatched_predicted == ("seat", "dragon")
    assert found.unmatched_true == ("cup", "bench")


def test_what_stands_in_brackets_is_no_part_of_a_word() -> None:
    truth = [Category(1, "bus_(vehicle)", ("autobus",)), Category(2, "mouse_(animal)")]
    truth.append(Category(3, "mouse_(computer)", ("computer_mouse",)))
    predicted = [Category(1, "bus"), Category(2, "mouse"), Category(3, "mouse (computer)")]
    predicted.append(Category(4, "mouse", ("computer mouse",)))
    found = match_classes(truth, predicted)
    assert found.ids == {1: 1, 3: 3, 4: 3}
    assert found.unmatched_predicted == ("mouse",)


def test_true_words_on_the_same_boxes() -> None:
    truth = [
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
    words = (Category(1, "cat"), Category(2, "dog"))
    sets = [
        LabelledSet(words, (LabelledImage(5, name, 100, 100, tuple(row)),))
        for name, row in (("a.jpg", truth), ("b.jpg", predicted))
    ]
    (image,) = with_true_words(*sets).images
    assert image.file_name == "a.jpg"
    assert [(each.category_id, each.score) for each in image.annotations] == [(1, 0.9), (2, 0.8)]
    empty = LabelledSet(words, ())
    assert not with_true_words(sets[0], empty).images[0].annotations


def test_true_words_are_never_worse() -> None:
    for federated in (True, False):
        truth, predicted = truth_and_predictions(7, federated=federated)
        found = fast(pair(truth, predicted), "bbox")
        best = fast(pair(truth, with_true_words(truth, predicted)), "bbox")
        assert best["AP"] > found["AP"]
        perfect = fast(pair(truth, with_true_words(truth, truth)), "bbox")
        assert perfect["AP50"] == pytest.approx(1)


def test_nothing_in_common_is_refused() -> None:
    truth, predicted = truth_and_predictions(1, images=2)
    other = tuple(
        dataclasses.replace(each, id=each.id + 1000, file_name="x" + each.file_name)
        for each in predicted.images
    )
    with pytest.raises(InputError, match="no image in common"):
        pair(truth, LabelledSet(predicted.categories, other))
    with pytest.raises(InputError, match="no word in common"):
        pair(truth, LabelledSet((Category(1, "dragon"),), ()))


def test_results_as_a_list(tmp_path: Path) -> None:
    image = LabelledImage(3, "a.jpg", 10, 10, (Annotation(1, (0, 0, 5, 5)),))
    truth = LabelledSet((Category(1, "cat"),), (image,))
    path = tmp_path / "results.json"
    path.write_text('[{"image_id": 3, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}]')
    assert read_predictions(path, truth).images[0].annotations[0].box == (0, 0, 5, 5)
    path.write_text('[{"image_id": 4, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}]')
    with pytest.raises(InputError, match=r"results\[0\]: image_id or category_id is not among"):
        read_predictions(path, truth)
    write_coco(path, truth.categories, truth.images)
    assert len(read_predictions(path, truth).images) == 1
