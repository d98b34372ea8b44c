"""A model and the baselines of the paper's Table 1 over the same images, classes and boxes.

Boxes are those of the paper's three settings (section 4.2): ground truth, a proposal network's, and
another detector's with its scores.
"""

import dataclasses
import hashlib
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path

import numpy as np

from autolabel.evaluation.evaluate import RESAMPLES, EvaluationResult, evaluate_sets, upper_bound
from autolabel.evaluation.matching import without_crowds
from autolabel.evaluation.metrics import Metric
from autolabel.evaluation.pairing import MatchImages
from autolabel.evaluation.predict import (
    GROUND_TRUTH,
    PROPOSALS,
    Classifier,
    ImagePrediction,
    PredictionCache,
    boxes_in,
    boxes_of,
    classify,
    labels_of,
    vocabulary_of,
)
from autolabel.evaluation.report import BenchmarkRow, write_report
from integrations.annotations import LabelledImage, LabelledSet, Tally
from integrations.detectors import build_detector, needs_sam
from integrations.formats.coco import read_coco
from integrations.images import check_stated_size, image_size, read_image
from integrations.progress import Reporter
from regionspot import load_model
from regionspot.config import CropConfig, CropKind, model_config, resolve_device
from regionspot.crops.classifier import CropClassifier
from regionspot.errors import InputError
from regionspot.files import path_inside
from regionspot.model import RegionModel, head_file
from regionspot.types import ImageArray, Proposals, Vocabulary
from regionspot.weights import sha256_by_preset, sha256_of

BOXES = (GROUND_TRUTH, PROPOSALS)
ORACLE = "oracle labels"
CACHE = "work"
_IN_TABLE = ("AP", "AP50", "AP_r", "AP_c", "AP_f", "AR")


@dataclass(frozen=True, kw_only=True)
class BenchmarkRequest:
    """What is to be compared.

    Attributes:
        ground_truth: COCO or LVIS file.
        images: folder of its images.
        model: a name, as of `load_model`.
        boxes: `gt`, `proposals`, or files of boxes with scores.
        out: folder of the report and, until it is written, of the cached predictions.
        baselines: whether the encoder alone is evaluated on crops.
        resamples: for bootstrap intervals; 0: no intervals.
        device: `auto`, `cpu` or `cuda`.
        runtime: what computes the image towers, as of `load_model`.
        overwrite: replace a report that is there.
        checkpoint: of the head; None for the model's own.
        limit: number of the first images to evaluate on; None: all.
        match_by: how the images of a file of boxes are matched; as of `read_predictions`.
    """

    ground_truth: Path
    images: Path
    model: str = "mini"
    boxes: tuple[str, ...] = BOXES
    out: Path = Path("report")
    baselines: bool = True
    resamples: int = RESAMPLES
    device: str = "auto"
    runtime: str = "auto"
    overwrite: bool = False
    checkpoint: Path | None = None
    limit: int | None = None
    match_by: MatchImages | None = None


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark measured.

    Attributes:
        rows: of the table; the last ones are the upper bound, oracle labels on the same boxes.
        page: of the report.
        images: number of images.
        tally: what was changed and left out while the ground truth was read.
    """

    rows: tuple[BenchmarkRow, ...]
    page: Path
    images: int
    tally: Tally


def run_benchmark(request: BenchmarkRequest, reporter: Reporter) -> Benchmark:
    """Evaluate every classifier on every kind of boxes, and write the report.

    The same call again resumes where it was stopped.

    Raises:
        InputError: something that was asked for cannot be used.
    """
    labels = read_coco(request.ground_truth, request.images)
    if not any(image.annotations for image in labels.images):
        raise InputError(f"{request.ground_truth} holds no label to compare with")
    sources = {name: boxes_of(name, labels, reporter, request.match_by) for name in request.boxes}
    labels = dataclasses.replace(labels, images=labels.images[: request.limit])
    _check_images(request, labels)
    results: list[EvaluationResult] = []
    rows: list[BenchmarkRow] = []
    bounds: list[BenchmarkRow] = []
    for name, build in _classifiers(request).items():
        run = _ClassifierRun(request, labels, name, build, reporter)
        for source, boxes in sources.items():
            found = run.predictions(source, boxes)
            title = f"{name}, {source_title(source)}"
            predicted = labels_of(labels, found)
            result = evaluate_sets(title, labels, predicted, request.resamples, reporter, "id")
            results.append(result)
            rows.append(_row(name, source, result.boxes.metrics, found, request.resamples))
            if name == request.model and source != GROUND_TRUTH:
                alone = boxes_in(labels, found)
                bound = upper_bound(labels, alone, request.resamples, reporter, "id")
                bounds.append(_row(ORACLE, source, bound, (), request.resamples))
    facts = {
        "ground truth": str(request.ground_truth),
        "model": request.model,
        "shown below": results[0].title,
    }
    title = f"{request.model} on {request.ground_truth.parent.name or request.ground_truth.stem}"
    page = write_report(request.out, title, results, rows + bounds, facts, request.overwrite)
    shutil.rmtree(request.out / CACHE)
    return Benchmark((*rows, *bounds), page, len(labels.images), labels.tally)


def _check_images(request: BenchmarkRequest, labels: LabelledSet) -> None:
    """Make sure that every image is there, and is the one that was labelled, before any work."""
    for image in labels.images:
        path = path_inside(request.images, image.file_name)
        size = image_size(path)
        if not (image.width and image.height):
            raise InputError(
                f"{request.ground_truth}: the size of {image.file_name!r} is missing; "
                "`autolabel convert --images DIR` fills it in"
            )
        check_stated_size(size, (image.width, image.height), path)


def _classifiers(request: BenchmarkRequest) -> dict[str, Callable[[], Classifier]]:
    """By name in the table, each built when it is called; all share the towers of the model."""
    head_file(model_config(request.model), request.checkpoint)
    model = cache(
        partial(
            load_model, request.model, request.device, request.checkpoint, None, request.runtime
        )
    )
    found: dict[str, Callable[[], Classifier]] = {request.model: model}
    if request.baselines:
        found["box crops"] = lambda: crop_baseline(model(), "box")
        found["mask crops"] = lambda: crop_baseline(model(), "mask")
    return found


def crop_baseline(model: RegionModel, crops: CropKind) -> CropClassifier:
    """A baseline of the paper's Table 1 with the towers of a model, whose head it does not use."""
    config = CropConfig(
        name=f"{crops} crops",
        encoder=model.config.encoder,
        localizer=model.config.localizer,
        crops=crops,
        scales=(1.0,),
    )
    return CropClassifier(config, model.encoder, lambda: model.localizer, model.device, model.dtype)


