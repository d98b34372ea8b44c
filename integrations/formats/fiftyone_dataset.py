"""FiftyOne's own format, `FiftyOneDataset`, through FiftyOne's exporter and importer.

    metadata.json, samples.json    as FiftyOne writes them
    data/                          the images

`fiftyone.Dataset.from_dir(DIR, dataset_type=fiftyone.types.FiftyOneDataset)` loads it. A mask is
kept inside the pixels that its box touches, since FiftyOne has no other. What a label format holds
beside FiftyOne's own fields lies in fields of the samples and in the dataset's `info`.
"""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integrations.annotations import (
    Annotation,
    Attribute,
    Category,
    LabelledImage,
    LabelledSet,
    ReadOptions,
    Tally,
)
from integrations.fiftyone.dataset import in_batches, samples_with_detections, stored_size
from integrations.fiftyone.labels import from_detection, get_value, to_detection
from integrations.fiftyone.session import connect
from integrations.formats.outlines import enclosing_box, parse_degrees, rotated_box
from integrations.formats.record import Record
from integrations.formats.validation import (
    ALL_PARTS,
    Part,
    Rarely,
    check_new_id,
    checked_images,
    free_attributes,
    names_by_id,
    naming_image,
)
from integrations.images import image_size
from regionspot.errors import InputError
from regionspot.files import check_relative, path_inside

