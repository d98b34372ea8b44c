"""Metrics of `mini` on real photos equal those of pycocotools and of `lvis`.

The ground truth is made up around a run's labels: some are moved, some have another class.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import autolabel.run.pipeline
from autolabel.evaluation import benchmark
from autolabel.evaluation import evaluate as evaluation
from autolabel.evaluation.benchmark import BenchmarkRequest, run_benchmark
from autolabel.evaluation.matching import IouType, PairedImages, pair_images
from autolabel.evaluation.pairing import MatchImages
from integrations.annotations import Annotation, LabelledImage, LabelledSet, as_rle
from integrations.formats.coco import read_coco
from integrations.formats.lvis import write_lvis
from integrations.progress import NullReporter
from regionspot.types import decode_mask, encode_mask
from tests.autolabel.evaluation.reference import coco_metrics, lvis_metrics
from tests.autolabel.evaluation.test_metrics import by_evaluator
from tests.autolabel.helpers import FinishedRun


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
    monkeypatch.setattr(benchmark, "load_model", autolabel.run.pipeline.load_model)
    request = BenchmarkRequest(
        ground_truth=tmp_path / "gt.json",
        images=finished.photos,
        out=tmp_path / "report",
        baselines=False,
        resamples=2,
    )
    rows, _ = run_benchmark(request, NullReporter())
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
