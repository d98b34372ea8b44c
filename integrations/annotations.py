"""Labelled images as every format's reader gives them and every writer takes them."""

import gc
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from integrations.masks import MOST_PIXELS, clip_polygons
from regionspot.boxes import Box, FloatArray
from regionspot.errors import InputError
from regionspot.types import Labels, Rle

# Each polygon is x, y, x, y, ... in pixels.
Polygons = tuple[tuple[float, ...], ...]
Attribute = str | int | float | bool | None
# Keys of a file that no other format has, with their values as JSON holds them.
Extra = Mapping[str, Any]


@dataclass(frozen=True)
class Category:
    """A class that boxes are labelled with.

    Attributes:
        id: unique in its set.
        name: of the class.
        synonyms: other strings that mean the same.
        supercategory: COCO's broader class; empty where there is none.
        synset: LVIS's WordNet synset; empty where there is none.
        definition: LVIS's gloss of the synset; empty where there is none.
        frequency: LVIS's r, c or f; None where it is not known.
        extra: further keys of COCO and LVIS, such as "keypoints" and "skeleton".
    """

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    supercategory: str = ""
    synset: str = ""
    definition: str = ""
    frequency: str | None = None
    extra: Extra = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Annotation:
    """One labelled box.

    Attributes:
        category_id: id of its `Category`.
        box: x1, y1, x2, y2 in pixels of the image; Python's floats, so that a file's numbers stay.
        score: a model's confidence; None where a person drew the box.
        mask: run lengths of the image's size, or polygons.
        area: in square pixels as a file gave it; None: that of the mask, or else of the box.
        is_crowd: the box holds several instances that cannot be separated.
        id: as a file gave it; None: the writer counts.
        attributes: whatever else is known of it, by name.
        extra: further keys of COCO and LVIS whose values are lists or objects, such as "keypoints"
            (COCO's x, y, v, x, y, v, ...) and CVAT's "attributes".
    """

    category_id: int
    box: Box
    score: float | None = None
    mask: Rle | Polygons | None = None
    area: float | None = None
    is_crowd: bool = False
    id: int | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True)
