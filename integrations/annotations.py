"""Labelled images as every format's reader gives them and every writer takes them."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as coco_mask

from regionspot.boxes import Box, FloatArray
from regionspot.errors import InputError
from regionspot.types import Labels, Rle

# Each polygon is x, y, x, y, ... in pixels.
Polygons = tuple[tuple[float, ...], ...]
Attribute = str | int | float | bool | None


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
    """

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    supercategory: str = ""
    synset: str = ""
    definition: str = ""
    frequency: str | None = None


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
    """

    category_id: int
    box: Box
    score: float | None = None
    mask: Rle | Polygons | None = None
    area: float | None = None
    is_crowd: bool = False
    id: int | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


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
    """

    id: int
    file_name: str
    width: int
    height: int
    annotations: tuple[Annotation, ...] = ()
    absent: tuple[int, ...] = ()
    unverified: tuple[int, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelledSet:
    """All of a label file, in the file's order."""

    categories: tuple[Category, ...]
    images: tuple[LabelledImage, ...]


@dataclass
class Tally:
    """What was written.

    Attributes:
        images: how many.
        annotations: how many, of all images.
        images_with: how many images each category id has an annotation in.
        instances_of: how many annotations each category id has.
    """

    images: int = 0
    annotations: int = 0
    images_with: Counter[int] = field(default_factory=Counter)
    instances_of: Counter[int] = field(default_factory=Counter)

    def add(self, image: LabelledImage) -> None:
        """Count an image and its annotations."""
        category_ids = [each.category_id for each in image.annotations]
        self.images += 1
        self.annotations += len(category_ids)
        self.images_with.update(set(category_ids))
        self.instances_of.update(category_ids)


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
    labels: Labels, score: FloatArray, image_id: int, file_name: str, width: int, height: int
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
            },
        )
        for row, (x1, y1, x2, y2) in enumerate(labels.boxes)
    )
    every = tuple(range(1, len(labels.names) + 1))
    return LabelledImage(image_id, file_name, width, height, annotations, unverified=every)


def _pixels(value: np.float32) -> float:
    # A thousandth of a pixel; more digits of a float32 would only be noise in the file.
    return round(float(value), 3)


def _fraction(value: np.float32) -> float:
    return round(float(value), 6)


def as_rle(mask: Rle | Polygons, width: int, height: int) -> Rle:
    """Run lengths of a mask; polygons are filled as pycocotools fills them.

    Raises:
        InputError: the run lengths are those of an image of another size.
    """
    if isinstance(mask, dict):
        if mask["size"] != [height, width]:
            raise InputError(f"expected a mask of size [{height}, {width}], got {mask['size']}")
        return mask
    parts = coco_mask.frPyObjects([list(polygon) for polygon in mask], height, width)
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
