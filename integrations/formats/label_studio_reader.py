"""Reads tasks that Label Studio exported as JSON, or that were written for it.

Of a task the annotation that is marked as ground truth counts, else the first one that was not
skipped; `--annotator` chooses another person's. Predictions count only where nobody annotated the
task, the first of them; drafts never do. A task that a person skipped or left empty has no labels,
and its image has the attribute `reviewed`.

Rectangles, ellipses, polygons and brush strokes become labels, the class beside or inside of them.
A rotated rectangle and an ellipse are their enclosing box, with the outline as a polygon. A stroke
or polygon whose parent is a rectangle is that rectangle's mask. Choices, texts, numbers and ratings
of a region become its attributes, named as their control. Of several classes of a region the first
one counts. All else (key points, relations, videos, choices of the whole image ...) is left out
and counted, and so is what was drawn on an image that was rotated there (`image_rotation`).
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from integrations.annotations import (
    Annotation,
    Attribute,
    LabelledImage,
    LabelledSet,
    Polygons,
    ReadOptions,
    Tally,
    vocabulary_categories,
)
from integrations.formats.coco_annotations import mask_box
from integrations.formats.json_stream import stream_list
from integrations.formats.outlines import Outline, ellipse, enclosing_box, rotated_box
from integrations.formats.record import Record
from integrations.formats.rle import unpack_brush
from integrations.formats.xml import read_xml
from integrations.image_kinds import HEIF_SUFFIXES, SUFFIXES
from integrations.images import UnreadableImage, file_name_of_address, image_size
from regionspot.boxes import Box, relative_xywh_to_xyxy, rounded
from regionspot.errors import InputError
from regionspot.files import check_image_name, path_inside
from regionspot.types import Rle, encode_mask

TASKS, CONFIG, IMAGES = "tasks.json", "label_config.xml", "images"
# Of our own files, that the predictions of a task are no draft of its annotation.
WITH_PREDICTIONS = "with_predictions"
REVIEWED = "reviewed"
_LARGEST = 1e6  # pixels; no image is larger, and masks of such polygons would fill the memory
_NO_SIZE = "the size of the image is not known; give the images' folder"
_SHAPES = ("rectangle", "ellipse", "polygon", "brush")
_OF_REGION = {"choices": "choices", "textarea": "text", "number": "number", "rating": "rating"}


@dataclasses.dataclass(frozen=True)
class _Region:
    """A result that has a shape.

    Attributes:
        record: the result.
        shape: one of `_SHAPES`.
        classes: of the region, from this result or from one of type "labels".
        attributes: of the region, from results of other types.
    """

    record: Record
    shape: str
    classes: list[str]
    attributes: dict[str, Attribute]

    @property
    def type(self) -> str:
        return str(self.record.values["type"])


def read_label_studio(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read a JSON export, or the `tasks.json` of a folder; see `registry.Reader`.

    Categories get ids from 1 in order of `label_config.xml` beside the file, then as they appear.
    That file also says which value of a task's data is the image's address; without it, it is
    "image" or else the only address of an image.
    """
    file = path / TASKS if path.is_dir() else path
    if file.suffix.lower() in (".csv", ".tsv"):
        raise InputError(f'{file} is a table; export the project from Label Studio as "JSON"')
    reader = _Reader(file, folder, options)
    images = [image for task in stream_list(file, "tasks") if (image := reader.read(task))]
    return LabelledSet(
        vocabulary_categories(tuple(reader.category_ids)),
        tuple(_with_ids(images)),
        reader.tally,
    )


def _with_ids(images: Sequence[LabelledImage]) -> Iterator[LabelledImage]:
    """The images with ids of labels only where all labels of the set have one of their own."""
    ids = Counter(each.id for image in images for each in image.annotations)
    unique = None not in ids and all(count == 1 for count in ids.values())
    for image in images:
        labels = image.annotations
        if not unique:
            labels = tuple(dataclasses.replace(each, id=None) for each in labels)
        yield dataclasses.replace(image, annotations=labels)