METADATA, SAMPLES, IMAGES = "metadata.json", "samples.json", "data"
FIELD = "labels"
_CATEGORIES = "autolabel_categories"
_OF_IMAGE = ("image_id", "absent", "unverified", "attributes")
# Fields of a detection that are no attribute: FiftyOne's own, and those that are read by name.
_OF_LABEL = frozenset(
    {"id", "attributes", "tags", "label", "bounding_box", "mask", "mask_path", "confidence"}
    | {"index", "predicted", "iscrowd", "annotation_id"}
)
# FiftyOne's own fields of a sample, and those that are read by name.
_OF_SAMPLE = frozenset(
    {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at", *_OF_IMAGE}
)
_HOLDS: frozenset[Part | Rarely] = (ALL_PARTS - {"extra"}) | {"category keys"}


def write_fiftyone(
    folder: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write `metadata.json` and `samples.json`; the images belong into `data/`.

    See `registry.Writer`; `info` goes into the dataset's info as it is.
    """
    import fiftyone as fo

    tally = Tally() if tally is None else tally
    names = names_by_id(folder, categories)
    root = Path(os.path.realpath(folder))
    with _passing_dataset() as dataset:
        dataset.info = {**(info or {}), _CATEGORIES: [dataclasses.asdict(c) for c in categories]}
        dataset.default_classes = list(names.values())
        dataset.save()
        for batch in in_batches(checked_images(folder, categories, images, tally, _HOLDS)):
            dataset.add_samples([_sample(image, names, root) for image in batch], progress=False)
        dataset.export(
            export_dir=str(root),
            dataset_type=fo.types.FiftyOneDataset,
            export_media=False,
            rel_dir=str(root),
            progress=False,
        )
    return tally


@contextmanager
def _passing_dataset() -> Iterator[Any]:
    connect()
    import fiftyone as fo

    dataset = fo.Dataset()
    try:
        yield dataset
    finally:
        dataset.delete()


def _sample(image: LabelledImage, names: Mapping[int, str], root: Path) -> Any:
    import fiftyone as fo

    sample = fo.Sample(
        filepath=str(root / IMAGES / image.file_name),
        metadata=fo.ImageMetadata(width=image.width, height=image.height),
        image_id=image.id,
        absent=list(image.absent),
        unverified=list(image.unverified),
        attributes=dict(image.attributes),
    )
    with naming_image(root, image):
        detections = [
            to_detection(each, image, names[each.category_id], **_fields(each))
            for each in image.annotations
        ]
    sample[FIELD] = fo.Detections(detections=detections)
    return sample


def _fields(annotation: Annotation) -> dict[str, object]:
    attributes = free_attributes(annotation.attributes, _OF_LABEL)
    given = {name: value for name, value in attributes.items() if value is not None}
    return {"iscrowd": annotation.is_crowd, "annotation_id": annotation.id, **given}


def read_fiftyone(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read a folder in FiftyOne's format; see `registry.Reader`.

    Of several fields with detections, `ground_truth` counts, then `labels`, then `predictions`;
    the labels of all other fields are counted as left out. Single values of a sample are attributes
    of its image.
    """
    if not (path / METADATA).is_file() or not (path / SAMPLES).is_file():
        raise InputError(f"{path} is no folder of FiftyOne's: expected {METADATA} and {SAMPLES}")
    try:
        return _read(path, folder, Tally(strict=options.strict))
    except InputError:
        raise
    except Exception as error:
        # FiftyOne and its database answer a broken file with all kinds of exceptions.
        text = " ".join(str(error).split())[:300]
        raise InputError(f"{path} cannot be read: {text or type(error).__name__}") from error


def _read(path: Path, folder: Path | None, tally: Tally) -> LabelledSet:
    import fiftyone as fo

    root = Path(os.path.realpath(path))
    with _passing_dataset() as dataset:
        dataset.add_dir(str(root), dataset_type=fo.types.FiftyOneDataset, progress=False)
        field = _field(path, dataset, tally) if len(dataset) else FIELD
        categories = _categories(path, dataset, field)
        ids = {category.name: category.id for category in categories}
        inside = Path(os.path.realpath(folder or root / IMAGES))
        images = tuple(
            _image(path, *found, ids, inside, number, _Place(f"{path}: field {field!r}", tally))
            for number, found in enumerate(samples_with_detections(dataset, field), start=1)
        )
        info = {key: value for key, value in dataset.info.items() if key != _CATEGORIES}
    return LabelledSet(categories, images, tally, info=info)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where the labels come from, for messages, and what counts what is left out of them."""

    where: str
    tally: Tally


def _field(path: Path, dataset: Any, tally: Tally) -> str:
    """The field of detections that is read; labels of all others are counted."""
    import fiftyone as fo

    fields = dataset.get_field_schema(embedded_doc_type=fo.Detections)
    chosen = next((n for n in ("ground_truth", FIELD, "predictions", *fields) if n in fields), None)
    others = dataset.get_field_schema(embedded_doc_type=fo.Label)
    if chosen is None:
        raise InputError(
            f"{path} holds no detections; its fields of labels are {', '.join(others) or 'none'}"
        )
    for name, field in others.items():
        if name == chosen:
            continue
        kind = field.document_type
        labels = getattr(kind, "_LABEL_LIST_FIELD", None)
        count = dataset.count(f"{name}.{labels}" if labels else name)
        reason = f"one field of detections is read, {chosen!r}"
        tally.leave_out(f"{kind.__name__} in a second field", reason, f"{path}: {name}", count)
    return str(chosen)


def _categories(path: Path, dataset: Any, field: str) -> tuple[Category, ...]:
    records = [
        Record(path / METADATA, f"info/{_CATEGORIES}", index, values)
        for index, values in enumerate(dataset.info.get(_CATEGORIES) or ())
    ]
    known = [_category(record) for record in records] or [
        Category(number, name) for number, name in enumerate(dataset.default_classes, start=1)
    ]
    seen: set[int] = set()
    for category, record in zip(known, records, strict=False):
        check_new_id(category.id, seen, record.where)
    names_by_id(path, known)
    names = {category.name for category in known}
    used = dataset.distinct(f"{field}.detections.label") if len(dataset) else []
    highest = max((category.id for category in known), default=0)
    new = [name for name in sorted(each for each in used if each) if name not in names]
    return (*known, *(Category(n, name) for n, name in enumerate(new, start=highest + 1)))


def _category(record: Record) -> Category:
    """A class as `write_fiftyone` keeps it."""
    extra = record.values.get("extra")
    return Category(
        record.whole("id"),
        record.text("name"),
        record.texts("synonyms"),
        record.text("supercategory", ""),
        record.text("synset", ""),
        record.text("definition", ""),
        record.text("frequency", "") or None,
        record.part(extra).checked() if isinstance(extra, dict) else {},
    )


def _image(
    path: Path,
    sample: Any,
    detections: Sequence[Any],
    ids: Mapping[str, int],
    root: Path,
    number: int,
    place: _Place,
) -> LabelledImage:
    # The file may be a link, so that only its folder is followed.
    parent, last = os.path.split(sample.filepath)
    file = Path(os.path.realpath(parent), last)
    if not file.is_relative_to(root):
        raise InputError(f"{path}: {file} is outside of {root}; give the images with --images")
    name = file.relative_to(root).as_posix()
    check_relative(name)
    width, height = stored_size(sample) or image_size(path_inside(root, name))
    values = {key: sample[key] for key in _OF_IMAGE if sample.has_field(key)}
    single = {
        key: value
        for key, value in sample.iter_fields()
        if key not in _OF_SAMPLE and isinstance(value, str | int | float | bool)
    }
    if sample.tags:
        place.tally.leave_out("tags of a sample", "images have none here", f"{path}: {name}")
    annotations = (_annotation(each, ids, width, height, name, place) for each in detections)
    return LabelledImage(
        number if values.get("image_id") is None else int(values["image_id"]),
        name,
        width,
        height,
        tuple(each for each in annotations if each is not None),
        tuple(values.get("absent") or ()),
        tuple(values.get("unverified") or ()),
        {**(values.get("attributes") or {}), **single},
    )


def _annotation(
    detection: Any, ids: Mapping[str, int], width: int, height: int, name: str, place: _Place
) -> Annotation | None:
    """A detection as an annotation; None where it is left out."""
    where, tally = f"{place.where}, image {name!r}", place.tally
    if not detection.label:
        tally.leave_out("label", "it has no class", where)
        return None
    box = detection.bounding_box
    if box is None or len(box) != 4 or not all(_is_finite(side) for side in box):
        tally.leave_out("label", "it has no box of four finite numbers", where)
        return None
    if min(box[2:]) < 0:
        tally.leave_out("label", "its box has a negative width or height", where)
        return None
    attributes: dict[str, Attribute] = {}
    legacy = {key: each.value for key, each in (detection.attributes or {}).items()}
    for key, value in (*legacy.items(), *detection.iter_fields()):
        if key in _OF_LABEL:
            continue
        if isinstance(value, str | int | float | bool):
            attributes[key] = value
        elif value is not None:
            tally.leave_out(f"{key} of a label", "it is no single value", where)
    for key in ("tags", "index"):
        if get_value(detection, key) not in (None, []):
            tally.leave_out(f"{key} of a label", "labels have none here", where)
    score = detection.confidence
    if score is not None and not _is_finite(score):
        tally.leave_out("score", "it is not finite", where)
        score = None
    annotation = dataclasses.replace(
        from_detection(detection, ids, width, height),
        score=score,
        is_crowd=bool(get_value(detection, "iscrowd")),
        id=get_value(detection, "annotation_id"),
        attributes=attributes,
    )
    degrees = parse_degrees(attributes.pop("rotation", None), where)
    if degrees and annotation.mask is None:
        outline = rotated_box(annotation.box, degrees)
        reason = "its outline and the box around it stand for its angle"
        tally.change("rotated box", reason, where)
        return dataclasses.replace(annotation, box=enclosing_box((outline,)), mask=(outline,))
    return annotation


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
