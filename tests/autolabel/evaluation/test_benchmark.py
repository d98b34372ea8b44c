"""A model against labels: ground-truth boxes and another detector's, in one table."""

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autolabel.cluster.prediction_workers import PredictionActor
from autolabel.evaluation import predictor
from autolabel.evaluation.benchmark import run_benchmark
from autolabel.evaluation.predict import GROUND_TRUTH, ImagePrediction
from autolabel.evaluation.predictor import BenchmarkRequest, MissingImage
from integrations.annotations import Annotation, Category, LabelledImage
from integrations.formats.coco import write_coco
from integrations.progress import NullReporter, Reporter
from integrations.vocabulary_file import word_list
from regionspot.errors import InputError
from regionspot.types import Regions, ScoreCalibration, Vocabulary

CATEGORIES = (
    Category(4, "red_thing"),
    Category(2, "green (grass)", ("lawn",)),
    Category(9, "blue"),
)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
SIDE = 60


class ByColour:
    """A classifier that knows three colours, and counts its calls."""

    calibration = ScoreCalibration(20.0, 1.0, 0.0)
    calls = 0
    loaded = 0

    def vocabulary(self, words):
        order = [[each.name for each in CATEGORIES].index(word) for word in words]
        return Vocabulary(tuple(words), torch.eye(3)[order])

    def regions(self, images, boxes, masks=False):
        type(self).calls += 1
        found = []
        for image, rows in zip(images, boxes, strict=True):
            parts = [image[int(y1) : int(y2), int(x1) : int(x2)] for x1, y1, x2, y2 in rows]
            means = [torch.tensor(part.mean(axis=(0, 1)), dtype=torch.float32) for part in parts]
            found.append(Regions(torch.stack(means) if means else torch.zeros(0, 3)))
        return found


class TaskReporter(NullReporter):
    def __init__(self) -> None:
        self.started: list[tuple[str, int, int]] = []

    def start(self, task: str, total: int, completed: int = 0) -> None:
        self.started.append((task, total, completed))


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchmarkRequest:
    """Four images with a patch of each colour; the other detector's boxes are the ground truth."""
    labelled, images = [], tmp_path / "images"
    images.mkdir()
    for number in range(4):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        labels = []
        for index, colour in enumerate(COLOURS):
            x, y = 18 * index + 2, 10 * number + 2
            pixels[y : y + 15, x : x + 15] = colour
            labels.append(Annotation(CATEGORIES[index].id, (x, y, x + 15, y + 15)))
        labels.append(Annotation(CATEGORIES[0].id, (0, 0, SIDE, SIDE), is_crowd=True))
        Image.fromarray(pixels).save(images / f"{number}.png")
        labelled.append(LabelledImage(number, f"{number}.png", SIDE, SIDE, tuple(labels)))
    write_coco(tmp_path / "gt.json", CATEGORIES, labelled)

    def load_model(*_: object) -> ByColour:
        ByColour.loaded += 1
        return ByColour()

    monkeypatch.setattr(predictor, "load_model", load_model)
    monkeypatch.setattr(predictor, "crop_baseline", lambda *_: ByColour())
    ByColour.calls = ByColour.loaded = 0
    other = str(tmp_path / "gt.json")
    return BenchmarkRequest(
        ground_truth=tmp_path / "gt.json",
        images=images,
        boxes=(GROUND_TRUTH, other),
        out=tmp_path / "out",
        resamples=5,
    )


def test_one_table_of_all_classifiers_and_boxes(request_of: BenchmarkRequest) -> None:
    reporter = TaskReporter()
    found = run_benchmark(request_of, reporter)
    rows, page = found.rows, found.page
    assert [(row.classifier, row.boxes) for row in rows] == [
        (name, boxes)
        for name in ("mini", "box crops", "mask crops")
        for boxes in ("ground truth", "gt.json")
    ] + [("oracle labels", "gt.json")]
    own_boxes = {each.name: each.value for each in rows[0].metrics}
    assert own_boxes["AP"] == own_boxes["top-1"] == own_boxes["top-5"] == 1
    assert np.isnan({each.name: each.value for each in rows[1].metrics}["top-1"])
    assert reporter.started[0] == ("mini, ground truth", 4, 0)
    assert "Classifiers and boxes compared" in page.read_text(encoding="utf-8")
    assert {each.name: each.value for each in rows[-1].metrics}["AP"] == 1
    table = json.loads((request_of.out / "figures.json").read_text())["benchmark"]
    assert table[-1]["seconds"] is None
    assert [row["boxes"] for row in table[:2]] == ["ground truth", "gt.json"]
    assert not (request_of.out / "work").exists()
    assert ByColour.loaded == 1


def test_only_the_classes_of_words_are_predicted(request_of: BenchmarkRequest) -> None:
    request = replace(request_of, words=word_list(["lawn", "yak", "Blue"]), baselines=False)
    run_benchmark(request, NullReporter())
    with (request.out / "words.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {each["class"] for each in rows} == {"green (grass)", "blue"}


def test_it_resumes_where_it_stopped(
    request_of: BenchmarkRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(NullReporter):
        def advance(self, steps: int = 1) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(request_of, Stop())
    reporter = TaskReporter()
    run_benchmark(request_of, reporter)
    assert reporter.started[0] == ("mini, ground truth", 4, 1)
    assert ByColour.calls == 4 * 6


def test_images_of_another_size_are_refused(request_of: BenchmarkRequest) -> None:
    Image.new("RGB", (9, 9)).save(request_of.images / "2.png")
    with pytest.raises(InputError, match=r"2.png has 9 x 9 pixels, .* say 60 x 60"):
        run_benchmark(request_of, NullReporter())
    assert ByColour.calls == 0
    assert not request_of.out.exists()
    shutil.rmtree(request_of.images)
    with pytest.raises(InputError):
        run_benchmark(request_of, NullReporter())


class LastFirst:
    """Workers in this process, which begin with the last image."""

    device = "cpu"
    computed = 0

    def predictions(
        self, request: BenchmarkRequest, missing: Sequence[MissingImage], reporter: Reporter
    ) -> Iterator[tuple[MissingImage, ImagePrediction]]:
        actor = PredictionActor(request)
        for each in reversed(missing):
            self.computed += 1
            yield each, *actor([each])


def test_workers_predict_what_one_process_does(request_of: BenchmarkRequest) -> None:
    def figures(out: Path) -> str:
        content = json.loads((out / "figures.json").read_text())
        for row in content["benchmark"]:
            del row["seconds"]
        return json.dumps(content)

    run_benchmark(request_of, NullReporter())
    by_workers = replace(request_of, out=request_of.out.with_name("by-workers"))
    run_benchmark(by_workers, NullReporter(), workers := LastFirst())
    assert workers.computed == 4 * 6
    assert figures(by_workers.out) == figures(request_of.out)


def test_a_worker_with_another_ground_truth_is_refused(request_of: BenchmarkRequest) -> None:
    actor = PredictionActor(request_of)
    with pytest.raises(InputError, match="another ground truth"):
        actor([MissingImage("mini", GROUND_TRUTH, 0, "the key of another")])
