"""Label Studio's pre-annotations (labelstud.io/guide/predictions).

    tasks.json           a list of tasks; each image's labels are a prediction with scores
    label_config.xml     the labelling interface with all classes
    images/              the images

Boxes are in per cent of the image. A mask becomes a brush stroke that hangs on its box. Images are
addressed as Label Studio's local storage does, relative to the folder that it is set up to serve.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from pycocotools import mask as coco_mask

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    Polygons,
    ReadOptions,
    Tally,
    as_rle,
    vocabulary_categories,
)
from integrations.formats.json_stream import stream_list
from integrations.formats.record import Record
from integrations.formats.rle import pack_brush, unpack_brush
from integrations.formats.validation import (
    ALL_PARTS,
    check_new_id,
    checked_images,
    names_by_id,
    naming_image,
    to_json,
)
from integrations.formats.xml import read_xml, start
from regionspot.boxes import Box, relative_xywh_to_xyxy, rounded, xywh_to_xyxy, xyxy_to_xywh
from regionspot.errors import InputError
from regionspot.files import atomic_write, check_image_name
from regionspot.types import Rle, decode_mask, encode_mask

TASKS, CONFIG, IMAGES = "tasks.json", "label_config.xml", "images"
_LOCAL_FILES = "/data/local-files/?d="
_HOLDS = ALL_PARTS - {"extra"}


def write_label_studio(
    folder: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write `tasks.json` and `label_config.xml`; the images belong into `images/`.

    See `registry.Writer`; `info`'s `model` becomes the predictions' version.
    """
    tally = Tally() if tally is None else tally
    names = names_by_id(folder, categories)
    version = str((info or {}).get("model", "autolabel"))
    with atomic_write(folder / CONFIG) as out:
        out.writelines(f"{line}\n" for line in _config(names.values()))
    with atomic_write(folder / TASKS) as out:
        out.write("[")
        for index, image in enumerate(checked_images(folder, categories, images, tally, _HOLDS)):
            with naming_image(folder, image):
                out.write((",\n" if index else "\n") + to_json(_task(image, names, version)))
        out.write("\n]\n")
    return tally


def _config(names: Iterable[str]) -> Iterator[str]:
    yield "<View>"
    yield start("Image", name="image", value="$image") + "</Image>"
    for tag, control in (("RectangleLabels", "label"), ("BrushLabels", "brush")):
        yield start(tag, name=control, toName="image")
        yield from (start("Label", value=name) + "</Label>" for name in names)
        yield f"</{tag}>"
    yield "</View>"


def _task(image: LabelledImage, names: Mapping[int, str], version: str) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    for index, annotation in enumerate(image.annotations):
        results += _results(annotation, image, names, index)
    scores = [each.score for each in image.annotations if each.score is not None]
    prediction: dict[str, Any] = {"model_version": version, "result": results}
    if scores:
        # Label Studio can begin with the lowest, which is the image that is least sure.
        prediction["score"] = min(scores)
    return {
        "id": image.id,
        "data": {
            "image": _LOCAL_FILES + quote(f"{IMAGES}/{image.file_name}"),
            "width": image.width,
            "height": image.height,
            "absent": list(image.absent),
            "unverified": list(image.unverified),
            "attributes": dict(image.attributes),
        },
        "predictions": [prediction],
    }


def _results(
    annotation: Annotation, image: LabelledImage, names: Mapping[int, str], index: int
) -> Iterator[dict[str, Any]]:
    """The box, and the mask that hangs on it."""
    name = names[annotation.category_id]
    key = f"box-{index}" if annotation.id is None else str(annotation.id)
    common: dict[str, Any] = {
        "to_name": "image",
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
    }
    if annotation.score is not None:
        common["score"] = annotation.score
    meta = dict(annotation.attributes)
    if annotation.is_crowd:
        meta["iscrowd"] = True
    left, top, width, height = xyxy_to_xywh(annotation.box)
    value = {
        "x": round(100 * left / image.width, 8),
        "y": round(100 * top / image.height, 8),
        "width": round(100 * width / image.width, 8),
        "height": round(100 * height / image.height, 8),
        "rotation": 0,
        "rectanglelabels": [name],
    }
    box = {"id": key, "type": "rectanglelabels", "from_name": "label", "value": value, **common}
    yield {**box, "meta": meta} if meta else box
    if annotation.mask is not None:
        mask = decode_mask(as_rle(annotation.mask, image.width, image.height))
        stroke = {"format": "rle", "rle": pack_brush(mask), "brushlabels": [name]}
        place = {"id": f"{key}-mask", "parentID": key, "type": "brushlabels", "from_name": "brush"}
        yield {**place, "value": stroke, **common}


