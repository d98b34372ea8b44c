"""Reads Label Studio's tasks; `label_studio.py` says how they look."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pycocotools import mask as coco_mask

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    Polygons,
)
from integrations.formats.label_studio import CONFIG, IMAGES, LOCAL_FILES, TASKS
from integrations.formats.label_studio_runs import unpack
from integrations.formats.record import Record
from integrations.formats.xml import read_xml
from integrations.paths import check_relative, path_inside
from regionspot.errors import InputError
from regionspot.types import Rle, encode_mask


def read_label_studio(path: Path, folder: Path | None = None) -> LabelledSet:
    """Read tasks that Label Studio exported as JSON, or that were written for it.

    Of each task the first annotation that was not cancelled counts, else the first prediction.
    Rectangles, polygons and brush strokes are read; a stroke or polygon whose parent is a rectangle
    is that rectangle's mask. Words get ids from 1 in order of `label_config.xml`, then as they
    appear.

    Args:
        path: of the file, or its folder.
        folder: of the images, if they are going to be read.

    Raises:
        InputError: the file does not hold together, or an image's name leaves the folder.
    """
    file = path / TASKS if path.is_dir() else path
    words: dict[str, int] = {}
    if (config := file.parent / CONFIG).exists():
        for label in read_xml(config).iter("Label"):
            words.setdefault(label.get("value", ""), len(words) + 1)
    images = []
    seen: set[int] = set()
    for index, values in enumerate(_tasks(file)):
        if not isinstance(values, dict) or not isinstance(values.get("data"), dict):
            raise InputError(f'{file}: tasks[{index}] must be an object with "data"')
        image = _image(file, index, values, folder, words)
        if image.id in seen:
            raise InputError(f"{file}: tasks[{index}]: id {image.id} is there twice")
        seen.add(image.id)
        images.append(image)
    return LabelledSet(tuple(Category(n, word) for word, n in words.items()), tuple(images))


def _tasks(file: Path) -> list[Any]:
    try:
        tasks = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: line {error.lineno} is not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    if not isinstance(tasks, list):
        raise InputError(f"{file} is no list of Label Studio's tasks")
    return tasks


def _image(
    file: Path, index: int, task: Mapping[str, Any], folder: Path | None, words: dict[str, int]
) -> LabelledImage:
    record = Record(file, "tasks", index, task)
    data = Record(file, "tasks", index, task["data"])
    name = _file_name(data.text("image"))
    try:
        check_relative(name)
        if folder is not None:
            path_inside(folder, name)
    except InputError as error:
        record.refuse(f"image {error}")
    results = _results(record)
    first = results[0].values if results else {}
    width = first.get("original_width", data.values.get("width"))
    height = first.get("original_height", data.values.get("height"))
    size = Record(file, "tasks", index, {"width": width, "height": height})
    attributes = data.values.get("attributes")
    image = LabelledImage(
        record.whole("id") if "id" in task else index + 1,
        name,
        size.size("width"),
        size.size("height"),
        absent=data.wholes("absent"),
        unverified=data.wholes("unverified"),
        attributes=attributes if isinstance(attributes, dict) else {},
    )
    return with_annotations(image, results, words)


def _file_name(address: str) -> str:
    """Relative to the images' folder; of what was uploaded, the last part."""
    if address.startswith(LOCAL_FILES):
        return unquote(address.removeprefix(LOCAL_FILES)).removeprefix(f"{IMAGES}/")
    if "://" in address or address.startswith("/data/upload/"):
        return unquote(address.rsplit("/", 1)[-1])
    return address


def _results(record: Record) -> list[Record]:
    for key in ("annotations", "predictions"):
        for each in record.values.get(key) or ():
            if isinstance(each, dict) and not each.get("was_cancelled"):
                found = each.get("result")
                if not isinstance(found, list) or not all(isinstance(r, dict) for r in found):
                    record.refuse(f'{key} must have a list of objects as "result"')
                return [Record(record.path, "tasks", record.index, result) for result in found]
    return []


