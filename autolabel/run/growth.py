"""A run that grows: new and changed images are labelled, all others keep their regions.

While a run grows, the regions that it had lie in `EARLIER_REGIONS`, each file named by its sha256,
so that a process that is killed loses neither these nor those that it computed.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autolabel.run.given_boxes import GivenBoxes, content_with_boxes
from autolabel.run.images import MOVING_ROOTS, ImageRef, ImageSource, is_same_content
from autolabel.run.inference import RegionComputer
from autolabel.run.manifest import (
    EARLIER_REGIONS,
    DatasetInfo,
    EarlierImages,
    Growth,
    Manifest,
    Shard,
    damaged_files,
    locked,
    read_manifest,
)
from autolabel.run.shards import ImageRegions, StoredImage, read_descriptions, read_shards
from regionspot.files import atomic_path, link_or_copy

ImageKey = Path | str  # absolute path, or FiftyOne's id of the sample


def may_grow(before: Manifest, dataset: DatasetInfo, rehash: bool) -> bool:
    """Whether a run has, or with `rehash` may have, other images than before."""
    return "limit" not in dataset and (rehash or before.dataset != dataset)


def ended_by_growing(dataset: DatasetInfo) -> frozenset[str]:
    """The differences that `Manifest.differences` finds and that end when a run grows."""
    moving = {"dataset"} if dataset["kind"] in MOVING_ROOTS else set()
    return frozenset({"images in the dataset"} | moving)


def is_same_source(kind: str, growth: Growth) -> bool:
    """Whether a run grows, and is not another one.

    A folder is the same whatever is in it. Two lists, or two datasets, are taken to be the same
    where an image is in both.
    """
    return kind not in MOVING_ROOTS or bool(growth.changed + growth.unchanged)


def describe_growth(growth: Growth) -> str:
    """The numbers of images, as a message."""
    counts = f"{growth.new} new, {growth.changed} changed, {growth.unchanged} unchanged"
    deleted = f"; {growth.deleted} deleted, whose labels are kept" if growth.deleted else ""
    left_out = f"; {growth.left_out} deleted, which are left out" if growth.left_out else ""
    return counts + deleted + left_out


@dataclass(frozen=True)
class HadImages:
    """The images that a run has, or had before it began to grow.

    Of a run that was never complete these are the ones whose regions were computed.

    Attributes:
        complete: whether the run had labels of them.
        stored: in their order, each with the absolute folder that its name is relative to.
    """

    complete: bool
    stored: tuple[tuple[Path, StoredImage], ...]

    @classmethod
    def of(cls, folder: Path, before: Manifest) -> "HadImages":
        """Those of a run folder.

        Raises:
            InputError: a shard cannot be read.
        """
        now = EarlierImages(root=before.dataset["root"], shards=before.shards)
        parts = (*before.earlier, now)
        if before.earlier and before.was_complete:
            parts = before.earlier[:1]
        shards = tuple(shard for part in parts for shard in part.shards)
        damaged = set(damaged_files(folder, replace(before, shards=shards, files={})))
        stored = (
            (Path(part.root), image)
            for part in parts
            for shard in part.shards
            if shard.file not in damaged
            for image in read_descriptions(folder, [shard])
        )
        return cls(before.was_complete, tuple(stored))

    def added_to(self, source: ImageSource) -> ImageSource:
        """A source with the images that it does not list any more and whose labels are kept."""
        if not self.complete or not self.stored:
            return source
        return source.with_gone(self.refs(), self.stored[0][0])

    def refs(self) -> list[ImageRef]:
        """The images as a source lists them."""
        return [ImageRef(each.id, each.file_name, each.sample_id) for _, each in self.stored]

    def contents(self) -> dict[ImageKey, str]:
        """What each image was known by."""
        return {each.sample_id or root / each.file_name: each.content for root, each in self.stored}

    def compare(self, source: ImageSource, boxes: GivenBoxes | None, rehash: bool) -> Growth:
        """Count the images of a source.

        Args:
            source: the images that are wanted now, and those that are gone.
            boxes: that were given for the images.
            rehash: whether all bytes of a file are compared, not its size and samples alone.
        """
        had, kinds = self.contents(), Counter[str]()
        for ref in source.images:
            before = had.pop(ref.sample_id or source.path(ref), None)
            if ref.id in source.gone:
                kinds["deleted"] += 1
            elif before is None:
                kinds["new"] += 1
            else:
                now = content_with_boxes(source, ref, boxes, all_bytes=rehash)
                is_same = is_same_content(before, now)
                kinds["unchanged" if is_same else "changed"] += 1
        names = ("new", "changed", "unchanged", "deleted")
        return Growth(**{name: kinds[name] for name in names}, left_out=len(had))


def keep_earlier(folder: Path, before: Manifest) -> tuple[EarlierImages, ...]:
    """Give the shards of a run that begins to grow, or grows on, names in `EARLIER_REGIONS`.

    A shard that is damaged is left out, so that its images are labelled again.

    Returns:
        The manifest's `earlier`.
    """
    damaged = set(damaged_files(folder, before))
    kept: list[Shard] = []
    for shard in before.shards:
        target = f"{EARLIER_REGIONS}/{shard.sha256}.safetensors"
        if shard.file in damaged:
            continue
        if not (folder / target).exists():
            with atomic_path(folder / target) as temporary:
                link_or_copy(folder / shard.file, temporary)
        kept.append(replace(shard, file=target))
    now = EarlierImages(
        root=before.dataset["root"], shards=tuple(kept), complete=before.is_complete
    )
    return (*before.earlier, now)


def remove_earlier(folder: Path, complete: Manifest) -> None:
    """Remove what `keep_earlier` kept, where a process that was killed could not."""
    if (folder / EARLIER_REGIONS).exists():
        with locked(folder):
            if read_manifest(folder) == complete:
                shutil.rmtree(folder / EARLIER_REGIONS)


class EarlierRegions:
    """Regions that a run computed before it grew, by image; one shard of each time in memory."""

    def __init__(self, folder: Path, earlier: Sequence[EarlierImages]) -> None:
        """Read which images there are.

        Args:
            folder: of the run.
            earlier: of its manifest.

        Raises:
            InputError: a shard cannot be read.
        """
        self._folder, self._earlier = folder, earlier
        self._places: defaultdict[Path, list[tuple[str, int, Shard]]] = defaultdict(list)
        self._loaded: dict[int, tuple[Shard, dict[Path, ImageRegions]]] = {}
        for time, each in enumerate(earlier):
            for shard in each.shards:
                for image in read_descriptions(folder, [shard]):
                    path = Path(each.root) / image.file_name
                    self._places[path].append((image.content, time, shard))

    def find(self, computer: RegionComputer, ref: ImageRef) -> ImageRegions | None:
        """The regions that an image had, if it is as it was, or gone; else None.

        Args:
            computer: of the run, which knows what the image is like now.
            ref: the image.

        Raises:
            InputError: a shard cannot be read.
        """
        path = computer.source.path(ref)
        places = self._places.get(path)
        if not places:
            return None
        content = None if ref.id in computer.source.gone else computer.content(ref)
        for known_by, time, shard in places:
            if content is None or known_by == content:
                return replace(self._load(time, shard)[path], image=ref)
        return None

    def all_of(self, path: Path) -> list[ImageRegions]:
        """All regions that an image had, whatever it was like, the first ones first."""
        return [self._load(time, shard)[path] for _, time, shard in self._places.get(path, ())]

    def _load(self, time: int, shard: Shard) -> dict[Path, ImageRegions]:
        loaded = self._loaded.get(time)
        if loaded is None or loaded[0] != shard:
            root = Path(self._earlier[time].root)
            images = read_shards(self._folder, [shard])
            loaded = (shard, {root / each.image.file_name: each for each in images})
            self._loaded[time] = loaded
        return loaded[1]


def grown_images(folder: Path, manifest: Manifest) -> dict[int, bool]:
    """The ids of the images of a growing run that are new or have changed; of each, if it is new.

    Raises:
        InputError: a shard cannot be read.
    """
    had, root = HadImages.of(folder, manifest).contents(), Path(manifest.dataset["root"])
    known = (
        (each, had.get(each.sample_id or root / each.file_name))
        for each in read_descriptions(folder, manifest.shards)
    )
    return {each.id: before is None for each, before in known if before != each.content}
