"""COCO's instances JSON (cocodataset.org, "Data format", object detection), which LVIS extends.

Lists may stand in any order, and an annotation may belong to an image that stands anywhere else,
so a reader holds all records until it knows them all. A writer takes its images once: the file
lists all images before all annotations, which wait in a temporary file, so that memory stays that
of one image.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TextIO, TypeVar

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    ReadOptions,
    Tally,
    area,
)
from integrations.formats.json_stream import is_list, stream_list, stream_records
from integrations.formats.record import Record
from integrations.formats.validation import (
    ALL_PARTS,
    Part,
    check_new_id,
    checked_images,
    free_attributes,
    naming_image,
    to_json,
)
from regionspot.boxes import xyxy_to_xywh
from regionspot.errors import InputError
from regionspot.files import atomic_write, check_image_name

GROUPS = ("images", "annotations", "categories")
# What LVIS verifies of an image: categories without an instance, and those labelled in part.
VERIFIED_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")
# What the two formats give a meaning to; every other key is an attribute.
_IMAGE_KEYS = frozenset({"id", "file_name", "width", "height", *VERIFIED_KEYS})
_ANNOTATION_KEYS = frozenset(
    {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "score", "segmentation"}
)
Json = dict[str, Any]
Item = TypeVar("Item", Category, LabelledImage)


def read_coco(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read a COCO JSON; see `registry.Reader`.

    Annotations and categories may be missing. Of what COCO has beside boxes and masks, single
    values are kept as attributes.
    """
    return read_instances(path, folder, options, federated=False)


def read_coco_results(path: Path, truth: LabelledSet) -> LabelledSet:
    """Read predictions: a COCO JSON, or COCO's list of results with the ground truth's ids.

    Args:
        path: of the JSON file.
        truth: the ground truth. Its images, without what LVIS verifies, and its categories are
            those of the results.

    Raises:
        InputError: the file does not hold together; of a list also where a result is of another
            image or category.
    """
    if not is_list(path):
        return read_coco(path)
    images = {image.id: image for image in truth.images}
    found: dict[int, list[Annotation]] = {image.id: [] for image in truth.images}
    known = {category.id for category in truth.categories}
    for record in stream_list(path, "results"):
        image = images.get(record.whole("image_id"))
        category_id = record.whole("category_id")
        if image is None or category_id not in known:
            record.refuse("image_id or category_id is not in the ground truth")
        mask = record.mask("segmentation", image.width, image.height)
        annotation = Annotation(category_id, record.box("bbox"), record.number("score"), mask)
        found[image.id].append(annotation)
    unverified = [dataclasses.replace(each, absent=(), unverified=()) for each in truth.images]
    return LabelledSet(truth.categories, _with_annotations(unverified, found))


def read_instances(
    path: Path, folder: Path | None, options: ReadOptions, federated: bool
) -> LabelledSet:
    """Read a JSON of COCO or LVIS.

    Args:
        path: of the JSON file.
        folder: of the images; where given, names that leave it by a linked folder are refused too.
        options: how to read.
        federated: LVIS: each image has to say what was verified in it.

    Raises:
        InputError: the file cannot be read or does not hold together; the message names the file
            and the record.
    """
    tally = Tally(strict=options.strict)
    records: dict[str, list[Record]] = {group: [] for group in GROUPS}
    for record in stream_records(path, GROUPS, required="images"):
        records[record.group].append(record)
    categories = _by_id(records["categories"], _read_category)
    images = _by_id(records["images"], lambda record: _read_image(record, folder, federated))
    found: dict[int, list[Annotation]] = {image_id: [] for image_id in images}
    seen: set[int] = set()
    for record in records["annotations"]:
        image = images.get(record.whole("image_id"))
        if image is None:
            record.refuse(f"image_id {record.whole('image_id')} is not among the images")
        found[image.id].append(_read_annotation(record, image, categories))
        check_new_id(record.whole("id"), seen, record.where)
    return LabelledSet(tuple(categories.values()), _with_annotations(images.values(), found), tally)


def _with_annotations(
    images: Iterable[LabelledImage], found: Mapping[int, Sequence[Annotation]]
) -> tuple[LabelledImage, ...]:
    return tuple(dataclasses.replace(image, annotations=tuple(found[image.id])) for image in images)


def _by_id(records: Iterable[Record], read: Callable[[Record], Item]) -> dict[int, Item]:
    items: dict[int, Item] = {}
    seen: set[int] = set()
    for record in records:
        item = read(record)
        check_new_id(item.id, seen, record.where)
        items[item.id] = item
    return items


