"""From images to regions: reading, detector, localizer, encoder and head as steps of a chain.

Axes: N regions of one image, D text width.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from autolabel.options import Options
from autolabel.overlap import overlapped
from autolabel.run.given_boxes import GivenBoxes, content_with_boxes
from autolabel.run.images import ImageRef, ImageSource
from autolabel.run.shards import NO_BOXES, ImageRegions, skipped_image
from integrations.detectors.base import (
    MAX_BOXES,
    MIN_SCORE,
    OTHER_WORDS_MAX_BOXES,
    OTHER_WORDS_MIN_SCORE,
    Detector,
)
from integrations.images import UnreadableImage, check_stated_size, read_image
from regionspot.crops.classifier import CropClassifier
from regionspot.errors import InputError
from regionspot.model import RegionModel, RegionSpot
from regionspot.nouns.detector_classes import classes_of_words
from regionspot.types import (
    ImageArray,
    ImageEmbedding,
    ImageTokens,
    Pixels,
    Proposals,
    Regions,
    Rle,
)

READERS = 2  # of a batch's images
STAGES = ("reading", "detector", "localizer", "encoder+head", "writing")

T = TypeVar("T")

# What a single image can cause: a part refuses it, or memory does not suffice for it (torch raises
# RuntimeError). An image that fails alone is skipped; the run goes on.
IMAGE_FAILURES = (InputError, RuntimeError, MemoryError)


class StageTimer:
    """Accumulates wall-clock seconds by stage; the stages of several threads overlap.

    Args:
        before: seconds of an earlier part of the same run.
    """

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float, before or {})
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside the block to one of STAGES."""
        assert name in STAGES
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - start})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what another thread or process measured."""
        with self._lock:
            for name, value in seconds.items():
                self._seconds[name] += value

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, rounded to a millisecond, in the order of STAGES."""
        return {name: round(self._seconds[name], 3) for name in STAGES}


@dataclass(frozen=True)
class LoadedImage:
    """An image that was read, and what the steps so far have made of it.

    Attributes:
        ref: the image of the run.
        image: (H, W, 3) uint8 RGB.
        proposals: N boxes.
        masks: that came with the N boxes, None where a box has none; empty where a detector
            proposed the boxes.
        pixels: the image where the model computes.
        embedding: by the localizer.
        map: by the encoder.
    """

    ref: ImageRef
    image: ImageArray
    proposals: Proposals = NO_BOXES
    masks: tuple[Rle | None, ...] = ()
    pixels: Pixels | None = None
    embedding: ImageEmbedding | None = None
    map: ImageTokens | None = None


Step = Callable[[Sequence[LoadedImage]], Sequence[LoadedImage | ImageRegions]]


