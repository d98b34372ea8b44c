"""What a person did to the labels of a FiftyOne field, and which regions they corrected.

A label is a person's if they gave it another class, drew or moved its box, or marked it (or tagged
its image) "reviewed". A label left alone says nothing, even beside one that was corrected: nobody
knows whether the person saw it. An image with the tag and without a label is verified to be empty.

Axes: N regions of one image, the proposals first and then the boxes that a person drew.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from integrations.fiftyone.dataset import (
    LabelField,
    Sample,
    holds_detections,
    read_detections,
    samples_with_detections,
)
from integrations.fiftyone.labels import (
    REVIEWED,
    get_value,
    is_confirmed,
    is_reviewed,
    is_whole_reviewed,
)
from integrations.fiftyone.session import load_dataset
from regionspot.boxes import Box, FloatArray, box_area, clip_boxes, relative_to_pixels, xywh_to_xyxy
from regionspot.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class SeenLabel:
    """A label as it stands in FiftyOne.

    Attributes:
        box: x1, y1, x2, y2 in fractions of the image's sides.
        word: its class now.
        predicted: the class that a model gave it; empty where a person drew it.
        tagged: whether it is marked, or its whole image is tagged, "reviewed".
    """

    box: Box
    word: str
    predicted: str
    tagged: bool


def read_seen(
    target: LabelField, images: Iterable[tuple[Sample, Item]]
) -> Iterator[tuple[Item, tuple[SeenLabel, ...], bool]]:
    """The labels of each image, and whether it is verified to be empty.

    Images and errors are as `read_detections` has them.
    """
    for item, sample, detections in read_detections(target, images):
        whole = is_whole_reviewed(sample)
        yield item, tuple(_seen(each, whole) for each in detections), whole and not detections


def _seen(detection: Any, is_tagged: bool) -> SeenLabel:
    left, top, width, height = detection.bounding_box
    return SeenLabel(
        xywh_to_xyxy((left, top, width, height)),
        detection.label or "",
        get_value(detection, "predicted") or "",
        is_tagged or is_confirmed(detection),
    )


def unlabelled_samples(name: str, besides: str) -> frozenset[str]:
    """FiftyOne's ids of the samples of a dataset that have no label.

    Args:
        name: of the dataset.
        besides: a field whose labels do not count.

    Raises:
        InputError: there is no such dataset, or it does not hold images.
    """
    dataset = load_dataset(name)
    labelled = {sample.id for sample, labels in _labels_of_all_fields(dataset, besides) if labels}
    return frozenset(dataset.values("id")) - labelled


def unreviewed_samples(name: str, besides: str) -> frozenset[str]:
    """FiftyOne's ids of the samples that are not reviewed and have no reviewed label.

    Arguments and errors are as `unlabelled_samples` has them.
    """
    dataset = load_dataset(name)
    reviewed = set(dataset.match_tags(REVIEWED).values("id"))
    for sample, labels in _labels_of_all_fields(dataset, besides):
        if any(map(is_reviewed, labels)):
            reviewed.add(sample.id)
    return frozenset(dataset.values("id")) - reviewed


def _labels_of_all_fields(dataset: Any, besides: str) -> Iterator[tuple[Any, Sequence[Any]]]:
    for field in dataset.get_field_schema():
        if field != besides and holds_detections(dataset, field):
            yield from samples_with_detections(dataset.select_fields(field), field)


def run_folder_of(dataset: str, field: str, key: str = "") -> Path | None:
    """The folder of the run that wrote a field, as it registered itself with the dataset.

    Args:
        dataset: FiftyOne's name of it.
        field: of its samples; empty: any.
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
        is_of_field = field in ("", getattr(config, "label_field", None))
        if is_of_field and hasattr(config, "run_folder"):
            return Path(config.run_folder)
    return None


# A label's box went through FiftyOne's fractions of the sides and back.
SAME_BOX_PIXELS = 0.05


@dataclass(frozen=True)
class ReviewedImage:
    """The regions of an image and what a person said of them.

    Attributes:
        id: unique in its set.
        path: of the image file.
        width, height: of the upright image, in pixels.
        proposals: (P, 4) float32 xyxy pixels, the boxes that the model classified.
        drawn: (N - P, 4) float32 xyxy pixels, the boxes that a person drew or moved.
        words: N; the class that a person gave, or empty.
        predicted: N; the class that the model gave, or empty where it gave none.
        sampled: whether the image is in the sample that does not depend on what a person did.
        is_empty: whether a person verified that no proposal shows any of the words.
    """

    id: int
    path: Path
    width: int
    height: int
    proposals: FloatArray
    drawn: FloatArray
    words: tuple[str, ...]
    predicted: tuple[str, ...]
    sampled: bool = False
    is_empty: bool = False

    @property
    def corrected(self) -> npt.NDArray[np.bool_]:
        """(N,) whether a person's class is another than the model's, or their box is new."""
        pairs = zip(self.words, self.predicted, strict=True)
        return np.array([bool(word) and word != before for word, before in pairs], np.bool_)

    @property
    def is_touched(self) -> bool:
        """Whether a person said anything of it."""
        return self.is_empty or any(self.words)


def reviewed_image(
    id: int,
    path: Path,
    size: tuple[int, int],
    labels: Sequence[SeenLabel],
    proposals: FloatArray | None,
) -> ReviewedImage:
    """Match labels to the boxes that the model classified.

    Args:
        id: unique in its set.
        path: of the image file.
        size: width and height of the upright image, in pixels.
        labels: as they stand in FiftyOne.
        proposals: (P, 4) float32 xyxy pixels; None where the run is gone: then the boxes of the
            labels that a model gave stand for them, and none of these counts as moved.
    """
    width, height = size
    labels = [e for e in labels if e.word and box_area(_pixels([e], width, height))[0] > 0]
    if proposals is None:
        proposals = _pixels([each for each in labels if each.predicted], width, height)
    words, predicted = [""] * len(proposals), [""] * len(proposals)
    drawn = []
    for label, box in zip(labels, _pixels(labels, width, height), strict=True):
        row = _same_box(box, proposals, predicted) if label.predicted else None
        if row is None:
            drawn.append((label, box))
            continue
        predicted[row] = label.predicted
        if label.tagged or label.word != label.predicted:
            words[row] = label.word
    return ReviewedImage(
        id,
        path,
        width,
        height,
        proposals,
        np.array([box for _, box in drawn], np.float32).reshape(-1, 4),
        (*words, *(label.word for label, _ in drawn)),
        (*predicted, *("" for _ in drawn)),
    )


def _pixels(labels: Sequence[SeenLabel], width: int, height: int) -> FloatArray:
    """(N, 4) xyxy pixels, inside the image."""
    relative = np.array([each.box for each in labels], np.float64).reshape(-1, 4)
    return clip_boxes(relative_to_pixels(relative, width, height).astype(np.float32), width, height)


def _same_box(box: FloatArray, proposals: FloatArray, taken: Sequence[str]) -> int | None:
    """The row of a box among those that no label has taken yet."""
    near = np.abs(proposals - box).max(1, initial=0) < SAME_BOX_PIXELS
    return next((row for row in np.flatnonzero(near).tolist() if not taken[row]), None)