class _Reader:
    """Reads one task after the other."""

    def __init__(self, file: Path, folder: Path | None, options: ReadOptions) -> None:
        self.tally = Tally(strict=options.strict)
        self.category_ids: dict[str, int] = {}
        self._folder, self._annotator = folder, options.annotator
        self._ids: set[int] = set()
        self._addresses: dict[str, str] = {}
        config = file.parent / CONFIG
        root = read_xml(config) if config.exists() else Element("View")
        for label in root.iter("Label"):
            if name := label.get("value"):
                self.category_ids.setdefault(name, len(self.category_ids) + 1)
        self._controls = {each.get("name"): each.get("value", "") for each in root.iter("Image")}

    def read(self, task: Record) -> LabelledImage | None:
        """The image of a task; None where the chosen annotator did not annotate it."""
        if not isinstance(task.values.get("data"), dict):
            raise InputError(
                f'{task.where} must be an object with "data"; export the project from Label '
                'Studio as "JSON", not as JSON-MIN'
            )
        data = task.part(task.values["data"])
        key = self._image_key(data)
        name = self._file_name(data, key)
        found = self._results(task)
        if found is None:
            return None
        results, is_reviewed, score = found
        width, height = self._size(data, results, name)
        attributes = data.values.get("attributes")
        kept = _single_values(attributes if isinstance(attributes, dict) else {})
        if is_reviewed and not results:
            kept[REVIEWED] = True
        image = LabelledImage(
            self._new_id(task),
            name,
            width,
            height,
            absent=data.wholes("absent"),
            unverified=data.wholes("unverified"),
            attributes=kept,
        )
        regions = self._regions([each for each in results if self._is_of_image(each, key)])
        labels = list(self._labels(regions, image, score))
        if is_reviewed and not kept.get(REVIEWED):
            labels = [each if each.score is None else _reviewed(each) for each in labels]
        return dataclasses.replace(image, annotations=tuple(labels))

    def _image_key(self, data: Record) -> str:
        """Which of a task's data is the address of its image."""
        named = [value[1:] for value in self._controls.values() if value.startswith("$")]
        if key := next((key for key in named if key in data.values), None):
            return key
        if "image" in data.values:
            return "image"
        found = [key for key, value in data.values.items() if _is_address(value)]
        if len(found) != 1:
            data.refuse(
                f"expected one address of an image in its data, got {', '.join(found) or 'none'}; "
                f'put the {CONFIG} beside the file, with <Image value="$KEY">'
            )
        return found[0]

    def _file_name(self, data: Record, key: str) -> str:
        """The image's name; with more of its address where another image has the name."""
        if isinstance(data.values.get(key), list):
            data.refuse(f'"{key}" has several images; tasks of one image each can be read')
        address = data.text(key)
        try:
            name = file_name_of_address(address)
        except InputError as error:
            data.refuse(str(error))
        parts = 1
        while self._addresses.setdefault(name, address) != address:
            parts += 1
            longer = file_name_of_address(address, parts)
            if longer == name and parts > 2:
                break
            name = longer
        name = name.removeprefix(f"{IMAGES}/") if "/data/local-files" in address else name
        check_image_name(name, self._folder, f"{data.where}: {key}")
        return name

    def _new_id(self, task: Record) -> int:
        value = task.values.get("id")
        if value is None:
            value = task.index + 1
        elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            self.tally.change("id of a task", "no whole number from 0", task.where)
            value = task.index + 1
        if value in self._ids:
            self.tally.change("id of a task", "another task has it", task.where)
            value = max(self._ids) + 1
        self._ids.add(value)
        return int(value)

    def _results(self, task: Record) -> tuple[list[Record], bool, float | None] | None:
        """Results of the annotation or prediction that counts; whether a person made them; score.

        None: the chosen annotator did not annotate the task.
        """
        annotations = self._objects(task, "annotations") or self._objects(task, "completions")
        predictions = self._objects(task, "predictions")
        drafts = self._objects(task, "drafts")
        self.tally.leave_out("draft", "unfinished work is not read", task.where, len(drafts))
        if self._annotator is not None:
            chosen = [each for each in annotations if self._is_of_annotator(each)]
            others = len(annotations) - len(chosen)
            self.tally.leave_out("annotation", "of another annotator", task.where, others)
            if not chosen:
                self.tally.leave_out("task", "not annotated by the annotator", task.where)
                return None
            annotations = chosen
        done = [each for each in annotations if not _is_skipped(each)]
        for each in annotations:
            if _is_skipped(each):
                lost = len(_result_list(each))
                self.tally.leave_out("region", "its annotation was skipped", task.where, lost)
        done.sort(key=lambda each: not each.values.get("ground_truth"))
        reason = "another one of the task is read; --annotator chooses"
        self.tally.leave_out("annotation", reason, task.where, len(done) - 1)
        if not annotations:
            reason = "another one of the task is read"
            self.tally.leave_out("prediction", reason, task.where, len(predictions) - 1)
            score = predictions[0].values.get("score") if predictions else None
            is_number = isinstance(score, int | float) and not isinstance(score, bool)
            results = _result_list(predictions[0]) if predictions else []
            return results, False, predictions[0].number("score") if is_number else None
        results = _result_list(done[0]) if done else []
        if done and done[0].values.get(WITH_PREDICTIONS) is True and predictions:
            return results + _result_list(predictions[0]), False, None
        self.tally.leave_out(
            "prediction", "people annotated the task", task.where, len(predictions)
        )
        return results, True, None

    def _objects(self, task: Record, key: str) -> list[Record]:
        values = task.values.get(key) or []
        if not isinstance(values, list):
            task.refuse(f'"{key}" must be a list, got {values!r:.40}')
        found = [task.part(each) for each in values if isinstance(each, dict)]
        reason = "the file has its id alone"
        self.tally.leave_out(key.removesuffix("s"), reason, task.where, len(values) - len(found))
        return found

    def _is_of_annotator(self, annotation: Record) -> bool:
        person = annotation.values.get("completed_by")
        known = [person.get("id"), person.get("email")] if isinstance(person, dict) else [person]
        return self._annotator in {str(each) for each in known if each is not None}

    def _size(self, data: Record, results: Sequence[Record], name: str) -> tuple[int, int]:
        """Width and height as the first result says that has them, else the data, else the file."""
        for each in results:
            size = each.size("original_width"), each.size("original_height")
            if all(size):
                return size
        size = data.size("width"), data.size("height")
        if not all(size) and self._folder is not None:
            try:
                size = image_size(path_inside(self._folder, name))
            except UnreadableImage:
                return 0, 0
            self.tally.change("size of an image", "missing; that of the image file", data.where)
        return size

    def _is_of_image(self, result: Record, key: str) -> bool:
        value = self._controls.get(str(result.values.get("to_name")), "")
        if value in ("", f"${key}"):
            return True
        self._leave_out(result, "it is of another part of the task than its image")
        return False

    def _regions(self, results: Sequence[Record]) -> list[_Region]:
        """Results that have a shape, with what other results say of them."""
        regions: list[_Region] = []
        of_id: dict[str, list[_Region]] = {}
        others = []
        for each in results:
            type = each.values.get("type")
            shape = type.removesuffix("labels") if isinstance(type, str) else ""
            if shape not in _SHAPES:
                others.append(each)
                continue
            value = _value(each)
            region = _Region(each, shape, [], {})
            for key in (f"{shape}labels", "labels"):
                region.classes.extend(value.texts(key) if not region.classes else ())
            regions.append(region)
            of_id.setdefault(str(each.values.get("id")), []).append(region)
        for each in others:
            self._add(each, of_id.get(str(each.values.get("id")), []))
        return regions

    def _add(self, result: Record, regions: Sequence[_Region]) -> None:
        """Add a result without a shape to the first region of its id that it belongs to."""
        type = result.values.get("type")
        if not isinstance(type, str) or (result.values.get("id") is None and type != "labels"):
            regions = ()
        if type == "labels" and regions:
            region = next((each for each in regions if not each.classes), regions[0])
            region.classes.extend(_value(result).texts("labels"))
        elif isinstance(type, str) and type in _OF_REGION and regions:
            found = _value(result).values.get(_OF_REGION[type])
            values = found if isinstance(found, list) else [found]
            name = result.text("from_name", type)
            single = values[0] if len(values) == 1 else "; ".join(map(str, values))
            if name in regions[0].attributes:
                self._leave_out(result, "another one of its control is read")
            regions[0].attributes.setdefault(
                name, single if isinstance(single, str | int | float) else str(single)
            )
        else:
            self._leave_out(result, "neither a box nor a mask")

    def _labels(
        self, regions: Sequence[_Region], image: LabelledImage, score: float | None
    ) -> Iterator[Annotation]:
        rectangles: dict[str, _Region] = {}
        for each in regions:
            if each.shape == "rectangle" and each.classes:
                rectangles.setdefault(str(each.record.values.get("id")), each)
        masks: dict[int, _Region] = {}
        alone = []
        for each in regions:
            parent_id = each.record.values.get("parentID")
            parent = rectangles.get(str(parent_id)) if parent_id else None
            if (
                parent is None
                or each.shape == "rectangle"
                or id(parent) in masks
                or (each.classes and each.classes[0] != parent.classes[0])
            ):
                alone.append(each)
            else:
                masks[id(parent)] = each
        boxes = [each for each in alone if each.shape == "rectangle"]
        for region in (*boxes, *(each for each in alone if each.shape != "rectangle")):
            label = self._label(region, masks.get(id(region)), image, score)
            if label is not None:
                yield label

    def _label(
        self, region: _Region, mask: _Region | None, image: LabelledImage, score: float | None
    ) -> Annotation | None:
        parts = [each for each in (region, mask) if each is not None]
        reason = "it has no class" if not region.classes else ""
        if not (image.width and image.height):
            reason = reason or _NO_SIZE
        if any(each.record.values.get("image_rotation") for each in parts):
            reason = reason or "the image was rotated in Label Studio"
        found = None if reason else self._shape(region, image)
        if found is not None and not all(abs(side) <= _LARGEST for side in found[0]):
            region.record.refuse(f"a region must lie in an image, got {found[0]}")
        if found is None:
            for each in parts:
                self._leave_out(each.record, reason or "fewer than three corners")
            return None
        box, shape = found
        if mask is not None and (own := self._shape(mask, image)) is not None:
            shape = own[1]
        elif mask is not None:
            self._leave_out(mask.record, "fewer than three corners")
        self.tally.leave_out(
            "class of a region",
            "the first one is read",
            region.record.where,
            len(region.classes) - 1,
        )
        record = region.record
        meta = record.values.get("meta")
        attributes = _single_values(meta if isinstance(meta, dict) else {})
        key = str(record.values.get("id"))
        is_number = key.isdecimal() and key.isascii() and len(key) < 19
        return Annotation(
            category_id=self.category_ids.setdefault(region.classes[0], len(self.category_ids) + 1),
            box=box,
            score=score if record.values.get("score") is None else record.number("score"),
            mask=shape,
            is_crowd=attributes.pop("iscrowd", False) is True,
            id=int(key) if is_number else None,
            attributes={**attributes, **region.attributes},
        )

    def _shape(
        self, region: _Region, image: LabelledImage
    ) -> tuple[Box, Rle | Polygons | None] | None:
        """Box and mask of a region in pixels; None where a polygon is none."""
        value = _value(region.record)
        if region.shape == "rectangle":
            box, outline = self._rectangle(value, image)
            return box, (outline,) if outline else None
        if region.shape == "ellipse":
            self.tally.change(
                "ellipse", "read as its enclosing box, its outline as a polygon", value.where
            )
            centre, radii = (
                (value.number(x) / 100 * image.width, value.number(y) / 100 * image.height)
                for x, y in (("x", "y"), ("radiusX", "radiusY"))
            )
            if min(radii) < 0:
                value.refuse("an ellipse has a negative radius")
            box, outline = ellipse(centre, radii, _rotation(value))
            return rounded(box, 6), (outline,)
        if region.shape == "brush":
            mask = _brush(value, image)
            return mask_box(mask) or (0.0, 0.0, 0.0, 0.0), mask
        points = _points(value, image)
        return (enclosing_box([points]), (points,)) if len(points) >= 6 else None

    def _rectangle(self, value: Record, image: LabelledImage) -> tuple[Box, Outline | None]:
        """The box, and the outline of a rotated one."""
        x, y, width, height = (value.number(key) / 100 for key in ("x", "y", "width", "height"))
        if width < 0 or height < 0:
            value.refuse("a rectangle has a negative width or height")
        box = relative_xywh_to_xyxy((x, y, width, height), image.width, image.height)
        rotation = _rotation(value)
        if rotation % 360 == 0:
            return rounded(box, 6), None  # drops what dividing and multiplying adds
        self.tally.change(
            "rotated rectangle", "read as its enclosing box, its outline as a polygon", value.where
        )
        # Label Studio rotates a rectangle about the corner that x and y name.
        outline = rotated_box(box, rotation, (box[0], box[1]))
        return enclosing_box([outline]), outline

    def _leave_out(self, result: Record, reason: str) -> None:
        type = result.values.get("type")
        kind = type if isinstance(type, str) and type else "result without a type"
        self.tally.leave_out(kind, reason, result.where)


