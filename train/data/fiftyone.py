"""A field of detections of a FiftyOne dataset."""

from pathlib import Path
from typing import Any

import numpy as np

from integrations.fiftyone.session import connect, load_dataset
from regionspot.errors import InputError
from regionspot.names import display_name
from train.data.box_table import TableBuilder, TableImages
from train.data.label_space import with_synonyms
from train.data.types import Dataset

# Attributes of a detection that say it is no single, real object: those of COCO's and of Open
# Images' importers.
LEFT_OUT = ("iscrowd", "maybe_crowd", "IsGroupOf", "IsDepiction")


def read_fiftyone(name: str, field: str = "ground_truth") -> Dataset:
    """The samples of a dataset that have boxes in a field, in the dataset's order.

    Labels are read once; a change in FiftyOne is seen by the next call. Crowds, groups and
    depictions are left out. `verified` is None: what was not boxed is taken for absent.

    Args:
        name: of the dataset. A database is looked for as all of FiftyOne does.
        field: of detections.

    Raises:
        InputError: there is no such dataset or field, or it holds no detections.
    """
    connect()
    dataset = load_dataset(name)
    kind = dataset.get_field(field)
    if getattr(getattr(kind, "document_type", None), "__name__", "") != "Detections":
        fields = dataset.get_field_schema()
        raise InputError(
            f"FiftyOne's dataset {name!r} has no field {field!r} of detections; "
            f"its fields are {', '.join(fields)}"
        )
    place: dict[str, int] = {}
    source = Path(f"fiftyone:{name},field={field}")
    builder = TableBuilder(source, Path("/"), relative=True)
    paths: list[str] = []
    view = dataset.exists(field).select_fields(field)
    for row, sample in enumerate(view.iter_samples()):
        _add(builder, row, sample, sample[field], place)
        paths.append(sample.filepath)
    listed = dataset.classes.get(field) or dataset.default_classes or []
    names = dict.fromkeys([*map(display_name, listed), *place])
    words = with_synonyms((name, ()) for name in names)
    return Dataset(str(source), words, TableImages(builder.finish(tuple(place)), path_of=Path))


def _add(
    builder: TableBuilder, row: int, sample: Any, detections: Any, place: dict[str, int]
) -> None:
    metadata = sample.metadata
    width, height = (metadata.width or 0, metadata.height or 0) if metadata else (0, 0)
    builder.add_image(row, sample.filepath, width, height)
    for each in detections.detections:
        if any(each.get_field(key) for key in LEFT_OUT if each.has_field(key)):
            continue
        box = each.bounding_box
        if not each.label or box is None or not np.isfinite(box).all() or len(box) != 4:
            raise InputError(
                f"{builder.source}: {sample.filepath}: a detection must have a label and a "
                f"bounding_box of four numbers, got {each.label!r} and {box!r:.60}"
            )
        builder.add_box(row, place.setdefault(display_name(each.label), len(place)), box)
