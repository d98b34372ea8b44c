"""FiftyOne's own format, `FiftyOneDataset`, through FiftyOne's exporter and importer.

    metadata.json, samples.json    as FiftyOne writes them
    data/                          the images

`fiftyone.Dataset.from_dir(DIR, dataset_type=fiftyone.types.FiftyOneDataset)` loads it. A mask is
kept inside the pixels that its box touches, since FiftyOne has no other. What a label format holds
beside FiftyOne's own fields lies in fields of the samples and in the dataset's `info`.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    ReadOptions,
    Tally,
)
from integrations.fiftyone.dataset import in_batches, samples_with_detections
from integrations.fiftyone.labels import from_detection, get_value, to_detection
from integrations.fiftyone.session import connect
from integrations.formats.validation import (
    ALL_PARTS,
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
_HOLDS = ALL_PARTS - {"extra"}


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

    Of several fields with detections, `ground_truth` counts, then `labels`, then `predictions`.
    """
    if not (path / METADATA).is_file() or not (path / SAMPLES).is_file():
        raise InputError(f"{path} is no folder of FiftyOne's: expected {METADATA} and {SAMPLES}")
    import fiftyone as fo

    root = Path(os.path.realpath(path))
    with _passing_dataset() as dataset:
        try:
            dataset.add_dir(str(root), dataset_type=fo.types.FiftyOneDataset, progress=False)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
        field = _field(path, dataset) if len(dataset) else FIELD
        categories = _categories(dataset, field)
        ids = {category.name: category.id for category in categories}
        inside = Path(os.path.realpath(folder or root / IMAGES))
        images = tuple(
            _image(path, *found, ids, inside, number)
            for number, found in enumerate(samples_with_detections(dataset, field), start=1)
        )
    return LabelledSet(categories, images, Tally(strict=options.strict))


def _field(path: Path, dataset: Any) -> str:
    import fiftyone as fo

    fields = dataset.get_field_schema(embedded_doc_type=fo.Detections)
    for name in ("ground_truth", FIELD, "predictions", *fields):
        if name in fields:
            return str(name)
    raise InputError(f"{path} holds no detections")


def _categories(dataset: Any, field: str) -> tuple[Category, ...]:
    known = [
        Category(
            **{**each, "synonyms": tuple(each["synonyms"]), "extra": dict(each.get("extra", {}))}
        )
        for each in dataset.info.get(_CATEGORIES, ())
    ] or [Category(number, name) for number, name in enumerate(dataset.default_classes, start=1)]
    names = {category.name for category in known}
    used = dataset.distinct(f"{field}.detections.label") if len(dataset) else []
    highest = max((category.id for category in known), default=0)
    new = [name for name in sorted(used) if name not in names]
    return (*known, *(Category(n, name) for n, name in enumerate(new, start=highest + 1)))


def _image(
    path: Path,
    sample: Any,
    detections: Sequence[Any],
    ids: Mapping[str, int],
    root: Path,
    number: int,
) -> LabelledImage:
    # The file may be a link, so that only its folder is followed.
    parent, last = os.path.split(sample.filepath)
    file = Path(os.path.realpath(parent), last)
    if not file.is_relative_to(root):
        raise InputError(f"{path}: {file} is outside of {root}; give the images with --images")
    name = file.relative_to(root).as_posix()
    check_relative(name)
    if sample.metadata is not None and sample.metadata.width:
        width, height = sample.metadata.width, sample.metadata.height
    else:
        width, height = image_size(path_inside(root, name))
    values = {key: sample[key] for key in _OF_IMAGE if sample.has_field(key)}
    return LabelledImage(
        number if values.get("image_id") is None else int(values["image_id"]),
        name,
        width,
        height,
        tuple(_annotation(each, ids, width, height) for each in detections),
        tuple(values.get("absent") or ()),
        tuple(values.get("unverified") or ()),
        values.get("attributes") or {},
    )


def _annotation(detection: Any, ids: Mapping[str, int], width: int, height: int) -> Annotation:
    attributes = {
        name: value
        for name, value in detection.iter_fields()
        if name not in _OF_LABEL and isinstance(value, str | int | float | bool)
    }
    return dataclasses.replace(
        from_detection(detection, ids, width, height),
        score=detection.confidence,
        is_crowd=bool(get_value(detection, "iscrowd")),
        id=get_value(detection, "annotation_id"),
        attributes=attributes,
    )
