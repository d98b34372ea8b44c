"""Labels that a person reviewed in one field, carried over into another field of the same samples.

Axes: M labels that are carried over, N labels of the run, both of one image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from integrations.annotations import Annotation, LabelledImage
from integrations.fiftyone.changes import BoxEdits, box_edits
from integrations.fiftyone.dataset import LabelField
from integrations.fiftyone.labels import ACCEPTANCE, get_value, is_reviewed, is_whole_reviewed
from integrations.fiftyone.session import load_dataset
from regionspot.boxes import (
    Box,
    FloatArray,
    as_boxes,
    box_iou,
    xywh_to_xyxy,
    xyxy_to_relative_xywh,
)

SAME_IOU = 0.9  # of two boxes of one object by the same or a similar detector


@dataclass
class Carried:
    """Numbers of labels that were carried over, and of labels of the run that were left out.

    Attributes:
        by_box_id: in place of the run's label of the same `box_id`.
        by_iou: in place of the run's label whose box overlaps by an IoU of 0.9 or more.
        added: where the run has no such label.
        left_out: labels of the run that overlap a label that was carried over by more than its IoU
            threshold, that are second or partial ones of such a label's object and word, or of an
            image that is reviewed as a whole.
        deleted: labels of the run whose box and word a person had deleted, and that are left out.
        images: with a label that was carried over.
    """

    by_box_id: int = 0
    by_iou: int = 0
    added: int = 0
    left_out: int = 0
    deleted: int = 0
    images: int = 0

    @property
    def labels(self) -> int:
        """The number that were carried over."""
        return self.by_box_id + self.by_iou + self.added

    def __str__(self) -> str:
        return (
            f"{self.labels} reviewed labels carried over in {self.images} images: {self.by_box_id} "
            f"matched by box id, {self.by_iou} by IoU, {self.added} not matched; labels of this "
            f"run left out: {self.left_out} for these, {self.deleted} that were deleted there"
        )


@dataclass(frozen=True)
class ReviewedLabels:
    """The field of an earlier run, of which a person's labels go into the field of another run.

    These are labels that somebody renamed, drew, confirmed or edited, and all labels of an image
    with the tag "reviewed". They are copied as they stand, with the run that they come from.

    Attributes:
        target: the earlier run's field.
        written: the labels that the earlier run wrote, by sample id; None where that is not known:
            then labels that were only edited are not carried over, and deleted ones come again.
        names: of the categories of `written`.
        iou: labels of the run that overlap a label that is carried over by more are left out.
        containment: so are those of its word of which more than this share of the mask, or box,
            lies in it, or of it in theirs; 1: none.
        carried: counts what `merge` did.
    """

    target: LabelField
    written: Mapping[str, LabelledImage] | None
    names: Mapping[int, str]
    iou: float
    containment: float
    carried: Carried = field(default_factory=Carried)

    def merge_all(self, labels: Mapping[str, Any]) -> dict[str, Any]:
        """As `merge`, of samples by their id."""
        view = load_dataset(self.target.dataset).select(list(labels))
        samples = view.select_fields(self.target.field).iter_samples()
        return {sample.id: self.merge(sample, labels[sample.id]) for sample in samples}

    def merge(self, sample: Any, labels: Any) -> Any:
        """A run's labels of an image with those that a person reviewed.

        A label that is carried over takes the place of the run's label of the same box id, else of
        the box, or the box that it was moved from, with the highest IoU from 0.9; without one it
        follows the others.

        Args:
            sample: FiftyOne's, with the field of the earlier run.
            labels: FiftyOne's `Detections` of the run.
        """
        import fiftyone as fo

        if sample[self.target.field] is None:  # an image that the earlier run did not label
            return labels
        earlier, new = sample[self.target.field].detections, labels.detections
        image = self.written.get(sample.id) if self.written is not None else None
        edits = BoxEdits() if self.written is None else box_edits(earlier, image, self.names)
        origins = {each.id: origin for each, origin in edits.edited}
        whole = is_whole_reviewed(sample)
        kept = [each for each in earlier if whole or is_reviewed(each) or each.id in origins]
        now = as_boxes([_box(each) for each in kept])  # (M, 4)
        before = now.copy()
        for index, each in enumerate(kept):
            if image is not None and (origin := origins.get(each.id)) is not None:
                before[index] = _written_box(origin, image)
        overlaps = _overlaps(new, now)  # (N, M)
        matched = self._match(kept, new, np.maximum(overlaps, _overlaps(new, before)))
        merged = []
        for row, each in enumerate(new):
            if row in matched:
                merged.append(_copied(kept[matched[row]]))
            elif whole or self._is_second(each, kept, overlaps[row]):
                self.carried.left_out += 1
            elif image is not None and self._was_deleted(each, edits.deleted, image):
                self.carried.deleted += 1
            else:
                merged.append(each)
        unmatched = [each for index, each in enumerate(kept) if index not in matched.values()]
        merged += map(_copied, unmatched)
        self.carried.added += len(unmatched)
        self.carried.images += bool(kept)
        return fo.Detections(detections=merged)

    def _is_second(self, label: Any, kept: Sequence[Any], overlaps: FloatArray) -> bool:
        """Whether the object of a label has one that is carried over.

        Args:
            label: of the run.
            kept: M labels that are carried over.
            overlaps: (M,) IoU of their boxes with the label's.
        """
        if overlaps.max(initial=0) > self.iou:
            return True
        return any(
            iou >= SAME_IOU or _containment(label, each) > self.containment
            for each, iou in zip(kept, overlaps, strict=True)
            if iou > 0 and each.label == label.label
        )

    def _match(
        self, kept: Sequence[Any], new: Sequence[Any], overlaps: FloatArray
    ) -> dict[int, int]:
        """The label that is carried over by the row of the run's label that it replaces.

        Args:
            kept: M labels that are carried over.
            new: N labels of the run.
            overlaps: (N, M) IoU of their boxes.
        """
        ids = {get_value(each, "box_id"): row for row, each in enumerate(new)}
        matched: dict[int, int] = {}
        for index, each in enumerate(kept):
            box_id = get_value(each, "box_id")
            if box_id is not None and (row := ids.pop(box_id, None)) is not None:
                matched[row] = index
                self.carried.by_box_id += 1
        overlaps = overlaps.copy()
        overlaps[list(matched)] = 0
        overlaps[:, list(matched.values())] = 0
        while overlaps.max(initial=0) >= SAME_IOU:
            row, index = map(int, np.unravel_index(overlaps.argmax(), overlaps.shape))
            matched[row] = index
            self.carried.by_iou += 1
            overlaps[row], overlaps[:, index] = 0, 0
        return matched

    def _was_deleted(self, label: Any, deleted: Sequence[Annotation], image: LabelledImage) -> bool:
        """Whether a person deleted a label of the same word and of the same box id or box."""
        same = [each for each in deleted if self.names[each.category_id] == label.label]
        ids = [each.attributes["box_id"] for each in same if "box_id" in each.attributes]
        if get_value(label, "box_id") in ids:
            return True
        boxes = as_boxes([_written_box(each, image) for each in same])
        return bool(_overlaps([label], boxes).max(initial=0) >= SAME_IOU)


def _box(detection: Any) -> Box:
    """x1, y1, x2, y2 in parts of the image's sides: its IoU is that of pixels."""
    left, top, width, height = detection.bounding_box
    return xywh_to_xyxy((left, top, width, height))


