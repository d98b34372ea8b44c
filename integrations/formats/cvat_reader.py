"""Reads CVAT for images 1.1 and CVAT for video 1.1 (docs.cvat.ai, "CVAT for image", "for video").

Boxes, polygons, masks, ellipses and skeletons become labels:

- A rotated box is its enclosing box, with its outline as a polygon; an ellipse likewise.
- A skeleton is the box around its visible points, with COCO's `keypoints`; the class has their
  names and edges.
- Shapes of one group and class are one label, whose mask is the union of all of them, as in CVAT's
  COCO export. With several boxes, each shape is a label of its own. A group that is not one label
  stays as the attribute `group_id`.

`occluded`, `z_order` and a `source` other than manual become attributes. Points, polylines, cuboids
and tags have no box; they are left out and counted, as is what is not known here.

A video's tracks are labels of its frames, with `track_id` and `keyframe` (false: CVAT interpolated
it); a shape that is `outside` is none. A frame is named as CVAT's other exports name it,
`frame_000000.PNG`, or with the suffix that the file in the images' folder has; with several tasks
it lies in a folder `task_ID`. All frames of a task that says its size are images.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn
from xml.etree.ElementTree import Element, SubElement

from pycocotools import mask as coco_mask

from integrations.annotations import (
    Annotation,
    Attribute,
    Category,
    Extra,
    LabelledImage,
    LabelledSet,
    Polygons,
    ReadOptions,
    Tally,
    as_rle,
    vocabulary_categories,
)
from integrations.formats.outlines import Outline, ellipse, enclosing_box, rotated_box
from integrations.formats.rle import from_row_runs
from integrations.formats.xml import parse_attribute, read_xml
from integrations.image_kinds import HEIF_SUFFIXES, SUFFIXES
from integrations.images import UnreadableImage, image_size
from regionspot.boxes import Box
from regionspot.errors import InputError
from regionspot.files import check_image_name, path_inside
from regionspot.types import Rle, encode_mask

FILE = "annotations.xml"
SCORE, IS_CROWD = "score", "iscrowd"
_COMMON = frozenset({"label", "source", "occluded", "z_order", "group_id"})
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_PLACE = ("left", "top", "width", "height")
_GEOMETRY: Mapping[str, frozenset[str]] = {
    "box": frozenset({*_CORNERS, "rotation"}),
    "polygon": frozenset({"points"}),
    "mask": frozenset({*_PLACE, "rle"}),
    "ellipse": frozenset({"cx", "cy", "rx", "ry", "rotation"}),
    "skeleton": frozenset(),
}
_NO_BOX = frozenset({"points", "polyline", "cuboid", "tag"})
_LARGEST = 1e6  # pixels; no image is larger, and masks of such polygons would fill the memory
_MOST_FRAMES = 10**6
_LARGEST_ID = 2**63
_VIDEO_FRAME = re.compile(r"(^|/)frame_\d{6,}\.PNG$")


@dataclasses.dataclass
class _Frame:
    """An image as the file has it, before its shapes are read."""

    id: int | None
    name: str
    width: int
    height: int
    shapes: list[Element]
    attributes: dict[str, Attribute] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Part:
    """One shape: what it adds to its label."""

    shape: Element
    box: Box
    outline: Outline | None = None
    mask: Rle | None = None
    extra: Extra = dataclasses.field(default_factory=dict)

    @property
    def is_box(self) -> bool:
        return self.outline is None and self.mask is None


def read_cvat(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read an `annotations.xml`, or the one in a folder; see `registry.Reader`.

    Categories get ids from 1 in order of CVAT's labels. An image whose id another image has, or
    that has none, gets a new one. A missing size is taken from the image file. An image of a
    project is `SUBSET/NAME` where that file is there, or where another image has its name.
    """
    tally = Tally(strict=options.strict)
    file = path / FILE if path.is_dir() else path
    root = read_xml(file)
    if root.tag != "annotations":
        raise InputError(f"{file} is not of CVAT: expected <annotations>, got <{root.tag:.40}>")
    for element in root:
        if element.tag not in ("version", "meta", "image", "track") and not any(
            element.iter("image")
        ):
            tally.leave_out(f"<{element.tag}>", "not known here", str(file))
    classes = _Classes(root, file, tally)
    frames = [_image_frame(each, file) for each in root.iter("image")]
    frames += _Video(root, file, tally).frames(frames)
    _find_files(frames, file, folder)
    _renumber(frames, file, tally)
    images = tuple(_ImageReader(each, file, classes, tally, folder).read() for each in frames)
    return LabelledSet(classes.categories(), images, tally)


