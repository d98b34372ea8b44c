"""One annotation of COCO and LVIS: what is mended and left out of it, and what is refused.

Blemishes that pycocotools and FiftyOne read past are counted; what cannot be decided is an
InputError that names the record.
"""

import operator
from collections.abc import Collection, Iterable
from typing import Any

from pycocotools import mask as coco_mask

from integrations.annotations import (
    Annotation,
    Attribute,
    LabelledImage,
    Polygons,
    Tally,
    as_rle,
)
from integrations.formats.outlines import enclosing_box, parse_degrees, rotated_box
from integrations.formats.record import Record
from integrations.masks import LARGEST_COORDINATE, box_outline
from regionspot.boxes import Box, xywh_to_xyxy
from regionspot.errors import InputError
from regionspot.types import Rle

# What the two formats give a meaning to; every other key is kept as it is.
ANNOTATION_KEYS = frozenset(
    {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "score", "segmentation"}
)
_ROTATION = "rotation"
_DIGITS_OF_63_BITS = 19
_DECIMALS = 1e-3  # of a pixel; more than what a file's decimals of left + width lose


class NewIds:
    """Gives each annotation an id of its own: that of the file, else one above all of them."""

    def __init__(self, records: Iterable[Record]) -> None:
        ids = (record.values.get("id") for record in records)
        self._next = max((id for id in ids if isinstance(id, int)), default=0) + 1
        self._seen: set[int] = set()

    def take(self, record: Record, tally: Tally) -> int:
        """The id of an annotation; one that is missing or there twice is replaced and counted."""
        if record.values.get("id") is None or isinstance(record.values["id"], str):
            tally.change(
                "id of an annotation", "it is missing or a text; a new one is given", record.where
            )
        elif (id := record.whole("id")) not in self._seen:
            self._seen.add(id)
            return id
        else:
            tally.change(
                "id of an annotation", "it is there twice; a new one is given", record.where
            )
        self._next += 1
        return self._next - 1


class WrittenIds:
    """The ids of annotations that are written: those that all bring, or else counted from 1.

    Attributes:
        taken: how many there are.
    """

    def __init__(self) -> None:
        self.taken = 0
        self._counts: bool | None = None  # None: there was no annotation yet

    def take(self, annotation: Annotation) -> int:
        """The id of the next annotation.

        Raises:
            InputError: it has one and those before had none, or the other way around.
        """
        if self._counts not in (None, annotation.id is None):
            raise InputError("either all annotations have an id of their own, or none has")
        self._counts = annotation.id is None
        self.taken += 1
        return self.taken if annotation.id is None else annotation.id


def number_text_ids(
    owners: list[Record], users: list[Record], key: str, what: str, tally: Tally
) -> None:
    """Give numbers to records whose ids are texts, as those of camera traps are.

    A text that is a number of its own becomes it; others are numbered above all that are there.

    Args:
        owners: the images or categories; they are replaced in the list.
        users: the annotations, whose references are replaced too.
        key: of these references.
        what: the owners are, in the singular.
        tally: counts the ids.
    """
    ids = [record.values.get("id") for record in owners]
    if not any(isinstance(each, str) for each in ids) and not any(
        isinstance(record.values.get(key), str) for record in users
    ):
        return
    taken = {each for each in ids if isinstance(each, int)}
    texts = dict.fromkeys(each for each in ids if isinstance(each, str))
    numbers = {text: int(text) for text in texts if _is_number(text) and int(text) not in taken}
    following = max((*taken, *numbers.values()), default=0) + 1
    others = [text for text in texts if text not in numbers]
    numbers |= {text: number for number, text in enumerate(others, start=following)}
    for index, record in enumerate(owners):
        if isinstance(text := record.values.get("id"), str):
            reason = "it is a text; a number is given" if text in others else "its number is a text"
            tally.change(f"id of {what}", reason, record.where)
            owners[index] = record.part({**record.values, "id": numbers[text]})
    for index, record in enumerate(users):
        if isinstance(text := record.values.get(key), str):
            number = numbers.get(text, int(text) if _is_number(text) else None)
            users[index] = record.part({**record.values, key: number})


