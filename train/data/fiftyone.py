"""A field of detections of a FiftyOne dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from integrations.annotations import Tally
from integrations.fiftyone.dataset import (
    load_detections,
    samples_with_detections,
    stored_size,
)
from integrations.fiftyone.labels import get_value
from integrations.fiftyone.session import connect
from integrations.formats.outlines import enclosing_box, parse_degrees, rotated_box
from integrations.images import image_size
from regionspot.boxes import relative_xywh_to_xyxy, xyxy_to_relative_xywh
from train.data import coco, open_images
from train.data.box_table import BoxTableBuilder, BoxTableImages
from train.data.dataset import Dataset, join_synonyms

# Attributes of a detection that say it is no single, real object, and what it is: those of COCO's
# and of Open Images' importers.
LEFT_OUT = coco.CROWDS | open_images.LEFT_OUT


def read_fiftyone(name: str, field: str = "ground_truth", tally: Tally | None = None) -> Dataset:
    """The samples of a dataset that have boxes in a field, in the dataset's order.

    Labels are read once; a change in FiftyOne is seen by the next call. Classes are called as the
    labels are. Crowds, groups and depictions are left out. `verified` is None: what is not boxed
    counts as absent.

    Args:
        name: of the dataset, in the database that FiftyOne is set up with.
        field: of detections.
        tally: counts what is left out; None: a new one.

    Raises:
        InputError: there is no such dataset or field, or it holds no box to train on.
    """
    connect()
    dataset = load_detections(name, field)
    class_index: dict[str, int] = {}
    source = Path(f"fiftyone:{name},field={field}")
    builder = BoxTableBuilder(source, Path("/"), relative=True, tally=tally or Tally())
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
    width, height = stored_size(sample) or (0, 0)
    builder.add_image(row, sample.filepath, width, height)
    where = f"{builder.source}: {sample.filepath}"
    for each in detections:
        if kind := next((kind for key, kind in LEFT_OUT.items() if get_value(each, key)), None):
            builder.tally.leave_out(kind, "training takes single objects", where)
            continue
        box = each.bounding_box
        if not each.label:
            builder.tally.leave_out("label", "it has no class", where)
            continue
        if box is None or len(box) != 4 or not np.isfinite(box).all():
            builder.tally.leave_out("label", "it has no box of four finite numbers", where)
            continue
        degrees = parse_degrees(get_value(each, "rotation"), where)
        if degrees and each.mask is None:
            sides = stored_size(sample) or image_size(Path(sample.filepath))
            outline = rotated_box(relative_xywh_to_xyxy(tuple(box), *sides), degrees)
            box = xyxy_to_relative_xywh(enclosing_box((outline,)), *sides)
            builder.tally.change("rotated box", "the box around it stands for its angle", where)
        index = class_index.setdefault(each.label, len(class_index))
        builder.add_box(row, index, box)
