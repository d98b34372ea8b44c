"""OpenVINO and ONNX Runtime over torch for the image towers of `mini`: processor seconds, labels.

make bench-runtime LABELLED=coco_val    # a folder with instances.json and images/
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from integrations.detectors import build_detector
from integrations.formats.coco import read_coco
from integrations.images import read_image
from regionspot import RegionSpot, load_model
from regionspot.boxes import FloatArray
from regionspot.devices.runtime import CONVERTERS
from regionspot.types import ImageArray
from tests.benchmarks.measure import processor
from tests.conftest import PHOTOS, photo_path

ROUNDS = 3
MOST_PHOTOS = 56
BOXES = 20  # of the image whose parts are timed
WORDS = ("person", "cat", "cup", "motorcycle", "rocket", "dog", "car", "chair")
LEAST_SAME = 0.98
TIE = 0.05  # of torch's seconds
MOST_TOP1 = 0.005  # that the accuracy on annotated boxes may differ by

Sample = tuple[ImageArray, FloatArray, tuple[str, ...]]


@pytest.fixture(scope="module")
def models() -> dict[str, RegionSpot]:
    names = ("torch", *CONVERTERS)
    found = {name: load_model("mini", "cpu", runtime=name) for name in names}
    for model in found.values():
        model.prepare(print)
    return found


def processor_seconds(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Of the fastest round of each, in turns."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, call in work.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def samples(folder: Path | None, model: RegionSpot) -> tuple[list[Sample], tuple[str, ...]]:
    """Images with boxes and the class of each, and all classes.

    Without a folder: scikit-image's photos with the detector's boxes, which have no class.
    """
    if folder is None:
        detector = build_detector("nanodet", sam=None, device=model.device, max_boxes=BOXES)
        images = [read_image(photo_path(name)) for name in PHOTOS]
        return [(image, detector.detect(image).boxes, ()) for image in images], WORDS
    data = read_coco(folder / "instances.json", folder / "images")
    names = {category.id: category.name for category in data.categories}
    listed = [image for image in data.images if image.annotations][:MOST_PHOTOS]
    return [
        (
            read_image(folder / "images" / each.file_name),
            np.array([a.box for a in each.annotations], np.float32),
            tuple(names[a.category_id] for a in each.annotations),
        )
        for each in listed
    ], tuple(names.values())


def test_each_part(models: Mapping[str, RegionSpot]) -> None:
    image = read_image(photo_path("motorcycle_left"))
    height, width = image.shape[:2]
    first = np.random.default_rng(0).uniform(0, 0.5, (BOXES, 2)) * (width, height)
    quarter = np.array([width / 4, height / 4])
    boxes = np.concatenate([first, first + quarter], axis=1).astype(np.float32)
    maps = models["torch"].encoder.image_tokens([image])[0]
    detectors = {
        name: build_detector("nanodet", runtime=model.runtime) for name, model in models.items()
    }
    parts: dict[str, Callable[[str], object]] = {
        "NanoDet": lambda name: detectors[name].detect(image),
        "MobileSAM's encoder": lambda name: models[name].localizer.encode(image),
        "EfficientNet 480, 1200": lambda name: models[name].encoder.image_tokens([image]),
        f"EfficientNet, {BOXES} crops": lambda name: models[name].encoder.pooler.pool(
            image, maps, boxes
        ),
        "regions with masks": lambda name: models[name].regions([image], [boxes], masks=True),
    }
    print(f"\nseconds of the processor, {processor(torch.device('cpu'))}")
    for title, part in parts.items():
        work = {name: (lambda n=name, p=part: p(n)) for name in models}
        found = processor_seconds(work, ROUNDS)
        ratios = {name: found[name] / found["torch"] for name in CONVERTERS}
        others = "  ".join(f"{name} {found[name]:.3f} ({ratios[name]:.2f})" for name in ratios)
        print(f"  {title:24} torch {found['torch']:.3f}  {others}")
        assert ratios["openvino"] < 1
        assert ratios["openvino"] < ratios["onnxruntime"] + TIE  # what `auto` takes is the fastest


def test_labels(models: Mapping[str, RegionSpot], request: pytest.FixtureRequest) -> None:
    folder = request.config.getoption("--labelled")
    listed, words = samples(Path(folder) if folder else None, models["torch"])
    rows, seconds = {}, {}
    for name, model in models.items():
        vocabulary = model.vocabulary(words)
        start = time.process_time()
        rows[name] = [model.predict(image, boxes, vocabulary) for image, boxes, _ in listed]
        seconds[name] = time.process_time() - start
    found = {name: np.concatenate([each.class_id for each in rows[name]]) for name in models}
    scores = {name: np.concatenate([each.score for each in rows[name]]) for name in models}
    truth = np.array([words.index(name) for *_, names in listed for name in names])
    print(f"\n{len(listed)} photos, {len(found['torch'])} boxes, {len(words)} words")
    for name in CONVERTERS:
        same = float((found["torch"] == found[name]).mean())
        change = float(np.abs(scores["torch"] - scores[name]).max())
        ratio = seconds[name] / seconds["torch"]
        print(
            f"  {name}: same word {same:.2%}, scores differ by {change:.1e} at most; processor "
            f"{ratio:.2f} of torch's"
        )
        if len(truth):  # else boxes of the detector, many of which show none of the words
            assert same >= LEAST_SAME
            top1, reference = (float((found[each] == truth).mean()) for each in (name, "torch"))
            print(f"  top-1: torch {reference:.2%}, {name} {top1:.2%}")
            assert abs(top1 - reference) <= MOST_TOP1