def _reviewed(label: Annotation) -> Annotation:
    """A model's label that stands in a person's annotation."""
    return dataclasses.replace(label, attributes={**label.attributes, REVIEWED: True})


def _is_address(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        name = file_name_of_address(value)
    except InputError:
        return False
    return Path(name).suffix.lower() in SUFFIXES | HEIF_SUFFIXES


def _is_skipped(annotation: Record) -> bool:
    return bool(annotation.values.get("was_cancelled") or annotation.values.get("skipped"))


def _result_list(annotation: Record) -> list[Record]:
    found = annotation.values.get("result")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        annotation.refuse('an annotation or prediction must have a list of objects as "result"')
    return [annotation.part(each) for each in found]


def _value(result: Record) -> Record:
    value = result.values.get("value")
    if not isinstance(value, dict):
        result.refuse(f"a result must have an object as value, got {value!r:.40}")
    return result.part(value)


def _rotation(value: Record) -> float:
    return 0 if value.values.get("rotation") is None else value.number("rotation")


def _brush(value: Record, image: LabelledImage) -> Rle:
    packed = value.values.get("rle")
    if not isinstance(packed, list):  # `bytes` takes a number for a length
        value.refuse(f"a brush stroke must have a list of bytes as rle, got {packed!r:.40}")
    try:
        return encode_mask(unpack_brush(packed, image.height, image.width))
    except (TypeError, ValueError) as error:
        value.refuse(f"a brush stroke cannot be read: {error}")


def _points(value: Record, image: LabelledImage) -> Outline:
    sides = (image.width / 100, image.height / 100)
    try:
        points = tuple(
            float(percent) * side
            for point in value.values["points"]
            for percent, side in zip(point, sides, strict=True)
        )
    except (KeyError, TypeError, ValueError) as error:
        value.refuse(f"a polygon cannot be read: {error}")
    if not all(abs(each) <= _LARGEST for each in points):
        value.refuse("a polygon must have points of an image")
    return points


def _single_values(values: Mapping[str, object]) -> dict[str, Attribute]:
    """Lists, such as Label Studio's `meta.text`, as one text."""
    return {
        key: value
        if value is None or isinstance(value, str | int | float)
        else "; ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
        for key, value in values.items()
    }
