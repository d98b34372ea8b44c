"""`autolabel review --diverse N`: labels to review first, uncertain and unlike each other.

Greedy k-centre (Gonzalez 1985; for active learning Sener & Savarese 2018, arXiv 1708.00489) on the
features of the regions that a run has stored, whose distances are weighted by uncertainty. Labels
that were reviewed are centres from the start. No image is read and no model is loaded.

Axes: N labels, D features.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from autolabel.review.label_regions import (
    boxes_of,
    current_labels,
    field_of_run,
    nearest_boxes,
    region_features,
)
from autolabel.run.manifest import read_complete
from autolabel.run.outputs import as_sample
from autolabel.run.shards import read_shards
from integrations.annotations import Annotation, LabelledImage
from integrations.fiftyone.dataset import Sample, save_selection
from integrations.fiftyone.labels import REVIEWED
from regionspot.boxes import FloatArray
from regionspot.errors import InputError
from regionspot.types import Regions

VIEW = "review first"  # the field's name follows
FARTHEST = 2.0  # distance of opposite unit vectors


def save_diverse_view(folder: Path, count: int) -> tuple[str, int]:
    """Save a view of the images of the labels to review first, in that order.

    Args:
        folder: of a complete run whose labels are in FiftyOne.
        count: of labels.

    Returns:
        The view's name, and the number of labels that were chosen.

    Raises:
        InputError: there is no such run, or none of its labels is left to review.
    """
    target = field_of_run(folder)
    manifest = read_complete(folder)
    labelled = {each.id: each for each in current_labels(folder, manifest).images}
    regions: list[Regions] = []
    uncertainty: list[float] = []
    reviewed: list[bool] = []
    samples: list[Sample] = []
    for each in read_shards(folder, manifest.shards):
        image = labelled.get(each.image.id)
        if each.skipped or image is None:
            continue
        shown = nearest_boxes(boxes_of(image.annotations), each.proposals.boxes)
        for label, (region, _) in zip(image.annotations, shown, strict=True):
            if region >= 0:
                regions.append(each.regions.select([region]))
                uncertainty.append(1 - float(label.attributes.get("margin") or 0.0))
                reviewed.append(_is_reviewed(label, image))
                samples.append(as_sample(manifest, each.image))
    if all(reviewed):
        raise InputError(f"{folder} has no label that is left to review")
    chosen = diverse_rows(
        region_features(regions), np.array(uncertainty), np.array(reviewed, np.bool_), count
    )
    first = list(dict.fromkeys(samples[row] for row in chosen))
    return save_selection(target, VIEW, first), len(chosen)


def _is_reviewed(label: Annotation, image: LabelledImage) -> bool:
    """Whether a person drew, renamed or confirmed a label, or reviewed its image."""
    marked = label.attributes.get(REVIEWED) or image.attributes.get(REVIEWED)
    return label.score is None or bool(marked)


def diverse_rows(
    features: FloatArray,
    uncertainty: npt.NDArray[np.float64],
    reviewed: npt.NDArray[np.bool_],
    count: int,
) -> list[int]:
    """Rows of the labels to review, the first one first.

    Each is the one of the greatest uncertainty times distance to the nearest label that was
    reviewed or chosen before.

    Args:
        features: (N, D) L2-normalised.
        uncertainty: (N,) in [0, 1].
        reviewed: (N,) whether a label was reviewed; it is not chosen.
        count: of labels; fewer are chosen where no more are left.
    """
    nearest = np.full(len(features), FARTHEST)
    for row in np.flatnonzero(reviewed).tolist():
        nearest = np.minimum(nearest, _distances(features, row))
    left = ~reviewed
    chosen: list[int] = []
    while len(chosen) < count and left.any():
        row = int(np.where(left, uncertainty * nearest, -1.0).argmax())
        chosen.append(row)
        left[row] = False
        nearest = np.minimum(nearest, _distances(features, row))
    return chosen


def _distances(features: FloatArray, row: int) -> npt.NDArray[np.float64]:
    """Distances (N,) of unit vectors (N, D) to one of them."""
    cosine = np.clip(features @ features[row], -1, 1).astype(np.float64)
    return np.asarray(np.sqrt(2 - 2 * cosine), np.float64)
