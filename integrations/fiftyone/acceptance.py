"""A person's decisions on the labels that a run wrote, and the acceptance that is marked there."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from integrations.annotations import LabelledImage
from integrations.fiftyone.dataset import LabelField, Sample, in_batches, read_detections
from integrations.fiftyone.label_schema import declare_attribute
from integrations.fiftyone.labels import (
    ACCEPTANCE,
    get_value,
    is_confirmed,
    is_whole_reviewed,
)
from integrations.fiftyone.session import load_dataset
from regionspot.boxes import relative_xywh_to_xyxy

SAME_SCORE = 1e-4  # confidence of a label as written and as stored


def read_decisions(
    target: LabelField, images: Iterable[tuple[Sample, LabelledImage]], names: Sequence[str]
) -> Iterator[tuple[LabelledImage, tuple[bool | None, ...]]]:
    """Each image with, of each label that the run wrote, what a person decided.

    A label is right where it is confirmed with the class that the model gave, wrong where it has
    another class or is gone, and None where nobody reviewed it. An image with the tag "reviewed" is
    reviewed as a whole. Images that the dataset does not hold any more are passed over.

    Args:
        target: the run's field.
        images: with the labels as the run wrote them.
        names: of category 1, 2, ...

    Raises:
        InputError: the dataset is gone, or has no such field of detections.
    """
    for image, sample, detections in read_detections(target, images):
        whole = is_whole_reviewed(sample)
        rows = match_written(image, names, detections)
        yield image, tuple(_decision(row, detections, whole) for row in rows)


def _decision(row: int | None, detections: Sequence[Any], whole: bool) -> bool | None:
    if row is None:
        return False
    detection = detections[row]
    if get_value(detection, "predicted") != detection.label:
        return False
    return True if whole or is_confirmed(detection) else None


def match_written(
    image: LabelledImage, names: Sequence[str], detections: Sequence[Any]
) -> list[int | None]:
    """The place in `detections` of each label that a run wrote; None where it is gone.

    A label is known by the class that the model gave and its confidence, which a person cannot
    edit; of several alike, the one whose box is nearest.
    """
    free = set(range(len(detections)))
    found: list[int | None] = []
    for label in image.annotations:
        name = names[label.category_id - 1]
        alike = [
            row
            for row in free
            if get_value(detections[row], "predicted") == name
            and abs((detections[row].confidence or 0.0) - (label.score or 0.0)) < SAME_SCORE
        ]
        distances = {row: _distance(label.box, detections[row], image) for row in alike}
        best = min(alike, key=lambda row: (distances[row], row), default=None)
        found.append(best)
        free.discard(-1 if best is None else best)
    return found


def _distance(box: Sequence[float], detection: Any, image: LabelledImage) -> float:
    """Sum of the distances of a box's sides from a detection's, in pixels."""
    left, top, width, height = detection.bounding_box
    other = relative_xywh_to_xyxy((left, top, width, height), image.width, image.height)
    return sum(abs(a - b) for a, b in zip(box, other, strict=True))


def mark_acceptance(
    target: LabelField,
    images: Iterable[tuple[Sample, tuple[LabelledImage, Sequence[str | None]]]],
    names: Sequence[str],
) -> None:
    """Write the state of each label that the run wrote into its attribute `acceptance`.

    Labels that a person drew have none. Nothing else of a label changes.

    Args:
        target: the run's field.
        images: with the labels as the run wrote them, and the state of each.
        names: of category 1, 2, ...

    Raises:
        InputError: the dataset is gone, or has no such field of detections.
    """
    dataset = load_dataset(target.dataset)
    path = f"{target.field}.detections.{ACCEPTANCE}"
    declare_attribute(dataset, path, "str")
    for batch in in_batches(images):
        values: dict[str, list[str | None]] = {}
        for (image, states), sample, detections in read_detections(target, batch):
            of_detection: list[str | None] = [None] * len(detections)
            for row, state in zip(match_written(image, names, detections), states, strict=True):
                if row is not None:
                    of_detection[row] = state
            if of_detection:
                values[sample.id] = of_detection
        if values:
            dataset.set_values(path, values, key_field="id")