@dataclass
class _ClassifierRun:
    """Predicts all images with one classifier, which is built when it is first needed."""

    request: BenchmarkRequest
    labels: LabelledSet
    name: str
    build: Callable[[], Classifier]
    reporter: Reporter
    _ready: tuple[Classifier, Vocabulary] | None = None

    def predictions(
        self, source: str, boxes: Mapping[int, Proposals] | None
    ) -> list[ImagePrediction]:
        """The prediction for each image; what was predicted before comes from the cache."""
        name = hashlib.sha256(f"{self.name} {source}".encode()).hexdigest()[:12]
        cache = PredictionCache(self.request.out / CACHE / f"{name}.jsonl", self._key(source))
        total = len(self.labels.images)
        self.reporter.start(f"{self.name}, {source_title(source)}", total, len(cache.done))
        detect = None
        for image in self.labels.images:
            if image.id in cache.done:
                continue
            classifier, vocabulary = self._prepare()
            pixels = read_image(path_inside(self.request.images, image.file_name))
            start = time.perf_counter()
            if boxes is None:
                detect = detect or _detector(classifier, self.request, vocabulary)
                proposals = detect(pixels)
            else:
                proposals = boxes[image.id]
            targets = self._targets(image) if source == GROUND_TRUTH else None
            prediction = classify(classifier, vocabulary, pixels, proposals, targets)
            prediction.image_id = image.id
            prediction.seconds = time.perf_counter() - start
            cache.add(prediction)
            self.reporter.advance()
        return [cache.done[image.id] for image in self.labels.images]

    def _prepare(self) -> tuple[Classifier, Vocabulary]:
        if self._ready is None:
            classifier = self.build()
            self._ready = classifier, classifier.vocabulary(vocabulary_of(self.labels.categories))
        return self._ready

    def _targets(self, image: LabelledImage) -> list[int]:
        rows = {each.id: row for row, each in enumerate(self.labels.categories)}
        return [rows[each.category_id] for each in without_crowds(image.annotations)]

    def _key(self, source: str) -> str:
        """Of all that a prediction depends on."""
        config = model_config(self.request.model)
        parts = [self.name, source, self.request.model, sha256_of(self.request.ground_truth)]
        parts += [each.name for each in fields(ImagePrediction)]
        parts += sorted(sha256_by_preset(self.request.model).values())
        if self.name == self.request.model:
            parts.append(self.request.runtime)
            if head := head_file(config, self.request.checkpoint):
                parts.append(sha256_of(head))
        if Path(config.encoder.pretrained).is_file():
            parts.append(sha256_of(Path(config.encoder.pretrained)))
        if source not in BOXES:
            parts.append(sha256_of(Path(source)))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _detector(
    classifier: Classifier, request: BenchmarkRequest, vocabulary: Vocabulary
) -> Callable[[ImageArray], Proposals]:
    names = model_config(request.model).detector
    return build_detector(
        names,
        sam=classifier.localizer.sam if needs_sam(names) else None,
        device=resolve_device(request.device),
        words=[string for strings in vocabulary.synonyms for string in strings],
    ).detect


def source_title(source: str) -> str:
    """How a source of boxes is called in the table."""
    titles = {GROUND_TRUTH: "ground truth", PROPOSALS: "proposals"}
    return titles.get(source, Path(source).name)


def _row(
    classifier: str,
    source: str,
    metrics: Sequence[Metric],
    predictions: Sequence[ImagePrediction],
    resamples: int,
) -> BenchmarkRow:
    """A row of the table; the upper bound has no predictions, and takes no time."""
    seconds = float(np.mean([each.seconds for each in predictions])) if predictions else math.nan
    shown = [each for each in metrics if each.name in _IN_TABLE]
    shown += [_top_k(k, source, predictions, resamples) for k in (1, 5)]
    return BenchmarkRow(classifier, source_title(source), tuple(shown), seconds)


def _top_k(k: int, source: str, predictions: Sequence[ImagePrediction], resamples: int) -> Metric:
    """Share of ground-truth boxes whose own class is among the k best; NaN for other boxes."""
    name = f"top-{k}"
    if source != GROUND_TRUTH:
        return Metric(name, math.nan)
    hits = np.array([sum(rank < k for rank in each.ranks) for each in predictions], np.float64)
    totals = np.array([len(each.ranks) for each in predictions], np.float64)
    return Metric.ratio(name, hits, totals, resamples)
