"""From images to regions: prefetches images, proposes boxes, runs the model in batches.

Axes: N regions of one image, D text width.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autolabel.options import Options
from autolabel.run.given_boxes import GivenBoxes, content_with_boxes
from autolabel.run.images import ImageRef, ImageSource
from autolabel.run.shards import ImageRegions, skipped_image
from integrations.detectors.base import Detector
from integrations.images import UnreadableImage, check_stated_size, read_image
from regionspot.errors import InputError
from regionspot.model import RegionSpot
from regionspot.types import ImageArray, Proposals, Regions, Rle

READERS = 2
STAGES = ("reading", "detector", "localizer", "encoder+head", "writing")

# What a single image can cause: a part refuses it, or memory does not suffice for it (torch raises
# RuntimeError). An image that fails alone is skipped; the run goes on.
IMAGE_FAILURES = (InputError, RuntimeError, MemoryError)


class StageTimer:
    """Accumulates wall-clock seconds by stage.

    Args:
        before: seconds of an earlier part of the same run.
    """

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float, before or {})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside the block to one of STAGES."""
        assert name in STAGES
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - start

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what another process measured."""
        for name, value in seconds.items():
            self._seconds[name] += value

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, rounded to a millisecond, in the order of STAGES."""
        return {name: round(self._seconds[name], 3) for name in STAGES}


@dataclass(frozen=True)
class LoadedImage:
    """An image that was read and its proposals.

    Attributes:
        ref: the image of the run.
        image: (H, W, 3) uint8 RGB.
        proposals: N boxes.
        masks: that came with the N boxes, None where a box has none; empty where a detector
            proposed the boxes.
    """

    ref: ImageRef
    image: ImageArray
    proposals: Proposals
    masks: tuple[Rle | None, ...] = ()


