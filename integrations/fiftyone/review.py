"""What a person did to the labels of a FiftyOne field: renamed, drew, moved, tagged."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from integrations.fiftyone.dataset import LabelField, Sample, in_batches, present_ids
from integrations.fiftyone.labels import REVIEWED_TAG
from integrations.fiftyone.session import load_dataset
from regionspot.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class SeenLabel:
    """A label as it stands in FiftyOne.

    Attributes:
        box: x1, y1, x2, y2 as shares of the image's width and height.
        word: that it has now.
        predicted: the word that a model gave it; empty where a person drew it.
        tagged: whether it, or its whole image, is tagged "reviewed".
    """

    box: tuple[float, float, float, float]
    word: str
    predicted: str
    tagged: bool


def read_seen(
    target: LabelField, images: Iterable[tuple[Sample, Item]]
) -> Iterator[tuple[Item, tuple[SeenLabel, ...]]]:
    """The labels of each image; those that the dataset does not hold any more are passed over.

    Args:
        images: how FiftyOne knows each, and whatever shall come back with its labels.

    Raises:
        InputError: the dataset or the field is gone, or the field holds no boxes.
    """
    import fiftyone as fo

    dataset = load_dataset(target.dataset)
    if not dataset.has_sample_field(target.field):
        raise InputError(f"FiftyOne's dataset {target.dataset!r} has no field {target.field!r}")
    kind = dataset.get_field(target.field)
    if getattr(kind, "document_type", None) is not fo.Detections:
        raise InputError(f"the field {target.field!r} of {target.dataset!r} must hold Detections")
    for batch in in_batches(images):
        ids = present_ids(dataset, [sample for sample, _ in batch])
        view = dataset.select(list(ids.values())).select_fields(target.field)
        found = {sample.id: sample for sample in view}
        for sample, item in batch:
            if sample in ids:
                yield item, _labels_of(found[ids[sample]], target.field)


def _labels_of(sample: object, field: str) -> tuple[SeenLabel, ...]:
    detections = sample[field]  # type: ignore[index]  # FiftyOne has no types
    whole = REVIEWED_TAG in sample.tags  # type: ignore[attr-defined]
    labels = []
    for each in detections.detections if detections else ():
        left, top, width, height = each.bounding_box
        predicted = each["predicted"] if each.has_field("predicted") else None
        tagged = whole or REVIEWED_TAG in each.tags
        box = (left, top, left + width, top + height)
        labels.append(SeenLabel(box, each.label or "", predicted or "", tagged))
    return tuple(labels)


def run_folder_of(dataset: str, field: str, key: str = "") -> Path | None:
    """The folder of the run that wrote a field, as it registered itself with the dataset.

    Args:
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