def _image_frame(element: Element, file: Path) -> _Frame:
    name = element.get("name", "")
    width, height = (
        _side(element.get(side), f"{file}: image {name!r}: {side!r}") for side in _PLACE[2:]
    )
    attributes = {
        key: parse_attribute(value)
        for key, value in element.items()
        if key not in ("id", "name", "width", "height")
    }
    return _Frame(_whole(element.get("id")), name, width, height, list(element), attributes)


def _whole(text: str | None) -> int | None:
    """A whole number from 0 that fits into 63 bits; None for anything else."""
    if not text or not text.isascii() or not text.isdecimal() or len(text) > len(str(_LARGEST_ID)):
        return None
    return int(text) if int(text) < _LARGEST_ID else None


def _side(text: str | None, where: str) -> int:
    """A side of an image in pixels; 0 where it is missing."""
    value = _whole((text or "0").removesuffix(".0"))
    if value is None or value > _LARGEST:
        raise InputError(f"{where} must be a whole number of pixels, got {text!r:.40}")
    return value


def _find_files(frames: Sequence[_Frame], file: Path, folder: Path | None) -> None:
    """Give frames the names that their files have."""
    stems: dict[Path, dict[str, str]] = {}
    names = Counter(frame.name for frame in frames)
    for frame in frames:
        subset = frame.attributes.get("subset")
        inner = f"{subset}/{frame.name}" if isinstance(subset, str) else frame.name
        for name in (frame.name, inner):
            check_image_name(name, folder, f"{file}: image {frame.name!r}: name")
        if inner != frame.name and (
            names[frame.name] > 1
            or (folder and not (folder / frame.name).is_file() and (folder / inner).is_file())
        ):
            frame.name = inner
        suffix = PurePosixPath(frame.name).suffix.lower()
        if folder and (suffix not in SUFFIXES | HEIF_SUFFIXES or _VIDEO_FRAME.search(frame.name)):
            frame.name = _with_suffix(frame.name, folder, stems)


def _with_suffix(name: str, folder: Path, stems: dict[Path, dict[str, str]]) -> str:
    """The name, or that of the image beside it that differs in its suffix."""
    path = folder / name
    if path.is_file():
        return name
    if path.parent not in stems:
        beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
        stems[path.parent] = {
            each.stem: each.name
            for each in beside
            if each.suffix.lower() in SUFFIXES | HEIF_SUFFIXES
        }
    found = stems[path.parent].get(path.stem if _VIDEO_FRAME.search(name) else path.name)
    return str(PurePosixPath(name).with_name(found)) if found else name


def _renumber(frames: Sequence[_Frame], file: Path, tally: Tally) -> None:
    """Give a new id to frames that have none, or that of an earlier one."""
    taken = {frame.id for frame in frames if frame.id is not None}
    following = max(taken, default=-1) + 1
    seen: set[int] = set()
    for frame in frames:
        if frame.id is None or frame.id in seen:
            reason = "missing or no whole number" if frame.id is None else "another image has it"
            tally.change("id of an image", reason, f"{file}: image {frame.name!r}")
            frame.id = following
            following += 1
        seen.add(frame.id)


class _Classes:
    """Ids of class names, and the points of skeletons."""

    def __init__(self, root: Element, file: Path, tally: Tally) -> None:
        self.ids: dict[str, int] = {}
        self.points: dict[str, dict[str, int]] = {}
        self._edges: dict[str, list[list[int]]] = {}
        labels = [each for meta in root.findall("meta") for each in meta.iter("label")]
        for label in labels:
            name, parent = label.findtext("name") or "", label.findtext("parent")
            if parent:
                self._add_point(parent, name)
            elif name:
                self.id(name)
            else:
                tally.leave_out("class", "it has no name", str(file))
        for skeleton in root.iter("skeleton"):
            for point in skeleton.findall("points"):
                self._add_point(skeleton.get("label", ""), point.get("label", ""))
        for label in labels:
            if drawing := label.findtext("svg"):
                self._edges[label.findtext("name") or ""] = self._read_edges(label, drawing)

    def id(self, name: str) -> int:
        return self.ids.setdefault(name, len(self.ids) + 1)

    def _add_point(self, skeleton: str, name: str) -> None:
        points = self.points.setdefault(skeleton, {})
        points.setdefault(name, len(points))

    def _read_edges(self, label: Element, drawing: str) -> list[list[int]]:
        points = self.points.get(label.findtext("name") or "", {})
        names = {}
        edges = []
        for tag in re.findall(r"<(?:circle|line)\b[^>]*>", drawing):
            values = dict(re.findall(r'data-([\w-]+)="([^"]*)"', tag))
            names[values.get("node-id")] = values.get("label-name")
            edges.append((values.get("node-from"), values.get("node-to")))
        ends = [[points.get(names.get(node) or "") for node in edge] for edge in edges]
        return [[a + 1, b + 1] for a, b in ends if a is not None and b is not None]

    def categories(self) -> tuple[Category, ...]:
        return tuple(
            dataclasses.replace(each, extra=self._skeleton(each.name))
            for each in vocabulary_categories(tuple(self.ids))
        )

    def _skeleton(self, name: str) -> Extra:
        if name not in self.points:
            return {}
        return {"keypoints": list(self.points[name]), "skeleton": self._edges.get(name, [])}


