"""A model and the baselines of the paper's Table 1 over the same images, words and boxes.

The paper's three settings (section 4.2): boxes of people, of a proposal network, and another
detector's with its scores.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from autolabel.evaluation.baselines import load_baseline
from autolabel.evaluation.cache import Record, Reporter, WorkFile
from autolabel.evaluation.evaluate import DRAWS, Judgement, judge
from autolabel.evaluation.oracle import with_true_words
from autolabel.evaluation.predict import (
    GIVEN,
    PROPOSALS,
    Classifier,
    boxes_of,
    classify,
    judged,
    words_of,
)
from autolabel.evaluation.report import Setting, write_report
from autolabel.evaluation.table import TRUE_WORDS, boxes_in, labels_of, row_of, shown
from integrations.annotations import LabelledImage, LabelledSet
from integrations.detectors import build_detector
from integrations.formats.coco import read_coco
from integrations.images import image_size, read_image
from integrations.paths import path_inside
from regionspot import load_model
from regionspot.config import preset
from regionspot.errors import InputError
from regionspot.model import find_checkpoint
from regionspot.types import ImageArray, Proposals, Vocabulary
from regionspot.weights import sha256_by_preset, sha256_of

BOXES = (GIVEN, PROPOSALS)
CROPS = ("box crops", "mask crops")
WORK = "work"


@dataclass(frozen=True)
class ModelRequest:
    """What is to be compared.

    Attributes:
        truth: COCO or LVIS file.
        images: folder of its images.
        model: a preset's name.
        boxes: `gt`, `proposals`, or files of boxes with scores.
        out: folder of the report; what is done so far lies in it, too.
        baselines: whether the encoder alone is measured on crops.
        draws: sets of images drawn anew for the intervals.
        checkpoint: of the head; None for the model's own.
    """

    truth: Path
    images: Path
    model: str = "mini"
    boxes: tuple[str, ...] = BOXES
    out: Path = Path("report")
    baselines: bool = True
    draws: int = DRAWS
    device: str = "auto"
    overwrite: bool = False
    checkpoint: Path | None = None


def evaluate_model(request: ModelRequest, reporter: Reporter) -> tuple[list[Setting], Path]:
    """Measure every classifier on every kind of boxes, and write the report.

    The same call again goes on where it was stopped. The last rows are what true words on the same
    boxes would reach.

    Returns:
        The rows of the table, and the page.

    Raises:
        InputError: something that was asked for cannot be used.
    """
    truth = read_coco(request.truth, request.images)
    if not any(image.annotations for image in truth.images):
        raise InputError(f"{request.truth} holds no label to compare with")
    _check_images(request, truth)
    sources = {name: boxes_of(name, truth) for name in request.boxes}
    settings: list[Setting] = []
    judgements: list[Judgement] = []
    best: list[Setting] = []

    def compared(title: str, found: LabelledSet) -> Judgement:
        reporter.begin(f"{title}: drawing images anew", request.draws, 0)
        return judge(title, truth, found, request.draws, reporter.advance)

    for name, build in _classifiers(request).items():
        rows = _Rows(request, truth, name, build, reporter)
        for source, boxes in sources.items():
            records = rows.records(source, boxes)
            judgement = compared(f"{name}, {shown(source)}", labels_of(truth, records))
            settings.append(row_of(name, source, judgement, records, request.draws))
            judgements.append(judgement)
            if name == request.model and source != GIVEN:
                perfect = with_true_words(truth, boxes_in(truth, records))
                reachable = compared(f"{TRUE_WORDS}, {shown(source)}", perfect)
                best.append(row_of(TRUE_WORDS, source, reachable, (), request.draws))
    facts = {
        "true labels": str(request.truth),
        "model": request.model,
        "shown below": judgements[0].title,
    }
    title = f"{request.model} on {request.truth.parent.name or request.truth.stem}"
    page = write_report(request.out, title, judgements, settings + best, facts, request.overwrite)
    shutil.rmtree(request.out / WORK)
    return settings + best, page


def _check_images(request: ModelRequest, truth: LabelledSet) -> None:
    """Make sure that every image is there, and is the one that was labelled, before any work."""
    for image in truth.images:
        path = path_inside(request.images, image.file_name)
        width, height = image_size(path)
        if (width, height) != (image.width, image.height):
            raise InputError(
                f"{path} is {width} x {height}, but {request.truth} says "
                f"{image.width} x {image.height}; give the images that were labelled"
            )


def _classifiers(request: ModelRequest) -> dict[str, Callable[[], Classifier]]:
    preset(request.model)
    found: dict[str, Callable[[], Classifier]] = {
        request.model: partial(load_model, request.model, request.device, request.checkpoint)
    }
    if request.baselines:
        found[CROPS[0]] = partial(load_baseline, request.model, "box", request.device)
        found[CROPS[1]] = partial(load_baseline, request.model, "mask", request.device)
    return found


@dataclass
class _Rows:
    """Works on all images with one classifier, which is built when it is first needed."""

    request: ModelRequest
    truth: LabelledSet
    name: str
    build: Callable[[], Classifier]
    reporter: Reporter
    _ready: tuple[Classifier, Vocabulary] | None = None

    def records(self, source: str, boxes: Mapping[int, Proposals] | None) -> list[Record]:
        """What the classifier says of each image; what was done before is read."""
        name = hashlib.sha256(f"{self.name} {source}".encode()).hexdigest()[:12]
        work = WorkFile(self.request.out / WORK / f"{name}.jsonl", self._key(source))
        self.reporter.begin(f"{self.name}, {shown(source)}", len(self.truth.images), len(work.done))
        detect = None
        for image in self.truth.images:
            if image.id in work.done:
                continue
            classifier, vocabulary = self._prepare()
            pixels = read_image(path_inside(self.request.images, image.file_name))
            start = time.perf_counter()
            if boxes is None:
                detect = detect or _detector(classifier, self.request)
                proposals = detect(pixels)
            else:
                proposals = boxes[image.id]
            true = self._true_rows(image) if source == GIVEN else None
            record = classify(classifier, vocabulary, pixels, proposals, true)
            record.image_id = image.id
            record.seconds = time.perf_counter() - start
            work.add(record)
            self.reporter.advance()
        return [work.done[image.id] for image in self.truth.images]

    def _prepare(self) -> tuple[Classifier, Vocabulary]:
        if self._ready is None:
            classifier = self.build()
            self._ready = classifier, classifier.vocabulary(words_of(self.truth.categories))
        return self._ready

    def _true_rows(self, image: LabelledImage) -> list[int]:
        rows = {each.id: row for row, each in enumerate(self.truth.categories)}
        return [rows[each.category_id] for each in judged(image)]

    def _key(self, source: str) -> str:
        """Of all that a record depends on."""
        parts = [self.name, source, self.request.model, sha256_of(self.request.truth)]
        parts += [each.name for each in fields(Record)]
        parts += sorted(sha256_by_preset(self.request.model).values())
        if self.name == self.request.model:
            parts.append(sha256_of(self.request.checkpoint or find_checkpoint(self.request.model)))
        if source not in BOXES:
            parts.append(sha256_of(Path(source)))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _detector(classifier: Classifier, request: ModelRequest) -> Callable[[ImageArray], Proposals]:
    name = preset(request.model).detector
    sam = classifier.localizer.sam
    return build_detector(name, sam=sam, device=next(sam.parameters()).device).detect
