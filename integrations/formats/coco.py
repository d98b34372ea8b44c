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
from pathlib import Path, PurePosixPath
from typing import Any, TextIO, TypeVar

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    Polygons,
    ReadOptions,
    Tally,
    area,
    as_rle,
    uncollected,
)
from integrations.formats.coco_annotations import (
    ANNOTATION_KEYS,
    NewIds,
    WrittenIds,
    number_text_ids,
    read_annotation,
    read_box,
    read_mask,
)
from integrations.formats.json_stream import is_list, stream_list, stream_records
from integrations.formats.record import Record
from integrations.formats.validation import (
    ALL_PARTS,
    Part,
    Rarely,
    check_new_id,
    checked_images,
    free_attributes,
    naming_image,
    to_json,
)
from integrations.images import file_name_of_address
from integrations.masks import box_outline, clip_polygons
from regionspot.boxes import Box, rounded, xywh_to_xyxy, xyxy_to_xywh
from regionspot.errors import InputError
from regionspot.files import atomic_write, check_image_name
from regionspot.types import Rle

GROUPS = ("images", "annotations", "categories")
_LICENSES = "licenses"
_HELD: frozenset[Rarely] = frozenset({"category keys", "equal names"})
_NO_PIXEL = (0.0,) * 6  # the outline of a box outside of its image
# What LVIS verifies of an image: categories without an instance, and those labelled in part.
VERIFIED_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")
# What the two formats give a meaning to; every other key is kept as it is.
IMAGE_KEYS = frozenset({"id", "file_name", "width", "height", *VERIFIED_KEYS})
# An LVIS file counts images and instances, which are counted again when it is written.
_CATEGORY_KEYS = frozenset(
    {"id", "name", "synonyms", "supercategory", "synset", "def", "frequency"}
    | {"image_count", "instance_count"}
)
Json = dict[str, Any]
Item = TypeVar("Item", Category, LabelledImage)


