"""New labels of a model beside what a person reviewed: in one field, or carried to another.

A reviewed label stays as it is, and a new one that shows the same object is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from integrations.annotations import LabelledImage
from integrations.fiftyone.dataset import (
    LabelField,
    Sample,
    in_batches,
    new_sample,
    present_ids,
)
from integrations.fiftyone.labels import get_value, is_reviewed, is_whole_reviewed, to_detections
from integrations.fiftyone.session import load_dataset
from regionspot.boxes import FloatArray, as_boxes, box_iou, xywh_to_xyxy


def merge_labels(
    target: LabelField,
    images: Iterable[tuple[Sample, LabelledImage]],
    names: Sequence[str],
    provenance: Mapping[str, str],
    new_samples: bool,
    iou: float,
) -> None:
    """Write a model's labels of some images into a field that is there.

    What nobody reviewed there is replaced; all labels of an image that is reviewed as a whole stay.
    Written twice, it is as if it was written once.

    Args:
        target: the run's field.
        images: that the dataset holds, or lacks where `new_samples`.
        names: of category 1, 2, ...
        provenance: goes into each label.
        new_samples: whether images that the dataset lacks are added to it.
        iou: a label that overlaps a reviewed one by as much or more is left out.
    """
    import fiftyone as fo

    dataset = load_dataset(target.dataset)
    for batch in in_batches(images):
        ids = present_ids(dataset, [sample for sample, _ in batch])
        there = {each.id: each for each in dataset.select(list(ids.values()))}
        added = []
        for sample, image in batch:
            labels = to_detections(image, names, provenance)
            if sample not in ids:
                added.append(new_sample(sample, image, target.field, labels))
                continue
            document = there[ids[sample]]
            if document[target.field] is None or not is_whole_reviewed(document):
                document[target.field] = _beside_reviewed(document[target.field], labels, iou)
            if new_samples:  # the dataset is the run's own
                document.metadata = fo.ImageMetadata(width=image.width, height=image.height)
            document.save()
        if added and new_samples:
            dataset.add_samples(added, dynamic=True, progress=False)


def _beside_reviewed(before: Any, labels: Any, iou: float) -> Any:
    """FiftyOne's detections: the reviewed ones of before, and the new ones of other objects."""
    import fiftyone as fo

    reviewed = [each for each in before.detections if is_reviewed(each)] if before else []
    if not reviewed:
        return labels
    overlaps = box_iou(_boxes(labels.detections), _boxes(reviewed))  # (new, reviewed)
    box_ids = {get_value(each, "box_id") for each in reviewed} - {None}
    new = [
        each
        for each, row in zip(labels.detections, overlaps, strict=True)
        if row.max() < iou and get_value(each, "box_id") not in box_ids
    ]
    return fo.Detections(detections=reviewed + new)


def _boxes(detections: Sequence[Any]) -> FloatArray:
    """(N, 4) xyxy in fractions of the image's sides."""
    return xywh_to_xyxy(as_boxes([each.bounding_box for each in detections]))
