"""Parquet (parquet.apache.org), a row an image, for sets that are too large for one JSON file.

    labels.parquet/part-00000.parquet, ...    50,000 images each, in the set's order
    categories.parquet                        a row a category, with COCO's keys

Columns of an image are `image_id`, `file_name`, `width`, `height` and `objects`, as detection sets
of Hugging Face's `datasets` have them: `objects` holds a list for each of COCO's keys of an
annotation, `bbox` in xywh pixels. `category` is the word. A mask is in `segmentation`, polygons as
COCO has them, or in `rle`, counts of pycocotools' run lengths of `height` x `width` pixels. What
has no column lies as JSON in `extra`.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from integrations.annotations import (
    Annotation,
    Attribute,
    Category,
    LabelledImage,
    LabelledSet,
    ReadOptions,
    Tally,
    area,
    as_rle,
    uncollected,
)
from integrations.formats.coco import (
    GROUPS,
    IMAGE_KEYS,
    VERIFIED_KEYS,
    Json,
    bbox,
    category_record,
    labelled_set,
)
from integrations.formats.coco_annotations import ANNOTATION_KEYS, WrittenIds
from integrations.formats.record import Record
from integrations.formats.validation import (
    ALL_PARTS,
    Rarely,
    checked_images,
    free_attributes,
    naming_image,
    to_json,
)
from regionspot.errors import InputError
from regionspot.files import is_utf8

if TYPE_CHECKING:
    import pyarrow

LABELS, CATEGORIES = "labels.parquet", "categories.parquet"
IMAGES_PER_GROUP, GROUPS_PER_PART = 1_000, 50  # the rows of a group are held in memory
_EXTRA, _INFO = "extra", "info"
_UNKNOWN = "it is none of this format's"
# Attributes of a run's labels, with a column each.
_ATTRIBUTES: dict[str, type] = {"runner_up": str, "margin": float, "presence": float}
_HELD: frozenset[Rarely] = frozenset({"category keys", "equal names"})
_OBJECT_KEYS = (
    *("id", "category_id", "category", "bbox", "area", "iscrowd", "score", "segmentation", "rle"),
    *_ATTRIBUTES,
    _EXTRA,
)
_IMAGE_COLUMNS = ("image_id", "file_name", "width", "height", "objects", *VERIFIED_KEYS, _EXTRA)
_CATEGORY_COLUMNS = (
    *("id", "name", "synonyms", "supercategory", "synset", "def", "frequency"),
    _EXTRA,
)


def write_parquet(
    path: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write a set as Parquet into a folder; see `registry.Writer`."""
    pa, tally = _pyarrow(), Tally() if tally is None else tally
    names, ids = {each.id: each.name for each in categories}, WrittenIds()
    checked = checked_images(path, categories, images, tally, ALL_PARTS | _HELD)
    rows = (_row(path, each, names, ids) for each in checked)
    schema, number = _image_schema(pa), 0
    group = _next_group(rows)
    while group or not number:
        with _writer(path / LABELS / f"part-{number:05}.parquet", schema) as writer:
            for _ in range(GROUPS_PER_PART):
                writer.write_table(pa.Table.from_pylist(group, schema))
                if not (group := _next_group(rows)):
                    break
        number += 1
    schema = _category_schema(pa).with_metadata({_INFO: to_json(info or {})})
    records = [
        category_record(dataclasses.replace(each, extra={}), tally) | _extra(dict(each.extra))
        for each in categories
    ]
    with _writer(path / CATEGORIES, schema) as writer:
        writer.write_table(pa.Table.from_pylist(records, schema))
    return tally


def _next_group(rows: Iterator[Json]) -> list[Json]:
    return list(islice(rows, IMAGES_PER_GROUP))


@contextmanager
def _writer(path: Path, schema: "pyarrow.Schema") -> Iterator[Any]:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"compression": "zstd", "write_page_checksum": True}
    # Python's own file, whose errors say that the disk is full.
    with path.open("wb") as out, pq.ParquetWriter(out, schema, **options) as writer:
        yield writer


def _row(path: Path, image: LabelledImage, names: Mapping[int, str], ids: WrittenIds) -> Json:
    with naming_image(path, image):
        objects = [_object(each, image, names[each.category_id], ids) for each in image.annotations]
        others = free_attributes(image.attributes, IMAGE_KEYS) | dict(image.extra)
    return {
        "image_id": image.id,
        "file_name": image.file_name,
        "width": image.width,
        "height": image.height,
        "objects": {key: [each.get(key) for each in objects] for key in _OBJECT_KEYS},
        "neg_category_ids": image.absent,
        "not_exhaustive_category_ids": image.unverified,
        **_extra(others),
    }


def _object(annotation: Annotation, image: LabelledImage, name: str, ids: WrittenIds) -> Json:
    mask = annotation.mask
    if annotation.is_crowd and mask is not None:  # run lengths, as COCO has them
        mask = as_rle(mask, image.width, image.height)
    record: Json = {
        "id": ids.take(annotation),
        "category_id": annotation.category_id,
        "category": name,
        "bbox": bbox(annotation),
        "area": area(annotation, image.width, image.height),
        "iscrowd": annotation.is_crowd,
        "score": annotation.score,
        "rle": mask["counts"] if isinstance(mask, dict) else None,
        "segmentation": None if isinstance(mask, dict) else mask,
    }
    others = free_attributes(annotation.attributes, ANNOTATION_KEYS)
    for key, kind in _ATTRIBUTES.items():
        value = others.get(key)
        if isinstance(value, kind) and _is_sound(value):
            record[key] = others.pop(key)
    return record | _extra(others | dict(annotation.extra))


