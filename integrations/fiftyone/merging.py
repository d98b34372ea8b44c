"""Labels of a run that grew, merged into its field beside what a person did there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.annotations import LabelledImage
from integrations.fiftyone.carrying import ReviewedLabels
from integrations.fiftyone.changes import changes_of_image
from integrations.fiftyone.dataset import (
    LabelField,
    Sample,
    in_batches,
    new_sample,
    present_ids,
)
from integrations.fiftyone.labels import is_whole_reviewed, to_detections
from integrations.fiftyone.session import load_dataset


@dataclass(frozen=True)
class GrownImage:
    """An image that is new to a run, or has changed.

    Attributes:
        image: with its labels.
        before: with the labels that the run may have written before, one for each time.
        is_new: whether the run did not have the image when it was last complete.
    """

    image: LabelledImage
    before: tuple[LabelledImage, ...] = ()
    is_new: bool = True


@dataclass
class Merged:
    """Numbers of images.

    Attributes:
        added: that got their first labels.
        relabelled: whose labels were replaced.
        reviewed: whose labels were left as a person reviewed them.
        deleted: that a person had deleted from the dataset, and that stay so.
    """

    added: int = 0
    relabelled: int = 0
    reviewed: int = 0
    deleted: int = 0

    def __str__(self) -> str:
        more = f", {self.deleted} deleted from the dataset and left so" if self.deleted else ""
        return (
            f"images: {self.added} added, {self.relabelled} labelled again, {self.reviewed} "
            f"reviewed and left as they are{more}"
        )


def merge_labels(
    target: LabelField,
    images: Iterable[tuple[Sample, GrownImage]],
    names: Sequence[str],
    provenance: Mapping[str, str],
    new_samples: bool,
    reviewed: ReviewedLabels | None = None,
) -> Merged:
    """Write a run's labels of new and changed images into its field.

    Labels of an image that a person reviewed, in part or as a whole, stay as they are: where one
    was renamed, drawn, moved, deleted, tagged or marked, or the image tagged. Written twice, it is
    as if it was written once.

    Args:
        target: the run's field.
        images: that the dataset holds, or lacks where `new_samples`.
        names: of category 1, 2, ...
        provenance: goes into each label.
        new_samples: whether images that the dataset lacks are added to it.
        reviewed: labels of another field that go with those that are written; None: none.
    """
    import fiftyone as fo

    dataset, merged = load_dataset(target.dataset), Merged()
    for batch in in_batches(images):
        ids = present_ids(dataset, [sample for sample, _ in batch])
        there = {each.id: each for each in dataset.select(list(ids.values()))}
        added = []
        for sample, grown in batch:
            labels = to_detections(grown.image, names, provenance)
            if sample not in ids:
                if grown.is_new and new_samples:
                    added.append(new_sample(sample, grown.image, target.field, labels))
                merged.deleted += not grown.is_new
                continue
            document = there[ids[sample]]
            has_labels = document[target.field] is not None
            is_kept = has_labels and _is_reviewed(document, target.field, grown, names)
            if not has_labels:
                merged.added += 1
            elif is_kept:
                merged.reviewed += 1
                labels = document[target.field]
            else:
                merged.relabelled += 1
            if reviewed and not is_kept:
                labels = reviewed.merge(document, labels)
            document[target.field] = labels
            if new_samples:  # the dataset is the run's own
                size = {"width": grown.image.width, "height": grown.image.height}
                document.metadata = fo.ImageMetadata(**size)
            document.save()
        if added:
            dataset.add_samples(added, dynamic=True, progress=False)
            merged.added += len(added)
    return merged


def _is_reviewed(document: Any, field: str, grown: GrownImage, names: Sequence[str]) -> bool:
    """Whether the labels of an image are other ones than the run wrote, now or before."""
    if is_whole_reviewed(document):
        return True
    by_id = dict(enumerate(names, start=1))
    written = (*grown.before, grown.image)
    return all(changes_of_image(document[field].detections, each, by_id) for each in written)
