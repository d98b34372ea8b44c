"""CVAT for images 1.1 (docs.cvat.ai, "CVAT for image").

One `annotations.xml`. CVAT has either a box or a mask, so that a label with both becomes two
shapes of one group, which CVAT keeps together. Attributes are text in CVAT; what is written as a
number or as true or false is read as such. There are no ids of labels.
"""

import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element

from integrations.annotations import (
    Annotation,
    Attribute,
    Category,
    LabelledImage,
    LabelledSet,
    Polygons,
    ReadOptions,
    Tally,
    as_rle,
    vocabulary_categories,
)
from integrations.formats.rle import from_row_runs, to_row_runs
from integrations.formats.validation import (
    Part,
    check_new_id,
    checked_images,
    free_attributes,
    names_by_id,
    naming_image,
)
from integrations.formats.xml import attribute_text, leaf, parse_attribute, read_xml, start
from regionspot.boxes import Box
from regionspot.errors import InputError
from regionspot.files import atomic_write, check_image_name
from regionspot.types import Rle, decode_mask, encode_mask

FILE, IMAGES = "annotations.xml", "images"
_SCORE, _IS_CROWD = "score", "iscrowd"
_SHAPES = ("box", "polygon", "mask")
_HOLDS: frozenset[Part] = frozenset({"mask", "score", "crowd", "attributes"})