class LabelledImage:
    """An image and its labels.

    Attributes:
        id: unique in its set.
        file_name: relative to the images' folder.
        width, height: in pixels; 0 where a file that was read does not say.
        annotations: its labels, in the file's order.
        absent: ids of categories that a person verified to be absent from the image (LVIS's
            `neg_category_ids`). What a model did not find is not absent.
        unverified: ids of categories that are not exhaustively labelled in the image (LVIS's
            `not_exhaustive_category_ids`).
        attributes: whatever else is known of it, by name.
        extra: further keys of COCO and LVIS whose values are lists or objects.
    """

    id: int
    file_name: str
    width: int
    height: int
    annotations: tuple[Annotation, ...] = ()
    absent: tuple[int, ...] = ()
    unverified: tuple[int, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    extra: Extra = field(default_factory=dict)


@dataclass
class TallyEntry:
    """Things of one kind that were changed or left out for one reason.

    Attributes:
        count: how many.
        first: file and place of the first one.
    """

    count: int
    first: str


@dataclass
class Tally:
    """What a reader and a writer did with the labels of a set.

    Attributes:
        images: number of images written.
        annotations: number of annotations written, of all images.
        images_with: how many images each category id has an annotation in.
        instances_of: how many annotations each category id has.
        changed: what was read or written otherwise than the input has it, by kind and reason.
        left_out: what was not read or not written, by kind and reason.
        strict: whether a change or omission is an InputError instead of a count.
    """

    images: int = 0
    annotations: int = 0
    images_with: Counter[int] = field(default_factory=Counter)
    instances_of: Counter[int] = field(default_factory=Counter)
    changed: dict[tuple[str, str], TallyEntry] = field(default_factory=dict)
    left_out: dict[tuple[str, str], TallyEntry] = field(default_factory=dict)
    strict: bool = False

    def add(self, image: LabelledImage) -> None:
        """Count an image that is written, and its annotations."""
        category_ids = [each.category_id for each in image.annotations]
        self.images += 1
        self.annotations += len(category_ids)
        self.images_with.update(set(category_ids))
        self.instances_of.update(category_ids)

    def change(self, kind: str, reason: str, place: str, count: int = 1) -> None:
        """Count something that is read or written otherwise than the input has it.

        Args:
            kind: what is changed, in the singular: "box", "mask", "id".
            reason: why and how, without names or numbers of the single case.
            place: file and record.
            count: how many.

        Raises:
            InputError: the tally is strict.
        """
        self._count(self.changed, kind, reason, place, count)

    def leave_out(self, kind: str, reason: str, place: str, count: int = 1) -> None:
        """Count something that is not read or not written; as `change`."""
        self._count(self.left_out, kind, reason, place, count)

    def _count(
        self,
        entries: dict[tuple[str, str], TallyEntry],
        kind: str,
        reason: str,
        place: str,
        count: int,
    ) -> None:
        if count < 1:
            return
        kind, place = _printable(kind), _printable(place)
        if self.strict:
            raise InputError(f"{place}: {kind}: {reason} (--strict)")
        entries.setdefault((kind, reason), TallyEntry(0, place)).count += count

    def merge(self, other: "Tally") -> None:
        """Add what another tally counts as changed and left out."""
        for mine, others in ((self.changed, other.changed), (self.left_out, other.left_out)):
            for key, entry in others.items():
                mine.setdefault(key, TallyEntry(0, entry.first)).count += entry.count

    def lines(self) -> list[str]:
        """One line for each kind and reason, as the commands print them."""
        return [
            f"{verb}: {entry.count} x {kind}: {reason}; first: {entry.first}"
            for verb, entries in (("changed", self.changed), ("left out", self.left_out))
            for (kind, reason), entry in entries.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Counts as the commands' JSON holds them."""
        return {"images": self.images, "labels": self.annotations, **self.reading()}

    def reading(self) -> dict[str, Any]:
        """What was changed and left out, as `to_json` has it."""
        found = {"changed": self.changed, "left_out": self.left_out}
        return {
            name: [
                {"kind": kind, "reason": reason, "count": entry.count, "first": entry.first}
                for (kind, reason), entry in entries.items()
            ]
            for name, entries in found.items()
        }


def _printable(text: str) -> str:
    """A text that comes from a file, on one line."""
    return text if text.isprintable() else ascii(text)[1:-1]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How a label set is read.

    Attributes:
        strict: whether anything that would be mended or left out is an error.
        annotator: of Label Studio, whose annotations are read, by email or id; None: the ground
            truth, else the first.
        task: what YOLO's lines mean; None: as `data.yaml` and all lines together say.
    """

    strict: bool = False
    annotator: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class LabelledSet:
    """All of a label file, in the file's order.

    Attributes:
        categories: all classes, also those without an annotation.
        images: all images, also those without an annotation.
        tally: what the reader changed and left out.
        folder: that file names are relative to, where the reader knows it.
        info: what the file says of itself, as writers take it; of COCO, its "info", and where there
            are any its "licenses".
    """

    categories: tuple[Category, ...]
    images: tuple[LabelledImage, ...]
    tally: Tally = field(default_factory=Tally, compare=False)
    folder: Path | None = field(default=None, compare=False)
    info: Extra = field(default_factory=dict, compare=False)


def class_labels(categories: Sequence[Category]) -> dict[int, str]:
    """A text for each category id that no other category of the set has.

    It is the name as written. Where several categories have that name, their supercategory follows
    in brackets, or else their id.
    """
    names = Counter(each.name for each in categories)
    texts = {
        each.id: f"{each.name} ({each.supercategory})"
        if names[each.name] > 1 and each.supercategory
        else each.name
        for each in categories
    }
    counts = Counter(texts.values())
    return {
        each.id: texts[each.id] if counts[texts[each.id]] == 1 else f"{each.name} (id {each.id})"
        for each in categories
    }


def without_unused_twins(
    categories: Sequence[Category], used: Collection[int]
) -> tuple[Category, ...]:
    """Categories less those without a label that are named as another one with labels.

    Roboflow's COCO files list such a category 0, named as the project, which is often a class too.

    Args:
        categories: of one data set.
        used: ids of those that have labels.
    """
    names = {each.name for each in categories if each.id in used}
    return tuple(each for each in categories if each.id in used or each.name not in names)


def vocabulary_categories(
    names: Sequence[str], synonyms: Sequence[Sequence[str]] = ()
) -> tuple[Category, ...]:
    """Categories of a vocabulary: ids from 1, in the vocabulary's order.

    Args:
        names: K class names.
        synonyms: of each class, K sequences that may hold the name itself; or empty.
    """
    others = synonyms or [()] * len(names)
    return tuple(
        Category(index, name, tuple(text for text in texts if text != name))
        for index, (name, texts) in enumerate(zip(names, others, strict=True), start=1)
    )


def labelled_image(
    labels: Labels,
    score: FloatArray,
    image_id: int,
    file_name: str,
    width: int,
    height: int,
    box_ids: Sequence[str] = (),
) -> LabelledImage:
    """A model's labels of one image, with `vocabulary_categories` of the same vocabulary.

    A model verifies nothing, so all categories are `unverified` and none is `absent`.

    Args:
        labels: N rows, boxes in xyxy pixels of the image.
        score: (N,) the confidence to write: the detector's times the class's.
        image_id: unique in its set.
        file_name: relative to the images' folder.
        width: of the image, in pixels.
        height: of the image, in pixels.
        box_ids: N ids of the boxes that were given, or empty.
    """
    annotations = tuple(
        Annotation(
            category_id=int(labels.class_id[row]) + 1,
            box=(_pixels(x1), _pixels(y1), _pixels(x2), _pixels(y2)),
            score=_fraction(score[row]),
            mask=labels.masks[row] if labels.masks else None,
            attributes={
                "runner_up": labels.names[int(labels.runner_up[row])],
                "margin": _fraction(labels.margin[row]),
                "presence": _fraction(labels.presence[row]),
                **_box_id(box_ids, row),
            },
        )
        for row, (x1, y1, x2, y2) in enumerate(labels.boxes)
    )
    every = tuple(range(1, len(labels.names) + 1))
    return LabelledImage(image_id, file_name, width, height, annotations, unverified=every)


def _box_id(box_ids: Sequence[str], row: int) -> dict[str, Attribute]:
    return {"box_id": box_ids[row]} if box_ids else {}


def _pixels(value: np.float32) -> float:
    # A thousandth of a pixel; more digits of a float32 would only be noise in the file.
    return round(float(value), 3)


def _fraction(value: np.float32) -> float:
    return round(float(value), 6)


def as_rle(mask: Rle | Polygons, width: int, height: int) -> Rle:
    """Run lengths of a mask; polygons are filled as pycocotools fills them.

    Raises:
        InputError: the run lengths are those of an image of another size, or the image or a polygon
            is too large for any.
    """
    if isinstance(mask, dict):
        if mask["size"] != [height, width]:
            raise InputError(f"expected a mask of size [{height}, {width}], got {mask['size']}")
        return mask
    if not 0 < width * height <= MOST_PIXELS:
        raise InputError(f"expected an image that can be opened, got {width} x {height} pixels")
    polygons = clip_polygons(mask, width, height) or ((0.0,) * 6,)  # nothing of it: no pixel
    parts = coco_mask.frPyObjects([list(polygon) for polygon in polygons], height, width)
    merged = coco_mask.merge(parts)
    return Rle(size=[height, width], counts=merged["counts"].decode("ascii"))


def area(annotation: Annotation, width: int, height: int) -> float:
    """Square pixels of an annotation in an image of this size, as COCO counts them."""
    if annotation.area is not None:
        return annotation.area
    if annotation.mask is not None:
        rle = as_rle(annotation.mask, width, height)
        return float(coco_mask.area({"size": rle["size"], "counts": rle["counts"].encode()}))
    x1, y1, x2, y2 = annotation.box
    return round((x2 - x1) * (y2 - y1), 4)


@contextmanager
def uncollected() -> Iterator[None]:
    """Let Python's garbage collector rest while a set of labels grows; also a decorator.

    It would go through all objects of the set again and again, which doubles the time. Cycles that
    are garbage, of which readers make none, wait.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