def _is_number(text: str) -> bool:
    """Whether a text is a whole number from 0, as it is written by default."""
    is_short = text.isascii() and text.isdecimal() and len(text) < _DIGITS_OF_63_BITS
    return is_short and str(int(text)) == text


def read_annotation(
    record: Record, image: LabelledImage, categories: Collection[int], tally: Tally
) -> Annotation | None:
    """An annotation without its id; None where it is left out."""
    values = record.values
    category_id = None if values.get("category_id") is None else record.whole("category_id")
    if category_id is None or category_id not in categories:
        tally.leave_out("label", "its category_id is not among the categories", record.where)
        return None
    mask = read_mask(record, image, tally)
    box = read_box(record, mask, tally)
    if box is None:
        return None
    attributes, extra = record.attributes(ANNOTATION_KEYS), record.extra(ANNOTATION_KEYS)
    area = None if values.get("area") is None else record.number("area")
    if area is not None and area < 0:
        tally.change("area", "it is negative; it is worked out again", record.where)
        area = None
    is_crowd = record.flag("iscrowd")
    if mask is None and (degrees := _take_rotation(record, attributes, extra)):
        mask = (rotated_box(box, degrees),)
        box = enclosing_box(mask)
        reason = "its outline and the box around it stand for its angle"
        tally.change("rotated box", reason, record.where)
    elif mask is not None and _says_no_more(mask, box, image, is_crowd):
        mask = None
    return Annotation(
        category_id=category_id,
        box=box,
        score=None if values.get("score") is None else record.number("score"),
        mask=mask,
        area=area,
        is_crowd=is_crowd,
        attributes=attributes,
        extra=extra,
    )


def read_mask(record: Record, image: LabelledImage, tally: Tally) -> Rle | Polygons | None:
    """The mask of an annotation, of the image's size; None where it has none."""
    return record.mask("segmentation", image.width, image.height, tally)


def read_box(record: Record, mask: Rle | Polygons | None, tally: Tally) -> Box | None:
    """The box of an annotation, which is that of its mask where it has none; None: left out."""
    box = record.box("bbox") if record.values.get("bbox") else None
    reversed_ = box is not None and (box[2] < box[0] or box[3] < box[1])
    if box is not None and not reversed_:
        return box
    box = None if mask is None else mask_box(mask)
    if box is not None:
        tally.change("box", "it is missing or reversed; that of the mask is taken", record.where)
    elif reversed_:
        tally.leave_out("label", "its box has a negative width or height", record.where)
    else:
        tally.leave_out("label", "it has neither a box nor a mask", record.where)
    return box


def mask_box(mask: Rle | Polygons) -> Box | None:
    """The smallest xyxy box around a mask; None where it has no pixel."""
    if not isinstance(mask, dict):
        return enclosing_box(mask)
    left, top, width, height = coco_mask.toBbox(
        {"size": mask["size"], "counts": mask["counts"].encode("ascii")}
    ).tolist()
    return xywh_to_xyxy((left, top, width, height)) if width and height else None


def _take_rotation(
    record: Record, attributes: dict[str, Attribute], extra: dict[str, Any]
) -> float:
    """Take the angle of a box out of its attributes, in degrees; 0 where it is upright.

    CVAT exports a rotated box as the box before its rotation, without an outline.
    """
    nested = extra.get("attributes")
    holder = nested if isinstance(nested, dict) and _ROTATION in nested else attributes
    degrees = parse_degrees(holder.get(_ROTATION), record.where)
    if degrees:
        rest = {key: value for key, value in holder.items() if key != _ROTATION}
        if holder is nested:
            extra["attributes"] = rest
        else:
            attributes.pop(_ROTATION)
    return degrees


def _says_no_more(mask: Rle | Polygons, box: Box, image: LabelledImage, is_crowd: bool) -> bool:
    """Whether a mask is only the box again, as a writer gives it to what has no mask."""
    outline = box_outline(box)
    if not isinstance(mask, dict):
        differences = map(operator.sub, mask[0], outline)
        is_outline = len(mask) == 1 and len(mask[0]) == len(outline)
        return is_outline and all(abs(each) < _DECIMALS for each in differences)
    if not is_crowd or not image.width or not image.height:
        return False
    if not all(abs(side) <= LARGEST_COORDINATE for side in outline):
        return False
    return mask == as_rle((outline,), image.width, image.height)
