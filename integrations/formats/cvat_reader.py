"""Reads CVAT for images; `cvat.py` says how it looks."""

import math
from collections.abc import Iterable, Mapping
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
)
from integrations.formats.cvat_runs import runs_to_mask
from integrations.formats.xml import parse_attribute, read_xml
from integrations.paths import check_relative, path_inside
from regionspot.errors import InputError
from regionspot.types import Rle, encode_mask

SCORE, IS_CROWD = "score", "iscrowd"
_SHAPES = ("box", "polygon", "mask")


def read_cvat(path: Path, folder: Path | None = None) -> LabelledSet:
    """Read an `annotations.xml`, or the one in a folder.

    Boxes, polygons and masks are read. Those of one group are one label: its box is the box, else
    the rectangle around its polygons or mask. Words get ids from 1 in order of CVAT's labels.

    Args:
        path: of the file, or its folder.
        folder: of the images, if they are going to be read.

    Raises:
        InputError: the file does not hold together, or an image's name leaves the folder.
    """
    file = path / "annotations.xml" if path.is_dir() else path
    root = read_xml(file)
    if root.tag != "annotations":
        raise InputError(f"{file} is no CVAT for images: expected <annotations>")
    words = {name: number for number, name in enumerate(_label_names(root), start=1)}
    images = []
    seen: set[int] = set()
    for element in root.findall("image"):
        image = _Image(file, element, words).read(folder)
        if image.id in seen:
            raise InputError(f"{file}: image id {image.id} is there twice; give each its own")
        seen.add(image.id)
        images.append(image)
    return LabelledSet(tuple(Category(n, word) for word, n in words.items()), tuple(images))


def _label_names(root: Element) -> Iterable[str]:
    meta = root.find("meta")
    labels = () if meta is None else meta.iter("label")
    return dict.fromkeys(each.findtext("name") or "" for each in labels)


class _Image:
    """One `<image>`, with messages that name it."""

    def __init__(self, file: Path, element: Element, words: dict[str, int]) -> None:
        self._element = element
        self._words = words
        self._name = element.get("name", "")
        self._where = f"{file}: image {self._name!r}"

    def read(self, folder: Path | None) -> LabelledImage:
        try:
            check_relative(self._name)
            if folder is not None:
                path_inside(folder, self._name)
        except InputError as error:
            self._refuse(f"name {error}")
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
        """A group of at most one box and one mask of a word is one label; else each is its own."""
        tags = [shape.tag for shape in group]
        words = {shape.get("label") for shape in group}
        if len(words) > 1 or tags.count("box") > 1 or tags.count("mask") > 1:
            return [self._annotation([shape]) for shape in group]
        return [self._annotation(group)]

    def _annotation(self, shapes: list[Element]) -> Annotation:
        word = shapes[0].get("label", "")
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
        attributes = _attributes(shapes)
        score = attributes.pop(SCORE, None)
        return Annotation(
            category_id=self._words.setdefault(word, len(self._words) + 1),
            box=boxes[0],
            score=float(score) if isinstance(score, int | float) else None,
            mask=masks[0] if masks else polygons or None,
            is_crowd=attributes.pop(IS_CROWD, False) is True,
            attributes=attributes,
        )

    def _box(self, shape: Element) -> tuple[float, float, float, float]:
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
            return encode_mask(runs_to_mask(runs, self._place(shape), (self._height, self._width)))
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


def _attributes(shapes: list[Element]) -> dict[str, Attribute]:
    found: Mapping[str, Attribute] = {
        each.get("name", ""): parse_attribute(each.text or "")
        for shape in shapes
        for each in shape.findall("attribute")
    }
    return dict(found)
