"""Metrics equal those of pycocotools and of the `lvis` package, by either evaluator."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from autolabel.evaluation.coco_eval import evaluate_coco
from autolabel.evaluation.matching import IouType, PairedImages, match_predictions, pair_images
from autolabel.evaluation.metrics import Metric, accumulate, summarize
from integrations.annotations import LabelledImage, LabelledSet
from tests.autolabel.evaluation.factories import random_sets
from tests.autolabel.evaluation.reference import coco_metrics, lvis_metrics


def by_evaluator(pairs: PairedImages, iou_type: IouType) -> dict[str, float]:
    return summarize(evaluate_coco(pairs, iou_type), pairs.categories, pairs.federated)


def by_matches(pairs: PairedImages, iou_type: IouType) -> dict[str, float]:
    ones = np.ones(len(pairs.images), np.int64)
    found = accumulate(match_predictions(pairs, iou_type), ones, pairs.detection_limits)
    return summarize(found, pairs.categories, pairs.federated)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_coco_metrics_equal_pycocotools(seed: int, iou_type: IouType) -> None:
    pairs = pair_images(*random_sets(seed, federated=False))
    expected = coco_metrics(pairs, iou_type)
    assert 0.1 < expected["AP"] < 0.9
    assert by_evaluator(pairs, iou_type) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert by_matches(pairs, iou_type) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_lvis_metrics_equal_the_lvis_package(tmp_path: Path, seed: int, iou_type: IouType) -> None:
    pairs = pair_images(*random_sets(seed))
    assert pairs.federated
    expected = lvis_metrics(pairs, iou_type, tmp_path)
    assert 0.1 < expected["AP"] < 0.9
    assert by_evaluator(pairs, iou_type) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert by_matches(pairs, iou_type) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_more_than_300_predictions_an_image(tmp_path: Path) -> None:
    ground_truth, predicted = random_sets(5, images=2)
    many = tuple(
        dataclasses.replace(image, annotations=image.annotations * 40) for image in predicted.images
    )
    pairs = pair_images(ground_truth, LabelledSet(predicted.categories, many))
    expected = lvis_metrics(pairs, "bbox", tmp_path)
    assert by_evaluator(pairs, "bbox") == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert by_matches(pairs, "bbox") == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("federated", [True, False])
def test_no_prediction_at_all(federated: bool) -> None:
    ground_truth, predicted = random_sets(1, federated=federated)
    pairs = pair_images(ground_truth, LabelledSet(predicted.categories, ()))
    assert len(pairs.matches.without_predictions) == len(ground_truth.images)
    assert by_evaluator(pairs, "bbox")["AP"] == 0
    assert by_matches(pairs, "bbox") == pytest.approx(by_evaluator(pairs, "bbox"), nan_ok=True)


def test_weights_are_repeated_images() -> None:
    ground_truth, predicted = random_sets(2, images=6, federated=False)
    weights = np.array([2, 0, 1, 3, 0, 1])
    pairs = pair_images(ground_truth, predicted)
    weighted = accumulate(match_predictions(pairs, "bbox"), weights, pairs.detection_limits)
    by_id = sorted(range(6), key=lambda index: ground_truth.images[index].id)
    repeated: list[list[LabelledImage]] = [[], []]
    for weight, index in zip(weights, by_id, strict=True):
        for _ in range(weight):
            for images, data in zip(repeated, (ground_truth, predicted), strict=True):
                number = len(images)
                image = data.images[index]
                images.append(dataclasses.replace(image, id=number, file_name=f"{number}"))
    again = pair_images(
        *(LabelledSet(ground_truth.categories, tuple(images)) for images in repeated)
    )
    expected = summarize(weighted, pairs.categories, False)
    assert by_matches(again, "bbox") == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_ratio_and_its_interval() -> None:
    hits, totals = np.array([1.0, 0, 2, 0]), np.array([2.0, 1, 2, 0])
    found = Metric.ratio("recall", hits, totals, 50)
    assert found.value == pytest.approx(0.6)
    assert 0 <= found.low < found.value < found.high <= 1
    without = Metric.ratio("recall", hits, totals, 0)
    assert without.value == found.value
    assert math.isnan(without.low)
    assert math.isnan(Metric.ratio("recall", hits * 0, totals * 0, 5).value)


def test_an_interval_leaves_out_what_cannot_be_measured() -> None:
    found = Metric.bootstrapped("AP", 0.5, [math.nan, 0.4, 0.6, math.nan])
    assert (found.low, found.high) == pytest.approx((0.405, 0.595))