def read_coco(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read a COCO JSON; see `registry.Reader`.

    Annotations and categories may be missing. Of what COCO has beside boxes and masks, single
    values are kept as attributes, and lists and objects as `extra`.
    """
    return read_instances(path, folder, options, federated=False)


def read_coco_images(path: Path, folder: Path) -> tuple[LabelledImage, ...]:
    """The images that a JSON of COCO or LVIS lists. Nothing is asked of its annotations.

    Args:
        path: of the JSON file.
        folder: of the images.

    Raises:
        InputError: the file cannot be read, or an image has no id or name of its own, or a size
            that none can have.
    """
    records = list(stream_records(path, ("images",), required="images"))
    number_text_ids(records, [], "image_id", "an image", Tally())
    return tuple(_by_id(records, lambda record: _named_image(record, folder)).values())


@uncollected()
def read_coco_results(path: Path, truth: LabelledSet) -> LabelledSet:
    """Read predictions: a COCO JSON, or COCO's list of results with the ground truth's ids.

    Where a result has the name of its image, as those of ultralytics, that counts.

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
    tally = Tally()
    images, named = {image.id: image for image in truth.images}, _by_own_name(truth.images)
    found: dict[int, list[Annotation]] = {image.id: [] for image in truth.images}
    known = {category.id for category in truth.categories}
    for record in stream_list(path, "results"):
        image = _image_of_result(record, images, named)
        category_id = record.whole("category_id")
        if image is None or category_id not in known:
            record.refuse("image_id or category_id is not in the ground truth")
        mask = read_mask(record, image, tally)
        box = read_box(record, mask, tally)
        if box is not None:
            annotation = Annotation(category_id, box, record.number("score"), mask)
            found[image.id].append(annotation)
    unverified = [dataclasses.replace(each, absent=(), unverified=()) for each in truth.images]
    return LabelledSet(truth.categories, _with_annotations(unverified, found), tally)


def _by_own_name(images: Iterable[LabelledImage]) -> dict[str, LabelledImage]:
    """Images by name, by its last part, and by that without a suffix, where it is unique."""
    found: dict[str, list[LabelledImage]] = {}
    for image in images:
        last = PurePosixPath(image.file_name).name
        for name in {image.file_name, last, PurePosixPath(last).stem}:
            found.setdefault(name, []).append(image)
    return {name: each[0] for name, each in found.items() if len(each) == 1}


def _image_of_result(
    record: Record, images: Mapping[int, LabelledImage], named: Mapping[str, LabelledImage]
) -> LabelledImage | None:
    """The image of a result: of its name, where it has one, else of its id.

    ultralytics gives the name, and as id the part of it before the suffix.
    """
    for key in ("file_name", "image_id"):
        name = record.values.get(key)
        if isinstance(name, str):
            name = name.replace("\\", "/")
            return named.get(name) or named.get(PurePosixPath(name).name)
    return images.get(record.whole("image_id"))


@uncollected()
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
    info: dict[str, Any] = {}

    def on_other(key: str, value: object) -> None:
        if key == "info" and isinstance(value, dict):
            info.update(Record(path, "info", 0, {"info": value}).extra(frozenset())["info"])
        elif value:
            tally.leave_out(f"{key[:40]} of the file", "it is not COCO's", str(path))

    records: dict[str, list[Record]] = {group: [] for group in (*GROUPS, _LICENSES)}
    for record in stream_records(path, tuple(records), "images", on_other):
        records[record.group].append(record)
    if licenses := [record.checked() for record in records[_LICENSES]]:
        info[_LICENSES] = licenses
    return labelled_set(records, folder, federated, tally, info)


def labelled_set(
    records: Mapping[str, list[Record]],
    folder: Path | None,
    federated: bool,
    tally: Tally,
    info: Mapping[str, Any],
) -> LabelledSet:
    """A set out of its records.

    Args:
        records: lists of each of `GROUPS`, as COCO and LVIS have them.
        folder: as of `read_instances`.
        federated: as of `read_instances`.
        tally: counts what is changed and left out.
        info: that of the set.

    Raises:
        InputError: they do not hold together; the message names the record.
    """
    for group, what in (("images", "an image"), ("categories", "a category")):
        key = f"{'image' if group == 'images' else 'category'}_id"
        number_text_ids(records[group], records["annotations"], key, what, tally)
    categories = _by_id(records["categories"], _read_category)
    images = _by_id(records["images"], lambda record: read_image_record(record, folder, federated))
    found: dict[int, list[Annotation]] = {image_id: [] for image_id in images}
    ids = NewIds(records["annotations"])
    for record in records["annotations"]:
        if (image := _image_of(record, images, tally)) is None:
            continue
        annotation = read_annotation(record, image, categories, tally)
        if annotation is not None:
            id = ids.take(record, tally)
            found[image.id].append(dataclasses.replace(annotation, id=id))
    with_labels = _with_annotations(images.values(), found)
    return LabelledSet(tuple(categories.values()), with_labels, tally, info=info)


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
        extra=record.extra(_CATEGORY_KEYS) | record.attributes(_CATEGORY_KEYS),
    )


def image_name(record: Record) -> str:
    """The file name of an image of COCO or LVIS, as the file gives it.

    LVIS v1 names an image by its address alone, of which the name keeps the folder of the split.
    """
    values = record.values
    if isinstance(values.get("file_name"), str):
        return str(values["file_name"])  # `check_image_name` says what is wrong with it
    if values.get("file_name") is not None or values.get("coco_url") is None:
        return record.text("file_name")
    try:
        return file_name_of_address(record.text("coco_url"), parts=2)
    except InputError as error:
        raise InputError(f"{record.where}: coco_url: {error}") from error


def _named_image(record: Record, folder: Path | None) -> LabelledImage:
    name = image_name(record)
    check_image_name(name, folder, f"{record.where}: file_name")
    is_address = record.values.get("file_name") is None
    # The images of a single split lie in a folder of any name.
    if is_address and (folder is None or not (folder / name).is_file()):
        name = name.rpartition("/")[2]
    return LabelledImage(record.whole("id"), name, record.size("width"), record.size("height"))


