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
from regionspot.boxes import as_boxes, box_iou

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


@dataclass(frozen=True)
class BoxEdits:
    """What a person did to the boxes and masks of an image's labels.

    Attributes:
        edited: labels with another box or mask as they are now, each with what the run wrote; None
            where that is not known.
        deleted: what the run wrote and is gone.
    """

    edited: tuple[tuple[Any, Annotation | None], ...] = ()
    deleted: tuple[Annotation, ...] = ()


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
    carried_from: str = "",
) -> Changes:
    """What a person changed in a field, over all samples of its dataset.

    Args:
        target: a field; one that holds no detections has values alone.
        written: the labels that a run wrote, by sample id; None where that is not known: then
            labels that were edited or deleted are not counted.
        names: of the categories of `written`.
        carried_from: a field that reviewed labels were copied from; where `written` is not known, a
            label as it stands there is no change of this one. Empty: none.
    """
    dataset, changes = load_dataset(target.dataset), Changes()
    if not holds_detections(dataset, target.field):
        return Changes(values=dataset.count(target.field))
    view = dataset.select_fields([target.field, *filter(None, [carried_from])])
    for sample, detections in samples_with_detections(view, target.field):
        if written is None:
            source = sample[carried_from] if carried_from else None
            copied = [_as_a_person_sees_it(each) for each in source.detections] if source else []
            own = [each for each in detections if _as_a_person_sees_it(each) not in copied]
            changes.add(_changes_of_labels(own))
        else:
            changes.add(changes_of_image(detections, written.get(sample.id), names))
    return changes


def _as_a_person_sees_it(detection: Any) -> tuple[object, ...]:
    values = (get_value(detection, name) for name in ("predicted", REVIEWED))
    return (detection.label, list(detection.bounding_box), list(detection.tags or ()), *values)


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
    found = box_edits(detections, image, names)
    return Changes(edited=len(found.edited), deleted=len(found.deleted))


def box_edits(
    detections: Sequence[Any], image: LabelledImage | None, names: Mapping[int, str]
) -> BoxEdits:
    """Labels that were edited or deleted; arguments as of `changes_of_image`.

    A box that no run wrote stands for one that is gone: of the same class, the nearest.
    """
    written: dict[object, list[tuple[object, Annotation]]] = defaultdict(list)  # by box and class
    for each in image.annotations if image else ():
        name = names[each.category_id]
        assert image is not None
        as_stored = _annotation(to_detection(each, image, name), image)
        written[as_stored.box, name].append((as_stored.mask, each))
    edited: list[tuple[Any, Annotation | None]] = []
    moved: list[tuple[Any, Annotation | None]] = []
    for detection in detections:
        predicted = get_value(detection, "predicted")
        if not predicted:
            continue
        now = _annotation(detection, image) if image else None
        there = written[now.box, predicted] if now else []
        masks = [mask for mask, _ in there]
        if now is None or not there:
            moved.append((detection, now))
        elif now.mask in masks:
            del there[masks.index(now.mask)]
        else:
            edited.append((detection, there.pop()[1]))
    gone = [each for there in written.values() for _, each in there]
    for detection, now in moved:
        origin = _nearest(now, [e for e in gone if names[e.category_id] == detection["predicted"]])
        gone = [each for each in gone if each is not origin]
        edited.append((detection, origin))
    return BoxEdits(tuple(edited), tuple(gone))


def _nearest(now: Annotation | None, others: Sequence[Annotation]) -> Annotation | None:
    """Of some annotations, the one whose box overlaps a box most; None where there is none."""
    if now is None or not others:
        return None
    overlap = box_iou(as_boxes([now.box]), as_boxes([each.box for each in others]))[0]
    return others[int(overlap.argmax())]


def _annotation(detection: Any, image: LabelledImage) -> Annotation:
    return from_detection(detection, {detection.label: 0}, image.width, image.height)
