"""What a person changed in a field of labels, against what a run wrote there."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.annotations import Annotation, LabelledImage
from integrations.fiftyone.dataset import (
    LabelField,
    Sample,
    holds_detections,
    in_batches,
    present_ids,
    samples_with_detections,
)
from integrations.fiftyone.labels import (
    REVIEWED,
    from_detection,
    get_value,
    to_detection,
)
from integrations.fiftyone.session import load_dataset

_SHOWN = {
    "edited": "with another box or mask",
    "images": "images tagged",
    "values": "values in other fields",
}


@dataclass
class Changes:
    """Numbers of labels, and of images, that a person changed; a label counts once for each.

    Attributes:
        renamed: labels with another class than predicted.
        drawn: labels that no model predicted.
        edited: labels with another box or mask.
        deleted: labels that are gone.
        tagged: labels with a tag or the check mark.
        images: images with a tag.
        values: values of other fields.
    """

    renamed: int = 0
    drawn: int = 0
    edited: int = 0
    deleted: int = 0
    tagged: int = 0
    images: int = 0
    values: int = 0

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __str__(self) -> str:
        return ", ".join(f"{count} {_SHOWN.get(n, n)}" for n, count in vars(self).items() if count)

    def add(self, other: "Changes") -> None:
        """Add the counts of another field or image."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


def samples_by_id(
    dataset: str, images: Iterable[tuple[Sample, LabelledImage]]
) -> dict[str, LabelledImage]:
    """The images that a dataset still holds, by FiftyOne's id of the sample."""
    loaded = load_dataset(dataset)
    found: dict[str, LabelledImage] = {}
    for batch in in_batches(images):
        ids = present_ids(loaded, [sample for sample, _ in batch])
        found |= {ids[sample]: image for sample, image in batch if sample in ids}
    return found


def changes_of_field(
    target: LabelField,
    written: Mapping[str, LabelledImage] | None,
    names: Mapping[int, str],
) -> Changes:
    """What a person changed in a field, over all samples of its dataset.

    Args:
        target: a field; one that holds no detections has values alone.
        written: the labels that a run wrote, by sample id; None where that is not known: then
            labels that were edited or deleted are not counted.
        names: of the categories of `written`.
    """
    dataset, changes = load_dataset(target.dataset), Changes()
    if not holds_detections(dataset, target.field):
        return Changes(values=dataset.count(target.field))
    view = dataset.select_fields(target.field)
    for sample, detections in samples_with_detections(view, target.field):
        if written is None:
            changes.add(_changes_of_labels(detections))
        else:
            changes.add(changes_of_image(detections, written.get(sample.id), names))
    return changes


def changes_of_image(
    detections: Sequence[Any], image: LabelledImage | None, names: Mapping[int, str]
) -> Changes:
    """What a person changed in the labels of an image, against those that a run wrote there.

    Args:
        detections: FiftyOne's, as they are now.
        image: with the labels that the run wrote; None: it wrote none.
        names: of the categories of `image`.
    """
    changes = _changes_of_labels(detections)
    changes.add(_changes_of_boxes(detections, image, names))
    return changes


def _changes_of_labels(detections: Sequence[Any]) -> Changes:
    """What the labels of an image themselves tell."""
    predicted = [get_value(each, "predicted") for each in detections]
    return Changes(
        renamed=sum(
            bool(name) and name != each.label
            for name, each in zip(predicted, detections, strict=True)
        ),
        drawn=sum(not name for name in predicted),
        tagged=sum(bool(each.tags) or bool(get_value(each, REVIEWED)) for each in detections),
    )


def _changes_of_boxes(
    detections: Sequence[Any], image: LabelledImage | None, names: Mapping[int, str]
) -> Changes:
    """Labels that were edited or deleted: a box that no run wrote stands for one that is gone."""
    written: dict[object, list[object]] = defaultdict(list)  # masks, by box and class
    for each in image.annotations if image else ():
        name = names[each.category_id]
        assert image is not None
        as_stored = _annotation(to_detection(each, image, name), image)
        written[as_stored.box, name].append(as_stored.mask)
    changes, moved = Changes(), 0
    for detection in detections:
        predicted = get_value(detection, "predicted")
        if not predicted:
            continue
        now = _annotation(detection, image) if image else None
        masks = written[now.box, predicted] if now else []
        if now is None or not masks:
            moved += 1
        elif now.mask in masks:
            masks.remove(now.mask)
        else:
            masks.pop()
            changes.edited += 1
    changes.edited += moved
    changes.deleted = max(sum(map(len, written.values())) - moved, 0)
    return changes


def _annotation(detection: Any, image: LabelledImage) -> Annotation:
    return from_detection(detection, {detection.label: 0}, image.width, image.height)
