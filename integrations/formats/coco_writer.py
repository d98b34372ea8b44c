"""Writes the JSON that COCO and LVIS share, one image at a time.

The file lists all images before all annotations, and both come from one pass, so annotations wait
in a temporary file: memory stays that of one image.
"""

import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from integrations.annotations import Annotation, Category, LabelledImage, area
from integrations.paths import check_relative
from regionspot.errors import InputError
from regionspot.files import atomic_write

Json = dict[str, Any]

# What the two formats give a meaning to; every other key is an attribute.
IMAGE_KEYS = frozenset(
    {"id", "file_name", "width", "height", "neg_category_ids", "not_exhaustive_category_ids"}
)
ANNOTATION_KEYS = frozenset(
    {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "score", "segmentation"}
)


@dataclass
class Tally:
    """What was written, in all and for each category id.

    Attributes:
        counted: whether annotations got their ids here; None before the first one.
    """

    images: int = 0
    annotations: int = 0
    counted: bool | None = None
    images_with: Counter[int] = field(default_factory=Counter)
    instances_of: Counter[int] = field(default_factory=Counter)


def write_json(
    path: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object],
    image_record: Callable[[LabelledImage], Json],
    category_record: Callable[[Category, Tally], Json],
) -> Tally:
    """Write a label file; it takes its name only once it is complete.

    Args:
        path: of the JSON file.
        categories: all that annotations may name.
        images: taken once, in order.
        info: goes into the file's `info` as it is.
        image_record: keys of an image beyond those that both formats have.
        category_record: the whole record of a category, once everything has been counted.

    Raises:
        InputError: an image or annotation cannot be written; the file is left as it was.
    """
    known = {category.id for category in categories}
    tally = Tally()
    with (
        atomic_write(path) as out,
        tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=path.parent) as waiting,
    ):
        out.write(f'{{"info":{_dump(dict(info))},"licenses":[],"images":[')
        for image in images:
            try:
                record = _image(image) | image_record(image)
                _separate(out, tally.images)
                out.write(_dump(record))
                _write_annotations(waiting, image, known, tally)
            except InputError as error:
                raise InputError(f"{path}: image {image.file_name!r}: {error}") from error
        out.write('\n],"annotations":[')
        waiting.seek(0)
        shutil.copyfileobj(waiting, out)
        out.write('\n],"categories":[')
        for index, category in enumerate(categories):
            _separate(out, index)
            out.write(_dump(category_record(category, tally)))
        out.write("\n]}\n")
    return tally


def _separate(out: TextIO, before: int) -> None:
    out.write(",\n" if before else "\n")


def _dump(record: Mapping[str, object]) -> str:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise InputError(f"every number must be finite, got {record}") from error


def _image(image: LabelledImage) -> Json:
    check_relative(image.file_name)
    if image.width < 1 or image.height < 1:
        raise InputError(f"expected a width and a height, got {image.width} x {image.height}")
    size = {"file_name": image.file_name, "width": image.width, "height": image.height}
    return {"id": image.id, **size, **_free(image.attributes, IMAGE_KEYS)}


def _write_annotations(out: TextIO, image: LabelledImage, known: set[int], tally: Tally) -> None:
    for annotation in image.annotations:
        if annotation.category_id not in known:
            raise InputError(f"category {annotation.category_id} is not in the vocabulary")
        if tally.counted not in (None, annotation.id is None):
            raise InputError("either all annotations have an id of their own, or none has")
        tally.counted = annotation.id is None
        _separate(out, tally.annotations)
        tally.annotations += 1
        out.write(_dump(_annotation(annotation, image, tally.annotations)))
        tally.instances_of[annotation.category_id] += 1
    tally.images += 1
    tally.images_with.update({annotation.category_id for annotation in image.annotations})


def _annotation(annotation: Annotation, image: LabelledImage, number: int) -> Json:
    x1, y1, x2, y2 = annotation.box
    if not all(map(math.isfinite, annotation.box)) or x2 < x1 or y2 < y1:
        raise InputError(f"expected a box x1 <= x2, y1 <= y2, got {annotation.box}")
    record: Json = {
        "id": number if annotation.id is None else annotation.id,
        "image_id": image.id,
        "category_id": annotation.category_id,
        # Four decimals drop what the subtraction adds to a file's own decimals.
        "bbox": [round(side, 4) for side in (x1, y1, x2 - x1, y2 - y1)],
        "area": area(annotation, image.width, image.height),
        "iscrowd": int(annotation.is_crowd),
    }
    if annotation.score is not None:
        record["score"] = annotation.score
    if annotation.mask is not None:
        record["segmentation"] = annotation.mask
    return record | _free(annotation.attributes, ANNOTATION_KEYS)


def _free(attributes: Mapping[str, object], keys: frozenset[str]) -> Json:
    if taken := keys & attributes.keys():
        raise InputError(f"an attribute may not be named {', '.join(sorted(taken))}")
    return dict(attributes)
