"""Reads the JSON that COCO and LVIS share, and says where it is broken.

The whole file is parsed at once: an annotation may stand anywhere in it, and belongs to an image
that may stand anywhere else.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from integrations.formats.coco_writer import ANNOTATION_KEYS, IMAGE_KEYS
from integrations.formats.record import Record
from integrations.paths import check_relative, path_inside
from regionspot.errors import InputError

Item = TypeVar("Item", Category, LabelledImage)


def read_json(path: Path, folder: Path | None, federated: bool) -> LabelledSet:
    """Read a label file.

    Args:
        path: of the JSON file.
        folder: of the images; where given, names that leave it by a linked folder are refused too.
        federated: LVIS: each image has to say what was verified in it.

    Raises:
        InputError: the file cannot be read or does not hold together; the message names the file
            and the record.
    """
    top = _load(path)
    categories = _by_id((record, _category(record)) for record in _records(path, top, "categories"))
    images = _by_id(
        (record, _image(record, folder, federated)) for record in _records(path, top, "images")
    )
    found: dict[int, list[Annotation]] = {image_id: [] for image_id in images}
    seen: set[int] = set()
    for record in _records(path, top, "annotations"):
        image = images.get(record.whole("image_id"))
        if image is None:
            record.refuse(f"image_id {record.whole('image_id')} is not among the images")
        annotation = _annotation(record, image, categories)
        assert annotation.id is not None, "a record without an id has been refused"
        if annotation.id in seen:
            record.refuse(f"id {annotation.id} is there twice; give each annotation its own")
        seen.add(annotation.id)
        found[image.id].append(annotation)
    return LabelledSet(
        tuple(categories.values()),
        tuple(
            dataclasses.replace(image, annotations=tuple(found[image.id]))
            for image in images.values()
        ),
    )


def _load(path: Path) -> dict[str, object]:
    try:
        top = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno} is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply for a label file") from error
    except ValueError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(top, dict) or "images" not in top:
        raise InputError(f'{path} is no label file: expected an object with "images"')
    return top


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write null or leave the key out")


def _records(path: Path, top: dict[str, object], group: str) -> Iterator[Record]:
    values = top.get(group, [])
    if not isinstance(values, list):
        raise InputError(f'{path}: "{group}" must be a list, got {type(values).__name__}')
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise InputError(f"{path}: {group}[{index}] must be an object, got {value!r:.40}")
        yield Record(path, group, index, value)


def _by_id(pairs: Iterator[tuple[Record, Item]]) -> dict[int, Item]:
    items: dict[int, Item] = {}
    for record, item in pairs:
        if item.id in items:
            record.refuse(f"id {item.id} is there twice; give each of the {record.group} its own")
        items[item.id] = item
    return items


def _category(record: Record) -> Category:
    return Category(
        id=record.whole("id"),
        name=record.text("name"),
        synonyms=tuple(
            text for text in record.texts("synonyms") if text != record.values.get("name")
        ),
        supercategory=record.text("supercategory", ""),
        synset=record.text("synset", ""),
        definition=record.text("def", ""),
        frequency=record.text("frequency", "") or None,
    )


def _image(record: Record, folder: Path | None, federated: bool) -> LabelledImage:
    values = record.values
    # LVIS v1 names an image by its address alone.
    address = record.text("coco_url", "")
    name = record.text("file_name", address.rsplit("/", 1)[-1] or None)
    try:
        check_relative(name)
        if folder is not None:
            path_inside(folder, name)
    except InputError as error:
        record.refuse(f"file_name {error}")
    for key in ("neg_category_ids", "not_exhaustive_category_ids"):
        if federated and key not in values:
            record.refuse(f'"{key}" is missing, so this is not LVIS; read it as COCO')
    return LabelledImage(
        id=record.whole("id"),
        file_name=name,
        width=record.size("width"),
        height=record.size("height"),
        absent=record.wholes("neg_category_ids"),
        unverified=record.wholes("not_exhaustive_category_ids"),
        attributes=record.attributes(IMAGE_KEYS),
    )


def _annotation(
    record: Record, image: LabelledImage, categories: dict[int, Category]
) -> Annotation:
    category_id = record.whole("category_id")
    if category_id not in categories:
        record.refuse(f"category_id {category_id} is not among the categories")
    values = record.values
    return Annotation(
        category_id=category_id,
        box=record.box("bbox"),
        score=None if values.get("score") is None else record.number("score"),
        mask=record.mask("segmentation", image.width, image.height),
        area=None if values.get("area") is None else record.number("area"),
        is_crowd=bool(values.get("iscrowd", 0)),
        id=record.whole("id"),
        attributes=record.attributes(ANNOTATION_KEYS),
    )
