"""Metrics equal those of pycocotools and of the `lvis` package, by either evaluator."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

import autolabel.run.pipeline
from autolabel.evaluation import evaluate as evaluation
from autolabel.evaluation import predictor
from autolabel.evaluation.benchmark import run_benchmark
from autolabel.evaluation.matching import IouType, PairedImages, match_predictions, pair_images
from autolabel.evaluation.metrics import Metric, accumulate, evaluate_coco, summarize
from autolabel.evaluation.pairing import MatchImages
from autolabel.evaluation.predictor import BenchmarkRequest
from integrations.annotations import Annotation, LabelledImage, LabelledSet, as_rle
from integrations.formats.coco import read_coco
from integrations.formats.lvis import write_lvis
from integrations.progress import NullReporter
from regionspot.types import decode_mask, encode_mask
from tests.autolabel.evaluation.factories import random_sets
from tests.autolabel.evaluation.reference import coco_metrics, lvis_metrics
from tests.autolabel.helpers import FinishedRun


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


def made_up_ground_truth(found: LabelledSet, federated: bool) -> LabelledSet:
    """Labels close to those of a run: some of another class, crowds, and verified classes."""
    generator = np.random.default_rng(4)
    ids = [category.id for category in found.categories]
    categories = tuple(
        dataclasses.replace(each, frequency="rcf"[row % 3])
        for row, each in enumerate(found.categories)
    )
    images = []
    for image in found.images:
        kept = [each for each in image.annotations if generator.random() < 0.8]
        labels = tuple(moved(each, image, ids, federated, generator) for each in kept)
        present = {each.category_id for each in labels}
        absent = tuple(i for i in ids if i not in present and generator.random() < 0.7)
        unverified = tuple(i for i in present if generator.random() < 0.3)
        if federated:
            image = dataclasses.replace(image, absent=absent, unverified=unverified)
        images.append(dataclasses.replace(image, annotations=labels))
    return LabelledSet(categories, tuple(images))


def moved(
    label: Annotation,
    image: LabelledImage,
    ids: list[int],
    federated: bool,
    generator: np.random.Generator,
) -> Annotation:
    assert label.mask is not None
    dx, dy = generator.integers(-9, 10, 2).tolist()
    pixels = np.roll(decode_mask(as_rle(label.mask, image.width, image.height)), (dy, dx), (0, 1))
    x1, y1, x2, y2 = label.box
    box = (max(x1 + dx, 0), max(y1 + dy, 0), min(x2 + dx, image.width), min(y2 + dy, image.height))
    return Annotation(
        int(generator.choice(ids)) if generator.random() < 0.2 else label.category_id,
        box,
        mask=encode_mask(pixels),
        is_crowd=not federated and bool(generator.random() < 0.1),
    )


def assert_equal(pairs: PairedImages, iou_type: IouType, folder: Path) -> None:
    if pairs.federated:
        expected = lvis_metrics(pairs, iou_type, folder)
    else:
        expected = coco_metrics(pairs, iou_type)
    found = by_evaluator(pairs, iou_type)
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert 0 < found["AP"] < 1


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("federated", [True, False])
def test_a_run(finished: FinishedRun, tmp_path: Path, federated: bool, iou_type: IouType) -> None:
    found = read_coco(finished.folder / "labels.coco.json")
    pairs = pair_images(made_up_ground_truth(found, federated), found)
    assert pairs.federated == federated
    assert_equal(pairs, iou_type, tmp_path)


def test_a_benchmark(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundred pairs of box and class an image, by LVIS's rules and by COCO's."""
    made_up = made_up_ground_truth(read_coco(finished.folder / "labels.coco.json"), True)
    write_lvis(tmp_path / "gt.json", made_up.categories, made_up.images)
    compared: list[tuple[LabelledSet, LabelledSet]] = []

    def kept(
        ground_truth: LabelledSet,
        predictions: LabelledSet,
        federated: bool | None = None,
        by: MatchImages = "name",
    ) -> PairedImages:
        assert by == "id"
        if federated is None:
            compared.append((ground_truth, predictions))
        return pair_images(ground_truth, predictions, federated, by)

    monkeypatch.setattr(evaluation, "pair_images", kept)
    monkeypatch.setattr(predictor, "load_model", autolabel.run.pipeline.load_model)
    request = BenchmarkRequest(
        ground_truth=tmp_path / "gt.json",
        images=finished.photos,
        out=tmp_path / "report",
        baselines=False,
        resamples=2,
    )
    rows = run_benchmark(request, NullReporter()).rows
    assert [(row.classifier, row.boxes) for row in rows] == [
        ("mini", "ground truth"),
        ("mini", "proposals"),
        ("oracle labels", "proposals"),
    ]
    assert len(compared) == 3
    assert max(len(image.annotations) for image in compared[1][1].images) > 100
    for each in compared:
        assert_equal(pair_images(*each), "bbox", tmp_path)
        assert_equal(pair_images(*each, federated=False), "bbox", tmp_path)