def with_annotations(
    image: LabelledImage, results: Sequence[Record], words: dict[str, int]
) -> LabelledImage:
    """The image with what a task's results say of it; new words are added to `words`."""
    boxes = {
        each.text("id", ""): each
        for each in results
        if each.values.get("type") == "rectanglelabels"
    }
    masks: dict[str, Record] = {}
    alone = []
    for each in results:
        if each.values.get("type") not in ("brushlabels", "polygonlabels"):
            continue
        parent = each.text("parentID", "")
        if parent in boxes and parent not in masks:
            masks[parent] = each
        else:
            alone.append(each)
    found = [_annotation(each, masks.get(key), image, words) for key, each in boxes.items()]
    found += [_annotation(None, each, image, words) for each in alone]
    ids = [each.id for each in found]
    if None in ids or len(set(ids)) < len(ids):
        found = [dataclasses.replace(each, id=None) for each in found]
    return dataclasses.replace(image, annotations=tuple(found))


def _annotation(
    box: Record | None, mask: Record | None, image: LabelledImage, words: dict[str, int]
) -> Annotation:
    result = box or mask
    assert result is not None
    value = result.values.get("value")
    labels = value.get(result.values["type"]) if isinstance(value, dict) else None
    if not isinstance(labels, list) or not labels or not isinstance(labels[0], str):
        result.refuse(f"a result must have a word, got {value!r:.60}")
    shape = None if mask is None else _mask(mask, image)
    meta = result.values.get("meta")
    attributes = dict(meta) if isinstance(meta, dict) else {}
    key = result.text("id", "")
    return Annotation(
        category_id=words.setdefault(labels[0], len(words) + 1),
        box=_box(box, image) if box else _around(shape),
        score=None if result.values.get("score") is None else result.number("score"),
        mask=shape,
        is_crowd=attributes.pop("iscrowd", False) is True,
        id=int(key) if key.isdecimal() and key.isascii() else None,
        attributes=attributes,
    )


def _box(record: Record, image: LabelledImage) -> tuple[float, float, float, float]:
    value = Record(record.path, record.group, record.index, record.values["value"])
    if value.values.get("rotation"):
        value.refuse("a rectangle is rotated; only upright ones can be read")
    x, y, width, height = (value.number(key) / 100 for key in ("x", "y", "width", "height"))
    if width < 0 or height < 0:
        value.refuse("a rectangle has a negative width or height")
    # Six decimals drop what dividing and multiplying adds.
    return (
        round(x * image.width, 6),
        round(y * image.height, 6),
        round((x + width) * image.width, 6),
        round((y + height) * image.height, 6),
    )


def _mask(record: Record, image: LabelledImage) -> Rle | Polygons:
    value = record.values.get("value")
    if not isinstance(value, dict):
        record.refuse("a mask must have a value")
    try:
        if record.values["type"] == "brushlabels":
            return encode_mask(unpack(value["rle"], image.height, image.width))
        sides = (image.width / 100, image.height / 100)
        points = tuple(
            float(share) * side
            for point in value["points"]
            for share, side in zip(point, sides, strict=True)
        )
    except (KeyError, TypeError, ValueError) as error:
        record.refuse(f"a mask cannot be read: {error}")
    if len(points) < 6:
        record.refuse("a polygon must have three corners or more")
    return (points,)


def _around(mask: Rle | Polygons | None) -> tuple[float, float, float, float]:
    if isinstance(mask, dict):
        x, y, width, height = coco_mask.toBbox(
            {"size": mask["size"], "counts": mask["counts"].encode()}
        ).tolist()
        return x, y, x + width, y + height
    assert mask, "a result without a box has a mask"
    x, y = mask[0][::2], mask[0][1::2]
    return min(x), min(y), max(x), max(y)