@dataclass(frozen=True)
class RegionComputer:
    """Detector or given boxes, model and options, for any images of a source.

    Attributes:
        min_score: proposals of a detector with a lower score are left out.
        overlap: whether each step has a thread of its own on a CPU, so that several images are
            computed at once; else images are only read ahead.
        words: the strings of each word of the vocabulary, by which proposals are limited.
    """

    source: ImageSource
    detector: Detector | GivenBoxes
    model: RegionModel
    options: Options
    timer: StageTimer
    min_score: float
    overlap: bool = True
    words: tuple[tuple[str, ...], ...] = ()

    def batches(self, refs: Sequence[ImageRef]) -> list[Sequence[ImageRef]]:
        """The images that are computed together, of one shard.

        No batch spans two shards, so a shard's bytes do not depend on what was done before it. On
        a CPU a batch is one image: else the last bits of an image's regions depend on the others,
        and bytes must not depend on what else was labelled.
        """
        size = self.options.batch_size if self._in_batches else 1
        return [refs[start : start + size] for start in range(0, len(refs), size)]

    def images(
        self,
        batches: Iterable[Sequence[ImageRef]],
        known: Callable[[ImageRef], ImageRegions | None] = lambda _: None,
    ) -> Generator[ImageRegions, None, None]:
        """Regions of images, in order; an image that fails is skipped.

        Args:
            batches: images that are computed together.
            known: regions of an image that need not be computed; called by one thread.
        """
        with ThreadPoolExecutor(READERS) as readers:
            is_given = isinstance(self.detector, GivenBoxes)
            no_boxes = "its boxes cannot be used" if is_given else "the detector failed"
            read = partial(self._read, readers, known)
            steps: list[Callable[[Any], Any]] = [
                partial(self._advance, no_boxes, self._propose),
                *(partial(self._advance, "the model failed", each) for each in self._model_steps()),
            ]
            if self._in_batches or not self.overlap:
                steps = [partial(_one_after_the_other, steps)]
            chain: list[Callable[[Any], Any]] = [read, *steps]
            with closing(overlapped(batches, chain, ahead=len(chain))) as found:
                for batch in found:
                    yield from batch

    @property
    def _in_batches(self) -> bool:
        return self.model.in_batches

    def content(self, ref: ImageRef) -> str:
        """What an image's file, by all its bytes, and the boxes given for it are known by."""
        given = self.detector if isinstance(self.detector, GivenBoxes) else None
        return content_with_boxes(self.source, ref, given, all_bytes=True)

    def _skip(self, ref: ImageRef, reason: str) -> ImageRegions:
        return skipped_image(ref, reason, self.model.no_regions(), self.content(ref))

    def _read(
        self,
        readers: ThreadPoolExecutor,
        known: Callable[[ImageRef], ImageRegions | None],
        refs: Sequence[ImageRef],
    ) -> list[LoadedImage | ImageRegions]:
        found = [known(ref) for ref in refs]
        with self.timer.stage("reading"):
            missing = [ref for ref, each in zip(refs, found, strict=True) if each is None]
            loaded = readers.map(self._load, missing)
            return [next(loaded) if each is None else each for each in found]

    def _load(self, ref: ImageRef) -> LoadedImage | ImageRegions:
        try:
            image = read_image(self.source.path(ref))
            check_stated_size((image.shape[1], image.shape[0]), (ref.width, ref.height))
        except UnreadableImage as error:
            return self._skip(ref, error.reason)
        except InputError as error:
            return self._skip(ref, str(error))
        except MemoryError:
            return self._skip(ref, "too large for the memory")
        return LoadedImage(ref, image)

    def _advance(
        self, failure: str, step: Step, batch: Sequence[LoadedImage | ImageRegions]
    ) -> list[LoadedImage | ImageRegions]:
        """One step of the images that have no regions yet.

        Args:
            failure: what is said of an image that the step fails on.
            step: of one image or more.
            batch: all images of it.
        """
        todo = [each for each in batch if isinstance(each, LoadedImage)]
        done = iter(self._attempt(failure, step, todo) if todo else ())
        return [next(done) if isinstance(each, LoadedImage) else each for each in batch]

    def _attempt(
        self, failure: str, step: Step, images: Sequence[LoadedImage]
    ) -> Sequence[LoadedImage | ImageRegions]:
        """A step; where it fails on several images, it is tried with each of them alone."""
        try:
            return step(images)
        except IMAGE_FAILURES as error:
            if len(images) > 1:
                return [done for each in images for done in self._attempt(failure, step, [each])]
            return [self._skip(images[0].ref, f"{failure}: {_line(error)}")]

    def _propose(self, images: Sequence[LoadedImage]) -> list[LoadedImage | ImageRegions]:
        """The boxes of each image; one without any is done."""
        proposed = [self._with_boxes(each) for each in images]
        no_regions = self.model.no_regions()
        return [
            each if len(each.proposals) else self._regions_of(each, no_regions) for each in proposed
        ]

    def _with_boxes(self, each: LoadedImage) -> LoadedImage:
        if isinstance(self.detector, GivenBoxes):
            given = self.detector.of(each.ref, each.image.shape[1], each.image.shape[0])
            return replace(each, proposals=given.proposals, masks=given.masks)
        with self.timer.stage("detector"):
            found = self.detector.detect(each.image)
        # A label's confidence is at most its proposal's score, so proposals below every threshold
        # have no label. Thousandths of a pixel survive every file format.
        boxes = np.round(found.boxes, 3)
        max_boxes, min_score = self._limits(found)
        kept = found.score >= max(self.min_score, min_score)
        kept &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        rows = np.flatnonzero(kept)[:max_boxes]
        return replace(each, proposals=replace(found, boxes=boxes)[rows])

    def _limits(self, found: Proposals) -> tuple[int, float]:
        """The most proposals of an image, and their least score.

        A detector that names classes says less of objects of other words, so that more of its
        proposals are of use.
        """
        if not found.class_names:
            limits = MAX_BOXES, 0.0
        elif all(classes_of_words(self.words, found.class_names)):
            limits = MAX_BOXES, MIN_SCORE
        else:
            limits = OTHER_WORDS_MAX_BOXES, OTHER_WORDS_MIN_SCORE
        max_boxes, min_score = limits
        return self.options.max_boxes or max_boxes, min_score

    def _model_steps(self) -> list[Step]:
        """The steps from boxes to regions."""
        if isinstance(self.model, CropClassifier):
            return [partial(self._crop, self.model)]
        steps = (self._localize, self._map, self._recognise)
        return [partial(step, self.model) for step in steps]

    def _crop(self, model: CropClassifier, images: Sequence[LoadedImage]) -> list[ImageRegions]:
        found = model.compute(
            [each.image for each in images],
            [each.proposals.boxes for each in images],
            self.options.masks,
            self.timer.stage,
        )
        return self._regions_of_all(images, found)

    def _localize(self, model: RegionSpot, images: Sequence[LoadedImage]) -> list[LoadedImage]:
        uploaded = model.upload([each.image for each in images])
        with self.timer.stage("localizer"):
            encoded = model.localizer.encode_all(uploaded)
        return [
            replace(each, pixels=pixels, embedding=embedding)
            for each, pixels, embedding in zip(images, uploaded, encoded, strict=True)
        ]

    def _map(self, model: RegionSpot, images: Sequence[LoadedImage]) -> list[LoadedImage]:
        with self.timer.stage("encoder+head"):
            maps = model.encoder.image_tokens(_pixels(images))
        return [replace(each, map=found) for each, found in zip(images, maps, strict=True)]

    def _recognise(self, model: RegionSpot, images: Sequence[LoadedImage]) -> list[ImageRegions]:
        found = model.read(
            _pixels(images),
            [_there(each.embedding) for each in images],
            [_there(each.map) for each in images],
            [each.proposals.boxes for each in images],
            self.options.masks,
            self.timer.stage,
        )
        return self._regions_of_all(images, found)

    def _regions_of_all(
        self, images: Sequence[LoadedImage], found: Sequence[Regions]
    ) -> list[ImageRegions]:
        return [
            self._regions_of(each, _with_masks(regions, each.masks))
            for each, regions in zip(images, found, strict=True)
        ]

    def _regions_of(self, each: LoadedImage, regions: Regions) -> ImageRegions:
        height, width = each.image.shape[:2]
        content = self.content(each.ref)
        return ImageRegions(each.ref, width, height, each.proposals, regions, content=content)


def _one_after_the_other(steps: Iterable[Callable[[Any], Any]], item: object) -> Any:
    for step in steps:
        item = step(item)
    return item


def _pixels(images: Sequence[LoadedImage]) -> list[Pixels]:
    return [each.pixels for each in images if each.pixels is not None]


def _there(value: T | None) -> T:
    assert value is not None, "a step before gives it"
    return value


def _with_masks(regions: Regions, given: Sequence[Rle | None]) -> Regions:
    """The regions with the masks that came with their boxes, where masks are asked for."""
    if not regions.masks or not any(given):
        return regions
    masks = (mine or own for mine, own in zip(given, regions.masks, strict=True))
    return replace(regions, masks=tuple(masks))


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
