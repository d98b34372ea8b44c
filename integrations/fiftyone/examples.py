"""Labels of a FiftyOne dataset that are examples of a word."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from integrations.fiftyone.dataset import load_detections, samples_with_detections
from regionspot.boxes import box_area, xywh_to_xyxy
from regionspot.errors import InputError


def labelled_boxes(
    name: str, field: str, label: str
) -> Iterator[tuple[Path, npt.NDArray[np.float64]]]:
    """The path of each image that has labels of a class, and their boxes.

    Args:
        name: of the dataset.
        field: of detections.
        label: the class.

    Returns:
        Of each image boxes (n, 4) xyxy in fractions of its sides, clipped to [0, 1]; those without
        an area are left out.

    Raises:
        InputError: there is no such dataset or field, or it has no box of that class.
    """
    from fiftyone import ViewField as F

    dataset = load_detections(name, field)
    view = dataset.filter_labels(field, F("label") == label).select_fields(field)
    count = 0
    for sample, detections in samples_with_detections(view, field):
        corners = [
            xywh_to_xyxy(tuple(each.bounding_box)) for each in detections if each.bounding_box
        ]
        boxes = np.clip(np.array(corners, np.float64).reshape(-1, 4), 0, 1)
        boxes = boxes[box_area(boxes.astype(np.float32)) > 0]
        if len(boxes):
            count += len(boxes)
            yield Path(sample.filepath), boxes
    if not count:
        known = ", ".join(sorted(dataset.distinct(f"{field}.detections.label"))) or "none"
        raise InputError(
            f"FiftyOne's dataset {name!r} has no box of {label!r} in {field!r}; it has {known}"
        )