def check_federated(record: Record) -> None:
    """Refuse an image of LVIS that does not say what was verified in it."""
    for key in VERIFIED_KEYS:
        if key not in record.values:
            record.refuse(f'"{key}" is missing, so this is not LVIS; read it as COCO')


def _read_category(record: Record) -> Category:
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


def _read_image(record: Record, folder: Path | None, federated: bool) -> LabelledImage:
    # LVIS v1 names an image by its address alone.
    address = record.text("coco_url", "")
    name = record.text("file_name", address.rsplit("/", 1)[-1] or None)
    check_image_name(name, folder, f"{record.where}: file_name")
    if federated:
        check_federated(record)
    return LabelledImage(
        id=record.whole("id"),
        file_name=name,
        width=record.size("width"),
        height=record.size("height"),
        absent=record.wholes("neg_category_ids"),
        unverified=record.wholes("not_exhaustive_category_ids"),
        attributes=record.attributes(_IMAGE_KEYS),
    )


def _read_annotation(
    record: Record, image: LabelledImage, categories: Mapping[int, Category]
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
        attributes=record.attributes(_ANNOTATION_KEYS),
    )


def write_coco(
    path: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write a COCO JSON; see `registry.Writer`. What LVIS verifies is not kept."""
    tally = Tally() if tally is None else tally
    holds = ALL_PARTS - {"verified"}
    return write_instances(
        path, categories, images, info or {}, tally, holds, lambda _: {}, _category
    )


def _category(category: Category, _: Tally) -> Json:
    record: Json = {
        "id": category.id,
        "name": category.name,
        "supercategory": category.supercategory,
    }
    # COCO knows none; evaluations that do can then match classes by them.
    return record | ({"synonyms": list(category.synonyms)} if category.synonyms else {})


def write_instances(
    path: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object],
    tally: Tally,
    holds: Set[Part],
    image_record: Callable[[LabelledImage], Json],
    category_record: Callable[[Category, Tally], Json],
) -> Tally:
    """Write a JSON of COCO or LVIS; it takes its name only once it is complete.

    Args:
        path: of the JSON file.
        categories: all that annotations may name.
        images: taken once, in order.
        info: goes into the file's `info` as it is.
        tally: counts what is written.
        holds: what the format can hold.
        image_record: keys of an image beyond those that both formats have.
        category_record: the whole record of a category, once everything has been counted.

    Raises:
        InputError: an image or annotation cannot be written; the file is left as it was.
    """
    with (
        atomic_write(path) as out,
        tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=path.parent) as waiting,
    ):
        annotations = _AnnotationWriter(waiting)
        out.write(f'{{"info":{to_json(info)},"licenses":[],"images":[')
        for index, image in enumerate(checked_images(path, categories, images, tally, holds)):
            with naming_image(path, image):
                _separate(out, index)
                out.write(to_json(_image(image) | image_record(image)))
                annotations.write(image)
        out.write('\n],"annotations":[')
        waiting.seek(0)
        shutil.copyfileobj(waiting, out)
        out.write('\n],"categories":[')
        for index, category in enumerate(categories):
            _separate(out, index)
            out.write(to_json(category_record(category, tally)))
        out.write("\n]}\n")
    return tally


def _separate(out: TextIO, before: int) -> None:
    out.write(",\n" if before else "\n")


def _image(image: LabelledImage) -> Json:
    size = {"file_name": image.file_name, "width": image.width, "height": image.height}
    return {"id": image.id, **size, **free_attributes(image.attributes, _IMAGE_KEYS)}


class _AnnotationWriter:
    """Writes annotations with the ids that all of them bring, or else counted from 1."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._written = out, 0
        self._counts: bool | None = None  # None: there was no annotation yet

    def write(self, image: LabelledImage) -> None:
        for annotation in image.annotations:
            if self._counts not in (None, annotation.id is None):
                raise InputError("either all annotations have an id of their own, or none has")
            self._counts = annotation.id is None
            _separate(self._out, self._written)
            self._written += 1
            self._out.write(to_json(self._record(annotation, image)))

    def _record(self, annotation: Annotation, image: LabelledImage) -> Json:
        record: Json = {
            "id": self._written if annotation.id is None else annotation.id,
            "image_id": image.id,
            "category_id": annotation.category_id,
            # Four decimals drop what the subtraction adds to a file's own decimals.
            "bbox": [round(side, 4) for side in xyxy_to_xywh(annotation.box)],
            "area": area(annotation, image.width, image.height),
            "iscrowd": int(annotation.is_crowd),
        }
        if annotation.score is not None:
            record["score"] = annotation.score
        if annotation.mask is not None:
            record["segmentation"] = annotation.mask
        return record | free_attributes(annotation.attributes, _ANNOTATION_KEYS)
