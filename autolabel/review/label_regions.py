"""Labels of a run as they stand, and the stored regions that show their objects.

Axes: N labels, R regions of one image, D text width, M classes of the encoder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from autolabel.review.app import complete_run
from autolabel.review.export import empty_images, with_new_words
from autolabel.run.manifest import LVIS, Manifest
from autolabel.run.outputs import categories_of, label_field
from integrations.annotations import Annotation, LabelledImage
from integrations.fiftyone.dataset import LabelField, read_labels, words_in_use
from integrations.formats.lvis import stream_lvis
from regionspot.boxes import FloatArray, as_boxes, box_iou
from regionspot.errors import InputError
from regionspot.types import Regions

SAME_OBJECT = 0.5  # IoU of a label and the region, or the model's label, that shows its object


@dataclass(frozen=True)
class CurrentLabels:
    """Labels of the images of a run.

    Attributes:
        words: name of each category by its id.
        images: those that were not skipped, with their labels, one after another.
    """

    words: dict[int, str]
    images: Iterator[LabelledImage]


def current_labels(folder: Path, manifest: Manifest, field_name: str = "") -> CurrentLabels:
    """The labels of a run, or of another field of its dataset, as they stand.

    Args:
        folder: of a complete run.
        manifest: of that run.
        field_name: a field of detections, such as a person's; empty: the run's own labels, from
            FiftyOne, or from the run folder where it has none there.

    Raises:
        InputError: there is no such field.
    """
    if manifest.fiftyone is None:
        if field_name:
            raise InputError(f"--field goes with a run in FiftyOne; {folder} has no labels there")
        words = {each.id: each.name for each in categories_of(manifest)}
        return CurrentLabels(words, stream_lvis(folder / LVIS))
    target = field_of_run(folder, field_name)
    categories = with_new_words(categories_of(manifest), words_in_use(target))
    ids = {each.name: each.id for each in categories}
    images = read_labels(target, empty_images(folder, manifest), ids)
    return CurrentLabels({each.id: each.name for each in categories}, images)


def field_of_run(folder: Path, field_name: str = "") -> LabelField:
    """The label field of a run in FiftyOne, which is connected to, or another one of its dataset.

    Raises:
        InputError: there is no such run, or it has no labels in FiftyOne.
    """
    target = label_field(complete_run(folder))
    return LabelField(target.dataset, field_name, "") if field_name else target


def boxes_of(annotations: Sequence[Annotation]) -> FloatArray:
    """(N, 4) xyxy pixels."""
    return as_boxes([each.box for each in annotations])


def nearest_boxes(boxes: FloatArray, others: FloatArray) -> list[tuple[int, float]]:
    """Of each box the row of the other box that overlaps it most, and their IoU.

    The row is -1 where the IoU is less than `SAME_OBJECT`.

    Args:
        boxes: (N, 4) xyxy pixels.
        others: (R, 4), such as those of regions.
    """
    if not len(others):
        return [(-1, 0.0)] * len(boxes)
    overlap = box_iou(boxes, others)  # (N, R)
    best = overlap.argmax(1) if len(boxes) else np.zeros(0, np.int64)
    found = ((int(row), float(overlap[i, row])) for i, row in enumerate(best))
    return [(row if iou >= SAME_OBJECT else -1, iou) for row, iou in found]


def region_features(regions: Sequence[Regions]) -> FloatArray:
    """(N, D + M) L2-normalised: each region's embedding, and the encoder's centred class logits.

    Args:
        regions: N in all; the logits count where all have them.
    """
    parts = [torch.cat([each.embedding.float() for each in regions])]
    logits = [each.class_logits.float() for each in regions if each.class_logits is not None]
    if len(logits) == len(regions):
        stacked = torch.cat(logits)
        parts.append(stacked - stacked.mean(0))
    unit = torch.cat([F.normalize(each, dim=-1, eps=1e-6) for each in parts], -1)
    return np.asarray(unit / len(parts) ** 0.5, np.float32)
