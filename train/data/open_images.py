"""Open Images V6: boxes, image-level labels and the class hierarchy, from its CSV files.

Kuznetsova et al. 2020, sections 3.2 to 3.4; the columns are those of storage.googleapis.com/
openimages/web/download_v6.html.
"""

import csv
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regionspot.errors import InputError
from regionspot.names import display_name
from train.data.box_table import TableBuilder, TableImages
from train.data.json_stream import load_json
from train.data.label_space import with_synonyms
from train.data.types import Dataset

BOX_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf", "IsDepiction")
LABEL_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence")
# Labels that a person gave or checked; "machine" is a classifier's guess.
HUMAN = frozenset({"verification", "crowdsource-verification"})
_BOXED, _ABSENT, _OPEN = range(3)


@dataclass(frozen=True)
class OpenImagesFiles:
    """Where a split lies.

    Attributes:
        boxes: `*-annotations-bbox.csv`.
        labels: `*-annotations-human-imagelabels*.csv`, one or more.
        classes: `class-descriptions*.csv`.
        hierarchy: `bbox_labels_600_hierarchy.json`.
        images: the folder with `<ImageID>.jpg`.
    """

    boxes: Path
    labels: tuple[Path, ...]
    classes: Path
    hierarchy: Path
    images: Path


def read_open_images(files: OpenImagesFiles, name: str = "") -> Dataset:
    """A split of Open Images, in the order of its boxes.

    Boxes around groups (`IsGroupOf`) and of depictions are left out. `verified` holds the words
    that a person said are not in the image, with all narrower words, and the words of the boxes;
    without the words of what was left out and their broader words. A word that is in the image but
    has no box of its own (a broader word of those boxed) is not among them.

    Raises:
        InputError: a file cannot be read or has other columns.
    """
    hierarchy = _read_hierarchy(files.hierarchy)
    classes = _read_classes(files.classes, hierarchy)
    place = {label: i for i, label in enumerate(classes)}
    checked = _Checked()
    builder = TableBuilder(files.boxes, files.images, relative=True)
    _read_boxes(files.boxes, place, builder, checked)
    for path in files.labels:
        for row in _rows(path, LABEL_COLUMNS):
            if row["LabelName"] in place and row["Source"] in HUMAN and _number(row) == 0:
                checked.add(_image_id(row["ImageID"], path), place[row["LabelName"]], _ABSENT)
    words = tuple(classes.values())
    known = {label: above & classes.keys() for label, above in hierarchy.items()}
    return Dataset(
        name or f"openimages:{files.boxes}",
        with_synonyms((word, ()) for word in words),
        TableImages(builder.finish(words), _VerifiedWords(checked, classes, known)),
        {
            classes[label]: frozenset(classes[each] for each in above)
            for label, above in known.items()
            if above and label in classes
        },
    )


def _read_hierarchy(path: Path) -> dict[str, frozenset[str]]:
    """The broader labels of each label of the tree. A part of something is not a kind of it."""
    broader: dict[str, frozenset[str]] = {}

    def walk(node: dict[str, Any], above: frozenset[str]) -> None:
        label = node["LabelName"]
        broader[label] = broader.get(label, frozenset()) | above
        for child in node.get("Subcategory", ()):
            walk(child, above | {label})
        for part in node.get("Part", ()):
            walk(part, frozenset())

    content = load_json(path)
    try:
        walk(content, frozenset())
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not the hierarchy of Open Images (LabelName, Subcategory, Part): {error!r}"
        ) from error
    # A label may stand in several places, its children in one of them only.
    return {label: _closed(label, broader) for label in broader}


