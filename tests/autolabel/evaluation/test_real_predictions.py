"""Figures of what `mini` says of real photos equal those of pycocotools and of `lvis`.

The truth is made up around a run's labels: some of them moved, some with another word.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import autolabel.run.pipeline
from autolabel.evaluation import benchmark as settings
from autolabel.evaluation.benchmark import ModelRequest, evaluate_model
from autolabel.evaluation.coco_eval import fast_curves
from autolabel.evaluation.evaluate import Judgement, judge
from autolabel.evaluation.metrics import figures
from autolabel.evaluation.pairing import Paired, pair
from autolabel.evaluation.predict import GIVEN, PROPOSALS
from integrations.annotations import Annotation, LabelledImage, LabelledSet, as_rle
from integrations.formats.coco import read_coco
from integrations.formats.lvis import write_lvis
from regionspot.types import decode_mask, encode_mask
from tests.autolabel.evaluation.test_settings import Reporter
from tests.autolabel.helpers import FinishedRun
from tests.integrations.evaluation.reference import coco_figures, lvis_figures


def people_might_have_drawn(found: LabelledSet, federated: bool) -> LabelledSet:
    """Labels close to those of a run, with other words now and then, crowds, and verified words."""
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


def assert_equal(paired: Paired, kind: str, folder: Path) -> None:
    expected = (
        lvis_figures(paired, kind, folder) if paired.federated else coco_figures(paired, kind)
    )
    found = figures(fast_curves(paired, kind), paired.categories, paired.federated)
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert 0 < found["AP"] < 1


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("federated", [True, False])
def test_a_run(finished: FinishedRun, tmp_path: Path, federated: bool, kind: str) -> None:
    found = read_coco(finished.folder / "labels.coco.json")
    paired = pair(people_might_have_drawn(found, federated), found)
    assert paired.federated == federated
    assert_equal(paired, kind, tmp_path)


def test_the_settings(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundred pairs of box and word an image, by LVIS's rules and by COCO's."""
    truth = people_might_have_drawn(read_coco(finished.folder / "labels.coco.json"), True)
    write_lvis(tmp_path / "gt.json", truth.categories, truth.images)
    compared: list[tuple[LabelledSet, LabelledSet]] = []

    def kept(
        title: str, truth: LabelledSet, found: LabelledSet, draws: int, advance: Callable[[], None]
    ) -> Judgement:
        compared.append((truth, found))
        return judge(title, truth, found, draws, advance)

    monkeypatch.setattr(settings, "judge", kept)
    monkeypatch.setattr(settings, "load_model", autolabel.run.pipeline.load_model)
    request = ModelRequest(
        tmp_path / "gt.json",
        finished.photos,
        boxes=(GIVEN, PROPOSALS),
        out=tmp_path / "report",
        baselines=False,
        draws=2,
    )
    rows, _ = evaluate_model(request, Reporter())
    assert [(row.classifier, row.boxes) for row in rows] == [
        ("mini", "given"),
        ("mini", "proposals"),
        ("true words", "proposals"),
    ]
    assert max(len(image.annotations) for image in compared[1][1].images) > 100
    for each in compared:
        assert_equal(pair(*each), "bbox", tmp_path)
        assert_equal(pair(*each, federated=False), "bbox", tmp_path)
