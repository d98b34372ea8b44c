"""The predictions of a benchmark: of each classifier, on each kind of boxes, for each image."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property, partial
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from autolabel.evaluation.evaluate import RESAMPLES
from autolabel.evaluation.matching import without_crowds
from autolabel.evaluation.pairing import MatchImages, counted
from autolabel.evaluation.predict import (
    GROUND_TRUTH,
    PROPOSALS,
    Classifier,
    ImagePrediction,
    PredictionCache,
    boxes_of,
    classify,
    vocabulary_of,
)
from autolabel.evaluation.selection import labels_of_words
from integrations.annotations import LabelledImage, LabelledSet
from integrations.detectors import build_detector
from integrations.formats.coco import read_coco
from integrations.images import read_image
from integrations.progress import Reporter
from integrations.vocabulary_file import WordList
from regionspot import load_model
from regionspot.config import CropConfig, CropKind, model_config, resolve_device
from regionspot.crops.classifier import CropClassifier
from regionspot.devices.runtime import resolve_runtime
from regionspot.errors import InputError
from regionspot.files import path_inside
from regionspot.model import RegionModel, head_file
from regionspot.types import ImageArray, Proposals, Vocabulary
from regionspot.weights import sha256_by_preset, sha256_of

BOXES = (GROUND_TRUTH, PROPOSALS)
CACHE = "work"


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
        words: whose classes alone are evaluated, and predicted; None: all classes.
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
    words: WordList | None = None


class MissingImage(NamedTuple):
    """A prediction that is to be computed.

    Attributes:
        classifier: its name in the table.
        source: of the boxes.
        image_id: of the ground truth.
        key: of all that the prediction depends on.
    """

    classifier: str
    source: str
    image_id: int
    key: str


class PredictionWorkers(Protocol):
    """Other processes, or machines, that compute predictions."""

    @property
    def device(self) -> str:
        """What they compute on."""
        ...

    def predictions(
        self, request: BenchmarkRequest, missing: Sequence[MissingImage], reporter: Reporter
    ) -> Iterator[tuple[MissingImage, ImagePrediction]]:
        """The prediction of each, in any order."""
        ...


@dataclass(frozen=True)
class Predictor:
    """Predicts images with classifiers, each of which is built when it is first needed.

    Attributes:
        labels: ground truth of the images.
        boxes: by source; None where a detector has yet to propose them.
        classifiers: what builds each, by name.
    """

    request: BenchmarkRequest
    labels: LabelledSet
    boxes: Mapping[str, Mapping[int, Proposals] | None]
    classifiers: Mapping[str, Callable[[], Classifier]]

    @classmethod
    def of(cls, request: BenchmarkRequest, reporter: Reporter) -> "Predictor":
        """Read the ground truth and the boxes, and choose device and runtime where they are `auto`.

        Raises:
            InputError: something that was asked for cannot be used.
        """
        model_config(request.model)
        is_auto = request.device == "auto"
        device = resolve_device("auto") if is_auto else torch.device(request.device)
        request = dataclasses.replace(
            request,
            ground_truth=request.ground_truth.resolve(),
            images=request.images.resolve(),
            boxes=tuple(s if s in BOXES else str(Path(s).resolve()) for s in request.boxes),
            device=str(device),
            runtime=resolve_runtime(request.runtime, device, request.model),
            checkpoint=request.checkpoint.resolve() if request.checkpoint else None,
        )
        labels = read_coco(request.ground_truth, request.images)
        if not any(image.annotations for image in labels.images):
            raise InputError(f"{request.ground_truth} holds no label to compare with")
        every = labels  # a file of boxes may have other classes
        if request.words is not None:
            labels, unknown = labels_of_words(labels, request.words, labels.tally)
            for line in counted("words of --vocab that are no class of the ground truth", unknown):
                reporter.message(line)
        boxes = {
            name: boxes_of(
                name, labels if name == GROUND_TRUTH else every, reporter, request.match_by
            )
            for name in request.boxes
        }
        labels = dataclasses.replace(labels, images=labels.images[: request.limit])
        return cls(request, labels, boxes, _classifiers(request))

    def predictions(self, name: str, source: str, reporter: Reporter) -> list[ImagePrediction]:
        """A classifier's prediction for each image; those of before come from the cache."""
        predicted = self._cache(name, source)
        total = len(self.labels.images)
        reporter.start(f"{name}, {source_title(source)}", total, len(predicted.done))
        for image in self.labels.images:
            if image.id not in predicted.done:
                predicted.add(self.predict(name, source, image.id))
                reporter.advance()
        return [predicted.done[image.id] for image in self.labels.images]

    def fill(self, workers: PredictionWorkers, reporter: Reporter) -> None:
        """Let workers compute all predictions that the caches lack."""
        caches = {(n, s): self._cache(n, s) for n in self.classifiers for s in self.boxes}
        missing = [
            MissingImage(name, source, image.id, self.key(name, source))
            for (name, source), predicted in caches.items()
            for image in self.labels.images
            if image.id not in predicted.done
        ]
        if not missing:
            return
        total = len(caches) * len(self.labels.images)
        reporter.start("predictions", total, total - len(missing))
        for each, prediction in workers.predictions(self.request, missing, reporter):
            caches[each.classifier, each.source].add(prediction)
            reporter.advance()

    def predict(self, name: str, source: str, image_id: int) -> ImagePrediction:
        """What a classifier predicts for the boxes of a source of an image."""
        image = self._images[image_id]
        classifier, vocabulary = self._ready(name)
        pixels = read_image(path_inside(self.request.images, image.file_name))
        start = time.perf_counter()
        boxes = self.boxes[source]
        proposals = self._detect(pixels) if boxes is None else boxes[image.id]
        targets = self._targets(image) if source == GROUND_TRUTH else None
        prediction = classify(classifier, vocabulary, pixels, proposals, targets)
        prediction.image_id = image.id
        prediction.seconds = time.perf_counter() - start
        return prediction

    def key(self, name: str, source: str) -> str:
        """Of all that a prediction depends on."""
        request, config = self.request, model_config(self.request.model)
        parts = [name, source, request.model, sha256_of(request.ground_truth)]
        parts += [each.name for each in fields(ImagePrediction)]
        parts += [str(each.id) for each in self.labels.categories]
        parts += sorted(sha256_by_preset(request.model).values())
        if name == request.model:
            parts.append(request.runtime)
            if head := head_file(config, request.checkpoint):
                parts.append(sha256_of(head))
        if Path(config.encoder.pretrained).is_file():
            parts.append(sha256_of(Path(config.encoder.pretrained)))
        if source not in BOXES:
            parts.append(sha256_of(Path(source)))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _cache(self, name: str, source: str) -> PredictionCache:
        file = hashlib.sha256(f"{name} {source}".encode()).hexdigest()[:12]
        return PredictionCache(self.request.out / CACHE / f"{file}.jsonl", self.key(name, source))

    @cached_property
    def _images(self) -> dict[int, LabelledImage]:
        return {image.id: image for image in self.labels.images}

    @cached_property
    def _ready(self) -> Callable[[str], tuple[Classifier, Vocabulary]]:
        @cache
        def ready(name: str) -> tuple[Classifier, Vocabulary]:
            classifier = self.classifiers[name]()
            return classifier, classifier.vocabulary(vocabulary_of(self.labels.categories))

        return ready

    @cached_property
    def _detect(self) -> Callable[[ImageArray], Proposals]:
        return _detector(*self._ready(self.request.model), self.request)

    def _targets(self, image: LabelledImage) -> list[int]:
        rows = {each.id: row for row, each in enumerate(self.labels.categories)}
        return [rows[each.category_id] for each in without_crowds(image.annotations)]


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


def _detector(
    classifier: Classifier, vocabulary: Vocabulary, request: BenchmarkRequest
) -> Callable[[ImageArray], Proposals]:
    return build_detector(
        model_config(request.model).detector,
        sam=lambda: classifier.localizer.sam,
        device=torch.device(request.device),
        runtime=classifier.runtime,
        words=[string for strings in vocabulary.synonyms for string in strings],
    ).detect


def source_title(source: str) -> str:
    """How a source of boxes is called in the table."""
    titles = {GROUND_TRUTH: "ground truth", PROPOSALS: "proposals"}
    return titles.get(source, Path(source).name)
