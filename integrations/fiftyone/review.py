"""What a person did to the labels of a FiftyOne field: renamed, drew, moved, tagged."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from integrations.fiftyone.dataset import LabelField, Sample, read_detections
from integrations.fiftyone.labels import REVIEWED_TAG, get_value
from integrations.fiftyone.session import load_dataset
from regionspot.boxes import Box, xywh_to_xyxy
from regionspot.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class SeenLabel:
    """A label as it stands in FiftyOne.

    Attributes:
        box: x1, y1, x2, y2 in fractions of the image's sides.
        word: its class now.
        predicted: the class that a model gave it; empty where a person drew it.
        tagged: whether it, or its whole image, is tagged "reviewed".
    """

    box: Box
    word: str
    predicted: str
    tagged: bool


def read_seen(
    target: LabelField, images: Iterable[tuple[Sample, Item]]
) -> Iterator[tuple[Item, tuple[SeenLabel, ...]]]:
    """The labels of each image; images and errors as `read_detections` has them."""
    for item, sample, detections in read_detections(target, images):
        whole = REVIEWED_TAG in sample.tags
        yield item, tuple(_seen(each, whole) for each in detections)


def _seen(detection: Any, is_tagged: bool) -> SeenLabel:
    left, top, width, height = detection.bounding_box
    return SeenLabel(
        xywh_to_xyxy((left, top, width, height)),
        detection.label or "",
        get_value(detection, "predicted") or "",
        is_tagged or REVIEWED_TAG in detection.tags,
    )


def run_folder_of(dataset: str, field: str, key: str = "") -> Path | None:
    """The folder of the run that wrote a field, as it registered itself with the dataset.

    Args:
        dataset: FiftyOne's name of it.
        field: of its samples.
        key: of the run; empty: whichever wrote the field last.

    Returns:
        None where no run is registered for the field.

    Raises:
        InputError: the dataset has no run of that key.
    """
    loaded = load_dataset(dataset)
    keys = loaded.list_runs()
    if key and key not in keys:
        known = ", ".join(keys) or "none"
        raise InputError(f"FiftyOne's dataset {dataset!r} has no run {key!r}; it has {known}")
    for each in [key] if key else reversed(keys):
        config = loaded.get_run_info(each).config
        if getattr(config, "label_field", None) == field and hasattr(config, "run_folder"):
            return Path(config.run_folder)
    return None