@dataclass(frozen=True)
class RegionComputer:
    """Detector or given boxes, model and options, for any images of a source.

    Attributes:
        min_score: proposals of a detector with a lower score are left out.
    """

    source: ImageSource
    detector: Detector | GivenBoxes
    model: RegionSpot
    options: Options
    timer: StageTimer
    min_score: float

    def images(self, refs: Sequence[ImageRef]) -> Iterator[list[ImageRegions]]:
        """Regions of images, in batches and in order; an image that fails is skipped.

        On a CPU the model computes one image at a time: in a batch, the last bits of an image's
        regions depend on the others, and bytes must not depend on what else was labelled.

        Args:
            refs: the images of one shard. No batch spans two shards, so a shard's bytes do not
                depend on what was done before it.
        """
        size = self.options.batch_size
        batches = [refs[start : start + size] for start in range(0, len(refs), size)]
        paths = [[self.source.path(ref) for ref in batch] for batch in batches]
        for batch, files in zip(batches, prefetch(paths, self.timer), strict=True):
            yield self._batch(batch, files)

    def _batch(
        self, refs: Sequence[ImageRef], files: Sequence[ImageArray | str]
    ) -> list[ImageRegions]:
        results: dict[ImageRef, ImageRegions] = {}
        usable: list[LoadedImage] = []
        for ref, image in zip(refs, files, strict=True):
            if isinstance(image, str):
                results[ref] = self._skip(ref, image)
                continue
            try:
                check_stated_size((image.shape[1], image.shape[0]), (ref.width, ref.height))
            except InputError as error:
                results[ref] = self._skip(ref, str(error))
                continue
            try:
                usable.append(self._propose(ref, image))
            except IMAGE_FAILURES as error:
                is_given = isinstance(self.detector, GivenBoxes)
                what = "its boxes cannot be used" if is_given else "the detector failed"
                results[ref] = self._skip(ref, f"{what}: {_line(error)}")
        in_batches = self.model.localizer.in_batches
        for together in [usable] if in_batches else [[each] for each in usable]:
            for done in self._recognise(together):
                results[done.image] = done
        return [results[ref] for ref in refs]

    def content(self, ref: ImageRef) -> str:
        """What an image's file, by all its bytes, and the boxes given for it are known by."""
        given = self.detector if isinstance(self.detector, GivenBoxes) else None
        return content_with_boxes(self.source, ref, given, all_bytes=True)

    def _skip(self, ref: ImageRef, reason: str) -> ImageRegions:
        no_regions = self.model.scorer.no_regions()
        return skipped_image(ref, reason, no_regions, self.content(ref))

    def _propose(self, ref: ImageRef, image: ImageArray) -> LoadedImage:
        if isinstance(self.detector, GivenBoxes):
            given = self.detector.of(ref, image.shape[1], image.shape[0])
            return LoadedImage(ref, image, given.proposals, given.masks)
        with self.timer.stage("detector"):
            found = self.detector.detect(image)
        # A label's confidence is at most its proposal's score, so proposals below every threshold
        # have no label. Thousandths of a pixel survive every file format.
        boxes = np.round(found.boxes, 3)
        kept = found.score >= self.min_score
        kept &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        rows = np.flatnonzero(kept)[: self.options.max_boxes]
        return LoadedImage(ref, image, Proposals(boxes[rows], found.score[rows]))

    def _recognise(self, batch: Sequence[LoadedImage]) -> list[ImageRegions]:
        try:
            return self._run_model(batch)
        except IMAGE_FAILURES as error:
            if len(batch) == 1:
                return [self._skip(batch[0].ref, f"the model failed: {_line(error)}")]
            return [done for each in batch for done in self._recognise([each])]

    def _run_model(self, batch: Sequence[LoadedImage]) -> list[ImageRegions]:
        """As `RegionSpot.regions`, but timed by stage and without work where there is no box."""
        regions = {each.ref: self.model.scorer.no_regions() for each in batch}
        busy = [each for each in batch if len(each.proposals)]
        if busy:
            images = self.model.upload([each.image for each in busy])
            with self.timer.stage("localizer"):
                encoded = self.model.localizer.encode_all(images)
            with self.timer.stage("encoder+head"):
                maps = self.model.encoder.image_tokens(images)
            boxes = [each.proposals.boxes for each in busy]
            found = self.model.read(
                images, encoded, maps, boxes, self.options.masks, self.timer.stage
            )
            regions |= {
                each.ref: _with_masks(done, each.masks)
                for each, done in zip(busy, found, strict=True)
            }
        return [
            ImageRegions(
                each.ref,
                each.image.shape[1],
                each.image.shape[0],
                each.proposals,
                regions[each.ref],
                content=self.content(each.ref),
            )
            for each in batch
        ]


def _with_masks(regions: Regions, given: Sequence[Rle | None]) -> Regions:
    """The regions with the masks that came with their boxes, where masks are asked for."""
    if not regions.masks or not any(given):
        return regions
    masks = (mine or own for mine, own in zip(given, regions.masks, strict=True))
    return replace(regions, masks=tuple(masks))


def prefetch(
    batches: Sequence[Sequence[Path]], timer: StageTimer
) -> Iterator[list[ImageArray | str]]:
    """Images of each batch, or the reason for one that cannot be read.

    The next batch is read while the caller works on the present one.
    """
    with ThreadPoolExecutor(READERS) as pool:

        def submit(batch: Sequence[Path]) -> list[Future[ImageArray | str]]:
            return [pool.submit(_read, path) for path in batch]

        waiting = submit(batches[0]) if batches else []
        for following in [*batches[1:], ()][: len(batches)]:
            current, waiting = waiting, submit(following)
            with timer.stage("reading"):
                files = [future.result() for future in current]
            yield files


def _read(path: Path) -> ImageArray | str:
    try:
        return read_image(path)
    except UnreadableImage as error:
        return error.reason
    except MemoryError:
        return "too large for the memory"


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
