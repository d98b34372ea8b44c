"""Open Images V6: boxes, image-level labels and the class hierarchy, from its CSV files.

Kuznetsova et al. 2020, sections 3.2 to 3.4; the columns are those of storage.googleapis.com/
openimages/web/download_v6.html.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integrations.annotations import Tally
from integrations.formats.json_stream import load_json
from regionspot.boxes import xyxy_to_xywh
from regionspot.errors import InputError
from regionspot.names import display_name, distinct_names
from train.data.box_table import ROUNDING, BoxTableBuilder, BoxTableImages
from train.data.dataset import Dataset, join_synonyms, names_of
from train.data.verified_classes import VerifiedClasses

BOX_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf", "IsDepiction")
LABEL_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence")
# Labels that a person gave or checked; "machine" is a classifier's guess.
HUMAN = frozenset({"verification", "crowdsource-verification"})
# Columns of a box that is not trained on, and what such a box is.
LEFT_OUT = {"IsGroupOf": "group of objects", "IsDepiction": "depiction of an object"}


@dataclass(frozen=True, kw_only=True)
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


def read_open_images(files: OpenImagesFiles, name: str = "", tally: Tally | None = None) -> Dataset:
    """A split of Open Images, in the order of its boxes.

    Classes are called in lower case and without the sense that some names have in brackets ("Bat
    (Animal)"), where no other class would be called alike. Boxes around groups (`IsGroupOf`) and
    of depictions are left out. `verified` holds the classes that a person said are not in the
    image, with all their descendants, and the classes of the boxes; without the classes of what
    was left out and their ancestors. A class that is in the image but has no box of its own (an
    ancestor of those boxed) is not among them.

    Args:
        files: of the split.
        name: of the data set; empty: made of the path of the boxes.
        tally: counts what is left out; None: a new one.

    Raises:
        InputError: a file cannot be read or has other columns, or there is no box to train on.
    """
    tally = tally or Tally()
    hierarchy = _read_hierarchy(files.hierarchy)
    classes = _read_classes(files.classes, hierarchy)
    index = {label: i for i, label in enumerate(classes)}
    verified = VerifiedClasses(files.boxes, typecode="H", tally=tally)
    builder = BoxTableBuilder(files.boxes, files.images, relative=True, tally=tally)
    _read_boxes(files.boxes, index, builder, verified)
    for path in files.labels:
        for row in _rows(path, LABEL_COLUMNS):
            if row["LabelName"] in index and row["Source"] in HUMAN and _number(row, path) == 0:
                verified.add(
                    _image_id(row["ImageID"], path), index[row["LabelName"]], verified.ABSENT
                )
    written = tuple(classes.values())
    names = distinct_names(written, _readable)
    classes = dict(zip(classes, names, strict=True))
    above = {label: hierarchy[label] & classes.keys() for label in classes}
    verified.finish(
        dict(enumerate(names)),
        {index[label]: frozenset(index[each] for each in above[label]) for label in classes},
    )
    return Dataset(
        name or f"openimages:{files.boxes}",
        join_synonyms((each, ()) for each in names),
        BoxTableImages(builder.finish(names), verified),
        {
            classes[label]: frozenset(classes[each] for each in above[label])
            for label in hierarchy
            if label in classes and above[label]
        },
        names_of(zip(written, names, strict=True)),
    )


def _readable(name: str) -> str:
    return display_name(name).lower()


def _read_hierarchy(path: Path) -> dict[str, frozenset[str]]:
    """The ancestors of each label of the tree. A part of something is not a kind of it."""
    ancestors: dict[str, frozenset[str]] = {}

    def walk(node: dict[str, Any], above: frozenset[str]) -> None:
        label = node["LabelName"]
        ancestors[label] = ancestors.get(label, frozenset()) | above
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
    return {label: _closed(label, ancestors) for label in ancestors}


def _closed(label: str, ancestors: dict[str, frozenset[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = set(ancestors[label])
    while waiting:
        each = waiting.pop()
        found.add(each)
        waiting |= ancestors[each] - found
    return frozenset(found - {label})


def _read_classes(path: Path, hierarchy: dict[str, frozenset[str]]) -> dict[str, str]:
    """The name of each label that the hierarchy has, with or without a header in the file."""
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
                    classes[row[0]] = row[1]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as class descriptions: {error}") from error
    if not classes:
        raise InputError(f"{path} names no label of the hierarchy; is it of the same release?")
    return classes


def _read_boxes(
    path: Path, index: dict[str, int], builder: BoxTableBuilder, verified: VerifiedClasses
) -> None:
    last = None
    seen: set[int] = set()
    for row in _rows(path, BOX_COLUMNS):
        where = f"{path}: image {row['ImageID']}"
        label = index.get(row["LabelName"])
        if label is None:
            reason = "its LabelName is not in the class descriptions and the hierarchy"
            builder.tally.leave_out("label", reason, f"{where}: {row['LabelName']!r:.40}")
            continue
        image = _image_id(row["ImageID"], path)
        # Boxes of an image mostly stand together.
        if image != last and image not in seen:
            builder.add_image(image, f"{row['ImageID']}.jpg")
            seen.add(image)
        last = image
        if kind := next((kind for key, kind in LEFT_OUT.items() if row[key] == "1"), None):
            builder.tally.leave_out(kind, "training takes single objects", where)
            verified.add(image, label, verified.OPEN)
            continue
        verified.add(image, label, verified.BOXED)
        x1, x2, y1, y2 = (_fraction(row, key, path) for key in ("XMin", "XMax", "YMin", "YMax"))
        builder.add_box(image, label, xyxy_to_xywh((x1, y1, x2, y2)))


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


def _fraction(row: dict[str, str], key: str, path: Path) -> float:
    value = _number(row, path, key)
    if -ROUNDING[True] <= value <= 1 + ROUNDING[True]:
        return value
    raise InputError(
        f"{path}: image {row['ImageID']}: {key} must be a fraction of the image's side from 0 to "
        f"1, got {row[key]!r:.40}"
    )


def _number(row: dict[str, str], path: Path, key: str = "Confidence") -> float:
    try:
        value = float(row[key])
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    raise InputError(
        f"{path}: image {row['ImageID']}: {key} must be a number, got {row[key]!r:.40}"
    )


def _image_id(text: str, path: Path) -> int:
    try:
        if len(text) == 16:
            return int(text, 16)
    except ValueError:
        pass
    raise InputError(f"{path}: an ImageID must be 16 hexadecimal digits, got {text!r:.40}")