def _is_sound(value: Attribute) -> bool:
    return is_utf8(value) if isinstance(value, str) else value is None or math.isfinite(value)


def _extra(others: Json) -> Json:
    return {_EXTRA: to_json(others) if others else None}


def _image_schema(pa: Any) -> "pyarrow.Schema":
    number, text = pa.float64(), pa.string()
    whole = pa.int64()
    types = {
        "id": whole,
        "category_id": whole,
        "bbox": pa.list_(number, 4),
        "area": number,
        "iscrowd": pa.bool_(),
        "score": number,
        "segmentation": pa.list_(pa.list_(number)),
        "margin": number,
        "presence": number,
    }
    objects = pa.struct([(key, pa.list_(types.get(key, text))) for key in _OBJECT_KEYS])
    of_image = {
        "image_id": whole,
        "width": whole,
        "height": whole,
        "objects": objects,
        **dict.fromkeys(VERIFIED_KEYS, pa.list_(whole)),
    }
    return pa.schema([(key, of_image.get(key, text)) for key in _IMAGE_COLUMNS])


def _category_schema(pa: Any) -> "pyarrow.Schema":
    types = {"id": pa.int64(), "synonyms": pa.list_(pa.string())}
    return pa.schema([(key, types.get(key, pa.string())) for key in _CATEGORY_COLUMNS])


@uncollected()
def read_parquet(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read the two tables of a folder; see `registry.Reader`. Other columns are left out."""
    _pyarrow()
    tally = Tally(strict=options.strict)
    parts = sorted((path / LABELS).glob("*.parquet"))
    if not parts:
        raise InputError(f"{path}: expected a folder with {LABELS} and {CATEGORIES}")
    records: dict[str, list[Record]] = {group: [] for group in GROUPS}
    for part in parts:
        for row in _rows(part, _IMAGE_COLUMNS, tally):
            records["annotations"] += _annotations(row, tally)
            image = {"id": row.values.get("image_id")} | _values(row, "image_id", "objects")
            records["images"].append(row.part(image))
    for row in _rows(path / CATEGORIES, _CATEGORY_COLUMNS, tally):
        records["categories"].append(row.part(_values(row)))
    return labelled_set(records, folder, False, tally, _info(path / CATEGORIES))


def _annotations(row: Record, tally: Tally) -> Iterator[Record]:
    """The annotations of an image, out of a list for each of their keys."""
    objects = row.values.get("objects") or {}
    if not isinstance(objects, dict):
        row.refuse('"objects" must hold a list for each key of its annotations')
    for key in objects.keys() - set(_OBJECT_KEYS):
        tally.leave_out(f"column objects.{key[:40]}", _UNKNOWN, row.where)
    lists = {key: objects[key] for key in _OBJECT_KEYS if objects.get(key)}
    if len({len(each) if isinstance(each, list) else -1 for each in lists.values()}) > 1:
        row.refuse('"objects" must hold lists of one length')
    size = [row.size("height"), row.size("width")]
    group = f"{row.group}[{row.index}].objects"
    for index, values in enumerate(zip(*lists.values(), strict=True)):
        record = Record(row.path, group, index, dict(zip(lists, values, strict=True)))
        found = _values(record, "category", "rle") | {"image_id": row.values.get("image_id")}
        if (counts := record.values.get("rle")) is not None:
            found["segmentation"] = {"size": size, "counts": counts}
        yield record.part(found)


def _values(record: Record, *but: str) -> Json:
    """The values that are not null, but for some keys, and those of `extra`."""
    skipped = (*but, _EXTRA)
    found = {k: v for k, v in record.values.items() if v is not None and k not in skipped}
    return _json_object(record, _EXTRA) | found


def _json_object(record: Record, key: str) -> Json:
    text = record.text(key, "")
    if not text:
        return {}
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{record.where}: {key} is not JSON: {error!s:.100}") from error
    if not isinstance(found, dict):
        record.refuse(f'"{key}" must be a JSON object, got {text!r:.40}')
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _rows(path: Path, columns: Sequence[str], tally: Tally) -> Iterator[Record]:
    """The rows of a file one by one. Columns that it lacks are null in all of them."""
    import pyarrow.parquet as pq

    with _readable(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
    with file:
        names = file.schema_arrow.names
        for name in (each for each in names if each not in columns):
            tally.leave_out(f"column {name[:40]}", _UNKNOWN, str(path))
        batches = file.iter_batches(IMAGES_PER_GROUP, columns=[n for n in columns if n in names])
        index = 0
        while True:
            with _readable(path):
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            if batch is None:
                return
            for row in rows:
                yield Record(path, "rows", index, row)
                index += 1


def _info(path: Path) -> Json:
    """What the file of the categories says of the set."""
    import pyarrow.parquet as pq

    with _readable(path):
        text = (pq.read_schema(path).metadata or {}).get(_INFO.encode(), b"").decode()
    return _json_object(Record(path, "metadata", 0, {_INFO: text}), _INFO)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Let what pyarrow raises name the file."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be read as Parquet: {line}") from error


def _pyarrow() -> Any:
    """The library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        mend = "pip install 'regionspot-autolabel[parquet]'"
        raise InputError(f"Parquet needs the extra parquet: {mend}") from error
    return pyarrow