def read_image_record(record: Record, folder: Path | None, federated: bool) -> LabelledImage:
    """An image of COCO or LVIS, without its annotations; arguments as of `read_instances`."""
    image = _named_image(record, folder)
    if federated:
        check_federated(record)
    return dataclasses.replace(
        image,
        absent=record.wholes("neg_category_ids"),
        unverified=record.wholes("not_exhaustive_category_ids"),
        attributes=record.attributes(IMAGE_KEYS),
        extra=record.extra(IMAGE_KEYS),
    )


def _image_of(
    record: Record, images: Mapping[int, LabelledImage], tally: Tally
) -> LabelledImage | None:
    """The image of an annotation; None where the file has none of that id."""
    given = record.values.get("image_id")
    image = None if given is None else images.get(record.whole("image_id"))
    if image is None:
        tally.leave_out("label", "its image_id is not among the images", record.where)
    return image


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
        path, categories, images, info or {}, tally, holds, lambda _: {}, category_record
    )


def category_record(category: Category, _: Tally) -> Json:
    """A category as COCO holds it."""
    record: Json = {
        "id": category.id,
        "name": category.name,
        "supercategory": category.supercategory,
    }
    # COCO knows none of these; evaluations that do can then match classes by them.
    known = {
        "synonyms": list(category.synonyms),
        "synset": category.synset,
        "def": category.definition,
        "frequency": category.frequency,
    }
    return record | {key: value for key, value in known.items() if value} | dict(category.extra)


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
        info: goes into the file's `info` as it is, but for "licenses", which stands beside it.
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
        about = {key: value for key, value in info.items() if key != _LICENSES}
        licenses = to_json({_LICENSES: info.get(_LICENSES, [])})[1:-1]
        out.write(f'{{"info":{to_json(about)},{licenses},"images":[')
        for index, image in enumerate(
            checked_images(path, categories, images, tally, holds | _HELD)
        ):
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
    attributes = free_attributes(image.attributes, IMAGE_KEYS)
    return {"id": image.id, **size, **attributes, **image.extra}


class _AnnotationWriter:
    def __init__(self, out: TextIO) -> None:
        self._out, self._ids = out, WrittenIds()

    def write(self, image: LabelledImage) -> None:
        for annotation in image.annotations:
            _separate(self._out, self._ids.taken)
            self._out.write(to_json(self._record(annotation, image)))

    def _record(self, annotation: Annotation, image: LabelledImage) -> Json:
        record: Json = {
            "id": self._ids.take(annotation),
            "image_id": image.id,
            "category_id": annotation.category_id,
            "bbox": list(bbox(annotation)),
            "area": area(annotation, image.width, image.height),
            "iscrowd": int(annotation.is_crowd),
        }
        if annotation.score is not None:
            record["score"] = annotation.score
        record["segmentation"] = _segmentation(annotation, image)
        attributes = free_attributes(annotation.attributes, ANNOTATION_KEYS)
        return record | attributes | dict(annotation.extra)


def _segmentation(annotation: Annotation, image: LabelledImage) -> Rle | Polygons:
    """The mask, or else the box's outline, as pycocotools makes it of boxes; of crowds run lengths.

    Evaluations of masks end with an error where an annotation has none.
    """
    if not annotation.is_crowd:
        outline = (box_outline(rounded(annotation.box, 4)),)
        near = clip_polygons(outline, image.width, image.height)
        return annotation.mask or near or (_NO_PIXEL,)
    # Of the box that a reader finds, so that its pixels are the same.
    mask = annotation.mask or (box_outline(xywh_to_xyxy(bbox(annotation))),)
    return as_rle(mask, image.width, image.height)


def bbox(annotation: Annotation) -> Box:
    """COCO's left, top, width, height of an annotation, in pixels."""
    # Four decimals drop what the subtraction adds to a file's own decimals.
    return rounded(xyxy_to_xywh(annotation.box), 4)