def _written_box(annotation: Annotation, image: LabelledImage) -> Box:
    """As `_box`, of what a run wrote."""
    return xywh_to_xyxy(xyxy_to_relative_xywh(annotation.box, image.width, image.height))


def _overlaps(labels: Sequence[Any], boxes: FloatArray) -> FloatArray:
    """IoU (N, M) of FiftyOne's detections with relative xyxy boxes (M, 4)."""
    return box_iou(as_boxes([_box(each) for each in labels]), boxes)


def _containment(label: Any, other: Any) -> float:
    """The larger share that either of two masks, or boxes where one has none, has in the other.

    The masks are compared at the pixels of the first label's.
    """
    (x1, y1, x2, y2), (left, top, right, bottom) = _box(label), _box(other)
    area, other_area = (x2 - x1) * (y2 - y1), (right - left) * (bottom - top)
    mask, other_mask = label.get_mask(), other.get_mask()
    if mask is None or other_mask is None:
        shared = (min(x2, right) - max(x1, left)) * (min(y2, bottom) - max(y1, top))
        return float(shared / min(area, other_area))
    (H, W), (h, w) = mask.shape, other_mask.shape
    rows = np.floor((y1 + (np.arange(H) + 0.5) / H * (y2 - y1) - top) / (bottom - top) * h)
    columns = np.floor((x1 + (np.arange(W) + 0.5) / W * (x2 - x1) - left) / (right - left) * w)
    inside = ((rows >= 0) & (rows < h))[:, None] & ((columns >= 0) & (columns < w))  # (H, W)
    places = np.clip(rows, 0, h - 1).astype(int)[:, None], np.clip(columns, 0, w - 1).astype(int)
    shared = (mask > 0)[inside & (other_mask[places] > 0)].sum() / (H * W) * area
    least = min((mask > 0).mean() * area, (other_mask > 0).mean() * other_area)
    return float(shared / least) if least else 0.0


def _copied(detection: Any) -> Any:
    """A label with an id of its own, without what `autolabel accept` decided of the other run."""
    copy = detection.copy()
    if get_value(copy, ACCEPTANCE) is not None:
        copy[ACCEPTANCE] = None
    return copy