def _closed(label: str, broader: dict[str, frozenset[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = set(broader[label])
    while waiting:
        each = waiting.pop()
        found.add(each)
        waiting |= broader[each] - found
    return frozenset(found - {label})


def _read_classes(path: Path, hierarchy: dict[str, frozenset[str]]) -> dict[str, str]:
    """The word of each label that the hierarchy has, with or without a header in the file."""
    classes: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if len(row) != 2:
                    raise InputError(
                        f"{path}: line {number}: expected a label and its name, got {len(row)} "
                        "columns; give the class descriptions of Open Images"
                    )
                if row[0] in hierarchy:
                    classes[row[0]] = display_name(row[1]).lower()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as class descriptions: {error}") from error
    if not classes:
        raise InputError(f"{path} names no label of the hierarchy; is it of the same release?")
    return classes


def _read_boxes(
    path: Path, place: dict[str, int], builder: TableBuilder, checked: "_Checked"
) -> None:
    last = None
    seen: set[int] = set()
    for row in _rows(path, BOX_COLUMNS):
        label = place.get(row["LabelName"])
        if label is None:
            raise InputError(
                f"{path}: the label {row['LabelName']!r} is not in the class descriptions and "
                "the hierarchy; give those of the same release"
            )
        image = _image_id(row["ImageID"], path)
        # Boxes of an image mostly stand together.
        if image != last and image not in seen:
            builder.add_image(image, f"{row['ImageID']}.jpg")
            seen.add(image)
        last = image
        if row["IsGroupOf"] == "1" or row["IsDepiction"] == "1":
            checked.add(image, label, _OPEN)
            continue
        checked.add(image, label, _BOXED)
        x1, x2, y1, y2 = (_number(row, key) for key in ("XMin", "XMax", "YMin", "YMax"))
        builder.add_box(image, label, (x1, y1, x2 - x1, y2 - y1))


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The wanted columns of each line, wherever they stand."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if missing := [name for name in columns if name not in header]:
                raise InputError(
                    f"{path}: the columns {', '.join(missing)} are missing; expected a CSV file "
                    f"of Open Images V6 with {', '.join(columns)}"
                )
            places = [(name, header.index(name)) for name in columns]
            for row in reader:
                if len(row) != len(header):
                    raise InputError(
                        f"{path}: line {reader.line_num}: expected {len(header)} columns, "
                        f"got {len(row)}; is the file complete?"
                    )
                yield {name: row[place] for name, place in places}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error


def _number(row: dict[str, str], key: str = "Confidence") -> float:
    with suppress(ValueError):
        value = float(row[key])
        if abs(value) < float("inf"):
            return value
    raise InputError(f"image {row['ImageID']}: {key} must be a number, got {row[key]!r}")


def _image_id(text: str, path: Path) -> int:
    try:
        if len(text) == 16:
            return int(text, 16)
    except ValueError:
        pass
    raise InputError(f"{path}: an ImageID must be 16 hexadecimal digits, got {text!r:.40}")


@dataclass
class _Checked:
    """What is known of labels in images, 11 bytes each."""

    image: "array[int]" = field(default_factory=lambda: array("Q"))
    label: "array[int]" = field(default_factory=lambda: array("H"))
    kind: "array[int]" = field(default_factory=lambda: array("b"))

    def add(self, image: int, label: int, kind: int) -> None:
        self.image.append(image)
        self.label.append(label)
        self.kind.append(kind)


class _VerifiedWords:
    """The words that may be negatives in an image, by its id."""

    def __init__(
        self, checked: _Checked, classes: dict[str, str], broader: dict[str, frozenset[str]]
    ) -> None:
        image = np.array(checked.image, np.uint64)
        order = np.argsort(image, kind="stable")
        self._image = image[order]
        self._label = np.array(checked.label, np.uint16)[order]
        self._kind = np.array(checked.kind, np.int8)[order]
        self._words = tuple(classes.values())
        labels = tuple(classes)
        place = {label: i for i, label in enumerate(labels)}
        self._broader = [frozenset(place[each] for each in broader[label]) for label in labels]
        narrower: list[set[int]] = [set() for _ in labels]
        for i, above in enumerate(self._broader):
            for each in above:
                narrower[each].add(i)
        self._narrower = [frozenset(each) for each in narrower]

    def __call__(self, image_id: int) -> frozenset[str]:
        first = np.searchsorted(self._image, np.uint64(image_id))
        last = np.searchsorted(self._image, np.uint64(image_id), side="right")
        label, kind = self._label[first:last], self._kind[first:last]
        boxed, absent, open_ = (set(label[kind == k].tolist()) for k in (_BOXED, _ABSENT, _OPEN))
        absent = absent.union(*(self._narrower[each] for each in absent))
        open_ = open_.union(*(self._broader[each] for each in open_))
        return frozenset(self._words[each] for each in (boxed | absent) - open_)