class _Video:
    """The tracks of a file as frames."""

    def __init__(self, root: Element, file: Path, tally: Tally) -> None:
        self._root, self._file, self._tally = root, file, tally
        metas = root.findall("meta")
        found = [each for tag in ("task", "job") for meta in metas for each in meta.iter(tag)]
        self._tasks = {each.findtext("id") or "": each for each in found}

    def frames(self, images: Sequence[_Frame]) -> list[_Frame]:
        """Frames beside the images that are there; shapes of these images are added to them."""
        found = {("", image.id): image for image in images if image.id is not None}
        several = len(self._tasks) > 1
        new: list[_Frame] = []

        def frame_of(task: str, number: int) -> _Frame:
            key = (task if several else "", number)
            if key not in found:
                width, height = self._size(task)
                name = f"frame_{number:06d}.PNG"
                frame = _Frame(
                    number, f"task_{task}/{name}" if several else name, width, height, []
                )
                if several:
                    frame.id = None
                    frame.attributes = {"task_id": parse_attribute(task)}
                found[key] = frame
                new.append(frame)
            return found[key]

        if not images:
            for task in self._tasks:
                for number in self._numbers(task):
                    frame_of(task, number)
        for track in self._root.findall("track"):
            for number, shape in self._shapes(track):
                frame_of(track.get("task_id", ""), number).shapes.append(shape)
        new.sort(key=lambda frame: frame.name)
        for number, frame in enumerate(new if several else ()):
            frame.id = number
        return new

    def _numbers(self, task: str) -> range:
        def value(name: str) -> int:
            text = self._tasks[task].findtext(name)
            return _side(text, f"{self._file}: <{name}> of a task") if text else 0

        size, first = value("size"), value("start_frame")
        step = re.search(r"step=(\d{1,6})", self._tasks[task].findtext("frame_filter") or "")
        if size > _MOST_FRAMES:
            raise InputError(f"{self._file}: expected at most {_MOST_FRAMES} frames, got {size}")
        return range(first, first + size * (stride := int(step[1]) or 1 if step else 1), stride)

    def _size(self, task: str) -> tuple[int, int]:
        known = self._tasks.get(task, next(iter(self._tasks.values()), Element("task")))
        width, height = (
            _side(known.findtext(f"original_size/{side}"), f"{self._file}: <original_size>: {side}")
            for side in ("width", "height")
        )
        return width, height

    def _shapes(self, track: Element) -> Iterator[tuple[int, Element]]:
        """Frame and shape of all that is visible, with what its track says of it."""
        where = f"{self._file}: track {track.get('id', '')!r}"
        for shape in track:
            if shape.tag == "attribute":
                continue
            number = _whole(shape.attrib.pop("frame", None))
            if number is None:
                raise InputError(f"{where}: <{shape.tag}> must have a frame, a whole number from 0")
            if shape.attrib.pop("outside", "0") == "1":
                continue
            for key in ("label", "source", "group_id"):
                if value := track.get(key):
                    shape.attrib.setdefault(key, value)
            shape.extend(track.findall("attribute"))
            SubElement(shape, "attribute", name="track_id").text = track.get("id", "")
            if keyframe := shape.attrib.pop("keyframe", None):
                SubElement(shape, "attribute", name="keyframe").text = str(keyframe == "1").lower()
            yield number, shape