def read_label_studio(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read tasks that Label Studio exported as JSON, or that were written for it.

    See `registry.Reader`. Of each task the first annotation that was not cancelled counts, else the
    first prediction. Rectangles, polygons and brush strokes are read; a stroke or polygon whose
    parent is a rectangle is that rectangle's mask. Categories get ids from 1 in order of
    `label_config.xml`, then as they appear.
    """
    tally = Tally(strict=options.strict)
    file = path / TASKS if path.is_dir() else path
    category_ids: dict[str, int] = {}
    if (config := file.parent / CONFIG).exists():
        for label in read_xml(config).iter("Label"):
            category_ids.setdefault(label.get("value", ""), len(category_ids) + 1)
    images = []
    seen: set[int] = set()
    for task in stream_list(file, "tasks"):
        if not isinstance(task.values.get("data"), dict):
            raise InputError(f'{task.where} must be an object with "data"')
        images.append(_image(task, folder, category_ids))
        check_new_id(images[-1].id, seen, task.where)
    return LabelledSet(vocabulary_categories(tuple(category_ids)), tuple(images), tally)


def _image(task: Record, folder: Path | None, category_ids: dict[str, int]) -> LabelledImage:
    data = task.part(task.values["data"])
    name = _file_name(data.text("image"))
    check_image_name(name, folder, f"{task.where}: image")
    results = _task_results(task)
    first = results[0].values if results else {}
    width = first.get("original_width", data.values.get("width"))
    height = first.get("original_height", data.values.get("height"))
    size = task.part({"width": width, "height": height})
    attributes = data.values.get("attributes")
    image = LabelledImage(
        task.whole("id") if "id" in task.values else task.index + 1,
        name,
        size.size("width"),
        size.size("height"),
        absent=data.wholes("absent"),
        unverified=data.wholes("unverified"),
        attributes=attributes if isinstance(attributes, dict) else {},
    )
    return _with_annotations(image, results, category_ids)


def _file_name(address: str) -> str:
    """Relative to the images' folder; of what was uploaded, the last part."""
    if address.startswith(_LOCAL_FILES):
        return unquote(address.removeprefix(_LOCAL_FILES)).removeprefix(f"{IMAGES}/")
    if "://" in address or address.startswith("/data/upload/"):
        return unquote(address.rsplit("/", 1)[-1])
    return address


def _task_results(task: Record) -> list[Record]:
    for key in ("annotations", "predictions"):
        for each in task.values.get(key) or ():
            if isinstance(each, dict) and not each.get("was_cancelled"):
                found = each.get("result")
                if not isinstance(found, list) or not all(isinstance(r, dict) for r in found):
                    task.refuse(f'{key} must have a list of objects as "result"')
                return [task.part(result) for result in found]
    return []


def _with_annotations(
    image: LabelledImage, results: Sequence[Record], category_ids: dict[str, int]
) -> LabelledImage:
    """The image with a task's results; new categories are added to `category_ids`."""
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
    found = [_annotation(each, masks.get(key), image, category_ids) for key, each in boxes.items()]
    found += [_annotation(None, each, image, category_ids) for each in alone]
    ids = [each.id for each in found]
    if None in ids or len(set(ids)) < len(ids):
        found = [dataclasses.replace(each, id=None) for each in found]
    return dataclasses.replace(image, annotations=tuple(found))


def _annotation(
    box: Record | None, mask: Record | None, image: LabelledImage, category_ids: dict[str, int]
) -> Annotation:
    result = box or mask
    assert result is not None
    value = result.values.get("value")
    labels = value.get(result.values["type"]) if isinstance(value, dict) else None
    if not isinstance(labels, list) or not labels or not isinstance(labels[0], str):
        result.refuse(f"a result must have a label, got {value!r:.60}")
    shape = None if mask is None else _mask(mask, image)
    meta = result.values.get("meta")
    attributes = dict(meta) if isinstance(meta, dict) else {}
    key = result.text("id", "")
    return Annotation(
        category_id=category_ids.setdefault(labels[0], len(category_ids) + 1),
        box=_box(box, image) if box else _around(shape),
        score=None if result.values.get("score") is None else result.number("score"),
        mask=shape,
        is_crowd=attributes.pop("iscrowd", False) is True,
        id=int(key) if key.isdecimal() and key.isascii() else None,
        attributes=attributes,
    )


def _box(record: Record, image: LabelledImage) -> Box:
    value = record.part(record.values["value"])
    if value.values.get("rotation"):
        value.refuse("a rectangle is rotated; only upright ones can be read")
    x, y, width, height = (value.number(key) / 100 for key in ("x", "y", "width", "height"))
    if width < 0 or height < 0:
        value.refuse("a rectangle has a negative width or height")
    box = relative_xywh_to_xyxy((x, y, width, height), image.width, image.height)
    return rounded(box, 6)  # drops what dividing and multiplying adds


def _mask(record: Record, image: LabelledImage) -> Rle | Polygons:
    value = record.values.get("value")
    if not isinstance(value, dict):
        record.refuse("a mask must have a value")
    try:
        if record.values["type"] == "brushlabels":
            return encode_mask(unpack_brush(value["rle"], image.height, image.width))
        sides = (image.width / 100, image.height / 100)
        points = tuple(
            float(percent) * side
            for point in value["points"]
            for percent, side in zip(point, sides, strict=True)
        )
    except (KeyError, TypeError, ValueError) as error:
        record.refuse(f"a mask cannot be read: {error}")
    if len(points) < 6:
        record.refuse("a polygon must have three corners or more")
    return (points,)


def _around(mask: Rle | Polygons | None) -> Box:
    if isinstance(mask, dict):
        packed = {"size": mask["size"], "counts": mask["counts"].encode()}
        left, top, width, height = coco_mask.toBbox(packed).tolist()
        return xywh_to_xyxy((left, top, width, height))
    assert mask, "a result without a box has a mask"
    x, y = mask[0][::2], mask[0][1::2]
    return min(x), min(y), max(x), max(y)
