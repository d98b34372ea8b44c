"""A field of detections of a FiftyOne dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from integrations.fiftyone.dataset import load_detections, samples_with_detections
from integrations.fiftyone.labels import get_value
from integrations.fiftyone.session import connect
from regionspot.errors import InputError
from train.data.box_table import BoxTableBuilder, BoxTableImages
from train.data.dataset import Dataset, join_synonyms

# Attributes of a detection that say it is no single, real object: those of COCO's and of Open
# Images' importers.
LEFT_OUT = ("iscrowd", "maybe_crowd", "IsGroupOf", "IsDepiction")


def read_fiftyone(name: str, field: str = "ground_truth") -> Dataset:
    """The samples of a dataset that have boxes in a field, in the dataset's order.

    Labels are read once; a change in FiftyOne is seen by the next call. Classes are called as the
    labels are. Crowds, groups and
    depictions are left out. `verified` is None: what is not boxed counts as absent.

    Args:
        name: of the dataset, in the database that FiftyOne is set up with.
        field: of detections.

    Raises:
        InputError: there is no such dataset or field, or it holds no detections.
    """
    connect()
    dataset = load_detections(name, field)
    class_index: dict[str, int] = {}
    source = Path(f"fiftyone:{name},field={field}")
    builder = BoxTableBuilder(source, Path("/"), relative=True)
    found = samples_with_detections(dataset.exists(field).select_fields(field), field)
    for row, (sample, detections) in enumerate(found):
        _add(builder, row, sample, detections, class_index)
    listed = dataset.classes.get(field) or dataset.default_classes or []
    names = dict.fromkeys([*listed, *class_index])
    table = builder.finish(tuple(class_index))
    classes = join_synonyms((name, ()) for name in names)
    return Dataset(str(source), classes, BoxTableImages(table, path_of=Path))


def _add(
    builder: BoxTableBuilder,
    row: int,
    sample: Any,
    detections: Sequence[Any],
    class_index: dict[str, int],
) -> None:
    metadata = sample.metadata
    width, height = (metadata.width or 0, metadata.height or 0) if metadata else (0, 0)
    builder.add_image(row, sample.filepath, width, height)
    for each in detections:
        if any(get_value(each, key) for key in LEFT_OUT):
            continue
        box = each.bounding_box
        if not each.label or box is None or not np.isfinite(box).all() or len(box) != 4:
            raise InputError(
                f"{builder.source}: {sample.filepath}: a detection must have a label and a "
                f"bounding_box of four numbers, got {each.label!r} and {box!r:.60}"
            )
        index = class_index.setdefault(each.label, len(class_index))
        builder.add_box(row, index, box)