def write_cvat(
    folder: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write `annotations.xml`; the images belong into `images/`. See `registry.Writer`.

    `info`'s `description` names CVAT's task.
    """
    tally = Tally() if tally is None else tally
    names = names_by_id(folder, categories)
    used: set[str] = set()
    folder.mkdir(parents=True, exist_ok=True)
    # The list of attributes stands before the images and is known after them, so these wait.
    with (
        atomic_write(folder / FILE) as out,
        tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder) as waiting,
    ):
        for image in checked_images(folder, categories, images, tally, _HOLDS):
            with naming_image(folder, image):
                waiting.writelines(f"{line}\n" for line in _image_lines(image, names, used))
        out.write('<?xml version="1.0" encoding="utf-8"?>\n')
        title = str((info or {}).get("description", ""))
        out.writelines(f"{line}\n" for line in _header_lines(names, sorted(used), title, tally))
        waiting.seek(0)
        shutil.copyfileobj(waiting, out)
        out.write("</annotations>\n")
    return tally


def _header_lines(
    names: Mapping[int, str], attributes: Sequence[str], title: str, tally: Tally
) -> Iterator[str]:
    yield from ("<annotations>", leaf("version", "1.1"), "<meta>", "<task>")
    yield leaf("name", title)
    yield leaf("size", tally.images)
    yield "<labels>"
    for name in names.values():
        yield from ("<label>", leaf("name", name), "<attributes>")
        for attribute in attributes:
            yield (
                "<attribute>"
                + leaf("name", attribute)
                + leaf("mutable", "False")
                + leaf("input_type", "text")
                + "<default_value></default_value><values></values></attribute>"
            )
        yield from ("</attributes>", "</label>")
    yield from ("</labels>", "</task>", "</meta>")


def _image_lines(image: LabelledImage, names: Mapping[int, str], used: set[str]) -> Iterator[str]:
    yield start("image", id=image.id, name=image.file_name, width=image.width, height=image.height)
    groups = 0
    for annotation in image.annotations:
        attributes = _attributes(annotation)
        used.update(attributes)
        common: dict[str, str | int] = {
            "label": names[annotation.category_id],
            "source": "manual" if annotation.score is None else "auto",
            "occluded": 0,
        }
        if annotation.mask is not None:
            groups += 1
            common["group_id"] = groups
        yield from _shapes(annotation, image, common, attributes)
    yield "</image>"


def _attributes(annotation: Annotation) -> dict[str, Attribute]:
    attributes = free_attributes(annotation.attributes, {_SCORE, _IS_CROWD})
    if annotation.score is not None:
        attributes[_SCORE] = annotation.score
    if annotation.is_crowd:
        attributes[_IS_CROWD] = True
    return attributes


def _shapes(
    annotation: Annotation,
    image: LabelledImage,
    common: Mapping[str, str | int],
    attributes: Mapping[str, Attribute],
) -> Iterator[str]:
    x1, y1, x2, y2 = (round(side, 4) for side in annotation.box)
    yield start("box", **common, xtl=x1, ytl=y1, xbr=x2, ybr=y2, z_order=0)
    for name, value in attributes.items():
        yield leaf("attribute", attribute_text(value), name=name)
    yield "</box>"
    if isinstance(annotation.mask, dict):
        mask = as_rle(annotation.mask, image.width, image.height)
        runs, left, top, width, height = to_row_runs(decode_mask(mask))
        rle = ", ".join(map(str, runs))
        place = {"left": left, "top": top, "width": width, "height": height}
        yield start("mask", **common, rle=rle, **place, z_order=0) + "</mask>"
        return
    for polygon in annotation.mask or ():
        pairs = zip(polygon[::2], polygon[1::2], strict=True)
        points = ";".join(f"{x:.10g},{y:.10g}" for x, y in pairs)
        yield start("polygon", **common, points=points, z_order=0) + "</polygon>"


def read_cvat(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read an `annotations.xml`, or the one in a folder; see `registry.Reader`.

    Boxes, polygons and masks are read. Those of one group are one label: its box is the box, else
    the rectangle around its polygons or mask. Categories get ids from 1 in order of CVAT's labels.
    """
    tally = Tally(strict=options.strict)
    file = path / FILE if path.is_dir() else path
    root = read_xml(file)
    if root.tag != "annotations":
        raise InputError(f"{file} is no CVAT for images: expected <annotations>")
    category_ids = {name: number for number, name in enumerate(_label_names(root), start=1)}
    images = []
    seen: set[int] = set()
    for element in root.findall("image"):
        images.append(_Image(file, element, category_ids).read(folder))
        check_new_id(images[-1].id, seen, f"{file}: image {images[-1].file_name!r}")
    return LabelledSet(vocabulary_categories(tuple(category_ids)), tuple(images), tally)


def _label_names(root: Element) -> Iterable[str]:
    meta = root.find("meta")
    labels = () if meta is None else meta.iter("label")
    return dict.fromkeys(each.findtext("name") or "" for each in labels)


class _Image:
    """One `<image>`, with messages that name it."""

    def __init__(self, file: Path, element: Element, category_ids: dict[str, int]) -> None:
        self._element = element
        self._category_ids = category_ids
        self._name = element.get("name", "")
        self._where = f"{file}: image {self._name!r}"

    def read(self, folder: Path | None) -> LabelledImage:
        check_image_name(self._name, folder, f"{self._where}: name")
        self._width, self._height = (
            int(self._number(self._element, side)) for side in ("width", "height")
        )
        groups: dict[str, list[Element]] = {}
        for index, shape in enumerate(each for each in self._element if each.tag in _SHAPES):
            group = shape.get("group_id", "0")
            groups.setdefault(f"alone {index}" if group == "0" else group, []).append(shape)
        return LabelledImage(
            int(self._number(self._element, "id")),
            self._name,
            self._width,
            self._height,
            tuple(each for group in groups.values() for each in self._annotations(group)),
        )

    def _annotations(self, group: list[Element]) -> list[Annotation]:
        """A group of at most one box and one mask of a class is one label; else each is its own."""
        tags = [shape.tag for shape in group]
        names = {shape.get("label") for shape in group}
        if len(names) > 1 or tags.count("box") > 1 or tags.count("mask") > 1:
            return [self._annotation([shape]) for shape in group]
        return [self._annotation(group)]

    def _annotation(self, shapes: list[Element]) -> Annotation:
        name = shapes[0].get("label", "")
        polygons: Polygons = tuple(self._points(each) for each in shapes if each.tag == "polygon")
        masks = [self._mask(each) for each in shapes if each.tag == "mask"]
        boxes = [self._box(each) for each in shapes if each.tag == "box"]
        if not boxes:
            x = [value for polygon in polygons for value in polygon[::2]]
            y = [value for polygon in polygons for value in polygon[1::2]]
            for each in (shape for shape in shapes if shape.tag == "mask"):
                left, top, width, height = self._place(each)
                x += [left, left + width]
                y += [top, top + height]
            boxes = [(min(x), min(y), max(x), max(y))]
        attributes = _read_attributes(shapes)
        score = attributes.pop(_SCORE, None)
        return Annotation(
            category_id=self._category_ids.setdefault(name, len(self._category_ids) + 1),
            box=boxes[0],
            score=float(score) if isinstance(score, int | float) else None,
            mask=masks[0] if masks else polygons or None,
            is_crowd=attributes.pop(_IS_CROWD, False) is True,
            attributes=attributes,
        )

    def _box(self, shape: Element) -> Box:
        x1, y1, x2, y2 = (self._number(shape, side) for side in ("xtl", "ytl", "xbr", "ybr"))
        if x2 < x1 or y2 < y1:
            self._refuse(f"a box is reversed: {x1, y1, x2, y2}")
        return x1, y1, x2, y2

    def _points(self, shape: Element) -> tuple[float, ...]:
        text = shape.get("points", "")
        try:
            points = tuple(float(each) for pair in text.split(";") for each in pair.split(","))
        except ValueError:
            self._refuse(f"a polygon must be x,y;x,y;..., got {text!r:.60}")
        if len(points) < 6 or len(points) % 2 or not all(map(math.isfinite, points)):
            self._refuse("a polygon must have three corners or more")
        return points

    def _place(self, shape: Element) -> tuple[int, int, int, int]:
        left, top, width, height = (
            int(self._number(shape, side)) for side in ("left", "top", "width", "height")
        )
        return left, top, width, height

    def _mask(self, shape: Element) -> Rle:
        try:
            runs = [int(run) for run in shape.get("rle", "").split(",")]
            return encode_mask(from_row_runs(runs, self._place(shape), (self._height, self._width)))
        except ValueError as error:
            self._refuse(str(error))

    def _number(self, element: Element, name: str) -> float:
        text = element.get(name)
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self._refuse(f"{name!r} must be a number, got {text!r:.40}")
        return value

    def _refuse(self, problem: str) -> NoReturn:
        raise InputError(f"{self._where}: {problem}")


def _read_attributes(shapes: list[Element]) -> dict[str, Attribute]:
    return {
        each.get("name", ""): parse_attribute(each.text or "")
        for shape in shapes
        for each in shape.findall("attribute")
    }
