"""The JSON that COCO, LVIS, Objects365 and V3Det share: images, annotations, categories.

The file is read once, whatever the order of its lists; segmentations are passed over.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integrations.formats.record import Record
from regionspot.errors import InputError
from train.data.box_table import Table, TableBuilder
from train.data.json_stream import stream_records

LISTS = frozenset({"images", "annotations", "categories"})
# What marks a box that is no single object, or one that is only suspected to be none.
CROWDS = ("iscrowd", "maybe_crowd")
OnRecord = Callable[[Record], None]


@dataclass(frozen=True)
class Category:
    """One of the file's categories.

    Attributes:
        id: the file's own, which other files do not share.
        name: as the file writes it.
        synonyms: as the file writes them, or none.
    """

    id: int
    name: str
    synonyms: tuple[str, ...]


@dataclass(frozen=True)
class CocoFile:
    """What is kept of such a file.

    Attributes:
        categories: in the file's order; `table.words` has one place for each of them.
    """

    categories: tuple[Category, ...]
    table: Table


def read_coco_json(
    path: Path,
    folder: Path,
    word_of: Callable[[str], str],
    left_out: tuple[str, ...] = CROWDS,
    on_image: OnRecord = lambda record: None,
    on_annotation: OnRecord = lambda record: None,
) -> CocoFile:
    """Read the boxes of a file.

    Args:
        folder: of the images.
        word_of: the word of a category's name.
        left_out: keys of an annotation; where one is true, its box is left out.
        on_image: is shown each image.
        on_annotation: is shown each annotation, those left out too.

    Raises:
        InputError: the file cannot be read or does not hold together; the message names the
            record.
    """
    builder = TableBuilder(path, folder)
    categories: dict[int, Category] = {}
    # Categories may stand behind the annotations, so each id gets its place when it is first met.
    places: dict[int, int] = {}
    seen_images = False
    for record in stream_records(path, LISTS):
        if record.group == "annotations":
            on_annotation(record)
            if not any(record.values.get(key) for key in left_out):
                place = places.setdefault(record.whole("category_id"), len(places))
                builder.add_box(identifier(record, "image_id"), place, _box(record))
        elif record.group == "images":
            seen_images = True
            on_image(record)
            _add_image(builder, record)
        else:
            category = Category(record.whole("id"), record.text("name"), record.texts("synonyms"))
            if category.id in categories:
                record.refuse(f"id {category.id} is there twice; give each category its own")
            categories[category.id] = category
    if not seen_images:
        raise InputError(f'{path} has no "images", so it is no COCO file of boxes')
    for unknown in places.keys() - categories.keys():
        raise InputError(
            f"{path}: a box has the category {unknown}, which is not among the categories; "
            "add the category or leave its boxes out"
        )
    words = [word_of(categories[id].name) for id in places]
    return CocoFile(tuple(categories.values()), builder.finish(words))


def identifier(record: Record, key: str) -> int:
    """An id, which is a whole number and not negative."""
    value = record.whole(key)
    if not 0 <= value < 1 << 63:
        record.refuse(f'"{key}" must be a whole number from 0, got {value}')
    return value


def _add_image(builder: TableBuilder, record: Record) -> None:
    values: Any = record.values
    # LVIS v1 names an image by its address alone, of which the last folder tells the split.
    address = "/".join(record.text("coco_url", "").split("/")[-2:])
    name = record.text("file_name", address or None)
    # LVIS v0.5 has names of COCO 2014, whose images it asks for under their names of 2017.
    if name.startswith("COCO_") and values.get("neg_category_ids") is not None:
        name = name.rsplit("_", 1)[-1]
    width, height = record.size("width"), record.size("height")
    if not width or not height:
        record.refuse(f'expected a "width" and a "height" in pixels, got {width} x {height}')
    builder.add_image(identifier(record, "id"), name, width, height)


def _box(record: Record) -> list[float]:
    box = record.values.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        record.refuse(f'"bbox" must be left, top, width, height, got {box!r:.60}')
    for value in box:
        if type(value) not in (int, float) or not math.isfinite(value):
            record.refuse(f'"bbox" must be four finite numbers, got {box!r:.60}')
    return box