class _ImageReader:
    """Reads the shapes of one image, with messages that name it."""

    def __init__(
        self, frame: _Frame, file: Path, classes: _Classes, tally: Tally, folder: Path | None
    ) -> None:
        self._frame, self._classes, self._tally = frame, classes, tally
        self._where = f"{file}: image {frame.name!r}"
        if folder and not (frame.width and frame.height):
            try:
                frame.width, frame.height = image_size(path_inside(folder, frame.name))
            except UnreadableImage:
                return
            tally.change("size of an image", "missing; that of the image file", self._where)

    def read(self) -> LabelledImage:
        frame = self._frame
        groups: dict[str, dict[str, list[_Part]]] = {}
        for index, shape in enumerate(frame.shapes):
            if (part := self._part(shape)) is not None:
                group = shape.get("group_id") or "0"
                key = f"alone {index}" if group == "0" else group
                groups.setdefault(key, {}).setdefault(shape.get("label", ""), []).append(part)
        labels = [each for group in groups.values() for each in self._labels(group)]
        assert frame.id is not None, "all frames were numbered"
        return LabelledImage(
            frame.id,
            frame.name,
            frame.width,
            frame.height,
            tuple(labels),
            attributes=frame.attributes,
        )

    def _labels(self, group: Mapping[str, list[_Part]]) -> Iterator[Annotation]:
        for parts in group.values():
            if sum(part.is_box for part in parts) > 1:
                yield from (self._label([part], keep_group=True) for part in parts)
            else:
                yield self._label(parts, keep_group=len(group) > 1 or len(parts) == 1)

    def _label(self, parts: Sequence[_Part], keep_group: bool) -> Annotation:
        boxes = [part.box for part in parts if part.is_box]
        attributes = self._attributes([part.shape for part in parts])
        score, is_crowd = attributes.pop(SCORE, None), attributes.pop(IS_CROWD, False)
        if isinstance(score, bool) or not isinstance(score, int | float | None):
            self._leave_out("attribute 'score'", "not a number")
            score = None
        if not isinstance(is_crowd, bool):
            self._leave_out("attribute 'iscrowd'", "neither true nor false")
        first = parts[0].shape
        if first.get("occluded") == "1":
            attributes.setdefault("occluded", True)
        if (order := parse_attribute(first.get("z_order", ""))) not in (None, 0):
            attributes.setdefault("z_order", order)
        if first.get("source", "manual") != ("manual" if score is None else "auto"):
            attributes.setdefault("source", first.get("source"))
        if keep_group and first.get("group_id", "0") not in ("", "0"):
            attributes.setdefault("group_id", parse_attribute(first.get("group_id", "")))
        return Annotation(
            category_id=self._classes.id(first.get("label", "")),
            box=boxes[0] if boxes else enclosing_box(part.box for part in parts),
            score=score if score is None else float(score),
            mask=self._union(parts),
            is_crowd=is_crowd is True,
            attributes=attributes,
            extra={key: value for part in parts for key, value in part.extra.items()},
        )

    def _union(self, parts: Sequence[_Part]) -> Rle | Polygons | None:
        polygons = tuple(part.outline for part in parts if part.outline is not None)
        masks = [part.mask for part in parts if part.mask is not None]
        if not masks:
            return polygons or None
        if polygons:
            masks.append(as_rle(polygons, self._frame.width, self._frame.height))
        if len(masks) == 1:
            return masks[0]
        merged = coco_mask.merge(
            [{"size": each["size"], "counts": each["counts"].encode()} for each in masks]
        )
        return Rle(size=masks[0]["size"], counts=merged["counts"].decode("ascii"))

    def _attributes(self, shapes: Sequence[Element]) -> dict[str, Attribute]:
        found: dict[str, Attribute] = {}
        for each in (each for shape in shapes for each in shape.findall("attribute")):
            name, value = each.get("name", ""), parse_attribute(each.text or "")
            if found.setdefault(name, value) != value:
                self._leave_out(f"attribute {name!r}", "another shape of the label has it too")
        return found

    def _part(self, shape: Element) -> _Part | None:
        """What a shape adds to its label; None where it is left out."""
        tag = str(shape.tag)
        if tag not in _GEOMETRY:
            no_box = "it is a class of the whole image" if tag == "tag" else "it has no box"
            self._leave_out(tag, no_box if tag in _NO_BOX else "not known here")
            return None
        if not shape.get("label"):
            self._leave_out(tag, "it has no class")
            return None
        for name in sorted(set(shape.keys()) - _COMMON - _GEOMETRY[tag]):
            self._leave_out(f"attribute {name!r} of a {tag}", "not known here")
        for child in shape:
            if child.tag != "attribute" and (tag, child.tag) != ("skeleton", "points"):
                self._leave_out(f"<{child.tag}> in a {tag}", "not known here")
        readers = {
            "box": self._box,
            "polygon": self._polygon,
            "mask": self._mask,
            "ellipse": self._ellipse,
            "skeleton": self._skeleton,
        }
        return readers[tag](shape)

    def _box(self, shape: Element) -> _Part:
        x1, y1, x2, y2 = box = tuple(self._number(shape, side) for side in _CORNERS)
        if x2 < x1 or y2 < y1:
            self._refuse(f"a box is reversed: {box}; expected xtl <= xbr and ytl <= ybr")
        rotation = self._number(shape, "rotation", "0")
        if rotation % 360 == 0:
            return _Part(shape, (x1, y1, x2, y2))
        self._change("rotated box", "read as its enclosing box, its outline as a polygon")
        outline = rotated_box((x1, y1, x2, y2), rotation)
        return _Part(shape, enclosing_box([outline]), outline)

    def _ellipse(self, shape: Element) -> _Part:
        x, y, radius_x, radius_y = (self._number(shape, key) for key in ("cx", "cy", "rx", "ry"))
        if radius_x < 0 or radius_y < 0:
            self._refuse("an ellipse has a negative radius")
        self._change("ellipse", "read as its enclosing box, its outline as a polygon")
        box, outline = ellipse((x, y), (radius_x, radius_y), self._number(shape, "rotation", "0"))
        return _Part(shape, box, outline)

    def _polygon(self, shape: Element) -> _Part | None:
        points = self._points(shape)
        if len(points) < 6:
            self._leave_out("polygon", "fewer than three corners")
            return None
        return _Part(shape, enclosing_box([points]), points)

    def _mask(self, shape: Element) -> _Part | None:
        left, top, width, height = (int(self._number(shape, side)) for side in _PLACE)
        size = (self._frame.height, self._frame.width)
        if not all(size):
            self._leave_out("mask", "the size of the image is not known; give the images' folder")
            return None
        try:
            runs = [int(run) for run in shape.get("rle", "").split(",")]
            mask = encode_mask(from_row_runs(runs, (left, top, width, height), size))
        except ValueError as error:
            self._refuse(str(error))
        return _Part(shape, (left, top, left + width, top + height), mask=mask)

    def _skeleton(self, shape: Element) -> _Part | None:
        """The box around the visible points; COCO's v is 2, or 1 where a point is occluded."""
        order = self._classes.points.get(shape.get("label", ""), {})
        keypoints = [0.0] * (3 * len(order))
        visible: list[float] = []
        for point in shape.findall("points"):
            at = 3 * order[point.get("label", "")]
            for attribute in point.findall("attribute"):
                name = attribute.get("name", "")
                self._leave_out(f"attribute {name!r} of a skeleton's point", "COCO has none there")
            if point.get("outside") == "1":
                continue
            x_y = self._points(point)
            if len(x_y) != 2 or keypoints[at + 2]:
                self._leave_out("point of a skeleton", "another one has its name")
                continue
            keypoints[at : at + 3] = [*x_y, 1 if point.get("occluded") == "1" else 2]
            visible += x_y
        if not visible:
            self._leave_out("skeleton", "it has no visible point")
            return None
        return _Part(shape, enclosing_box([tuple(visible)]), extra={"keypoints": keypoints})

    def _points(self, shape: Element) -> Outline:
        text = shape.get("points", "")
        try:
            pairs = [pair.split(",") for pair in text.rstrip("; ").split(";")]
            points = tuple(float(value) for x, y in pairs for value in (x, y))
        except ValueError:
            self._refuse(f"points must be x,y;x,y;..., got {text!r:.60}")
        if not all(abs(value) <= _LARGEST for value in points):
            self._refuse(f"points must be finite and of an image, got {text!r:.60}")
        return points

    def _number(self, element: Element, name: str, default: str | None = None) -> float:
        text = element.get(name, default)
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not abs(value) <= _LARGEST:
            self._refuse(f"{name!r} must be a number of pixels, got {text!r:.40}")
        return value

    def _leave_out(self, kind: str, reason: str) -> None:
        self._tally.leave_out(kind, reason, self._where)

    def _change(self, kind: str, reason: str) -> None:
        self._tally.change(kind, reason, self._where)

    def _refuse(self, problem: str) -> NoReturn:
        raise InputError(f"{self._where}: {problem}")
