"""From regions and words to labels: scores, thresholds and non-maximum suppression.

Axes: N regions of one image, K words.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as coco_mask
from torchvision.ops import box_convert, nms

from autolabel.options import Options
from autolabel.run.images import ImageRef
from autolabel.run.shards import ImageRegions
from integrations.annotations import LabelledImage, labelled_image
from regionspot.boxes import FloatArray
from regionspot.model import RegionModel
from regionspot.nouns.detector_classes import detected_words
from regionspot.scoring import label_regions
from regionspot.types import Labels, Proposals, Regions, Vocabulary


@dataclass(frozen=True)
class Labeller:
    """A model, a vocabulary and thresholds; labelling an image is one matrix product.

    Attributes:
        vocabulary: K words, background words last.
        thresholds: K minimum confidences, None for that of the options; or empty.
        background: number of the last words, whose labels are not written.
    """

    model: RegionModel
    vocabulary: Vocabulary
    options: Options
    thresholds: Sequence[float | None] = ()
    background: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The words whose labels are written."""
        return self.vocabulary.names[: len(self.vocabulary) - self.background]

    def label(
        self, images: Iterable[ImageRegions], left_out: Counter[str] | None = None
    ) -> Iterator[tuple[ImageRef, LabelledImage]]:
        """The labels of each image that was not skipped, most confident first.

        A background word is a word like any other until labels are written: its labels suppress
        others by non-maximum suppression.

        Args:
            images: in any order.
            left_out: counts the labels of each background word.
        """
        written = len(self.names)
        for each in images:
            if each.skipped:
                continue
            labels = self._label(each.proposals, each.regions)
            confidence = label_confidence(each.proposals, labels)
            rows = select(labels, confidence, self.options, self.thresholds)
            rows = without_parts(labels, rows, self.options.containment, self._related)
            is_written = labels.class_id[rows] < written
            if left_out is not None:
                left_out.update(labels.name(row) for row in rows[~is_written])
            rows = rows[is_written]
            ids = each.proposals.ids
            image = labelled_image(
                labels[rows],
                confidence[rows],
                each.image.id,
                each.image.file_name,
                each.width,
                each.height,
                [ids[row] for row in rows] if ids else (),
            )
            yield each.image, replace(image, unverified=image.unverified[:written])

    @cached_property
    def _related(self) -> npt.NDArray[np.bool_]:
        """(K, K) whether a word is, or is a kind of, what another is: "sofa", "couch", "chair"."""
        related = np.eye(len(self.vocabulary), dtype=np.bool_)
        if self.vocabulary.bank is not None:
            kinds = self.vocabulary.bank.kinds.numpy()  # (K, B)
            related |= kinds @ kinds.T > 0
        return related

    def _label(self, proposals: Proposals, regions: Regions) -> Labels:
        weight, detected = self.options.detector_weight, None
        if weight:
            detected = detected_words(proposals, self.vocabulary)
        return label_regions(
            proposals.boxes, regions, self.vocabulary, self.model.calibration, detected, weight
        )


def label_confidence(proposals: Proposals, labels: Labels) -> FloatArray:
    """(N,) in [0, 1]: the proposal's score times the probability of its word."""
    return np.asarray(proposals.score * labels.score, np.float32)


def lowest_threshold(conf_threshold: float, thresholds: Iterable[float | None]) -> float:
    """The least confidence that a label of any word may have.

    Args:
        conf_threshold: of the words that have none of their own.
        thresholds: of words, None for those that have none of their own.
    """
    return min([conf_threshold, *(each for each in thresholds if each is not None)])


def select(
    labels: Labels,
    confidence: FloatArray,
    options: Options,
    thresholds: Sequence[float | None] = (),
) -> npt.NDArray[np.int64]:
    """Rows of the labels to keep, most confident first.

    A softmax gives every box some word; the presence, which does not depend on the other words,
    rejects a box that shows none of them. The non-maximum suppression is class-agnostic, so that
    one object gets one label.

    Args:
        labels: N rows.
        confidence: (N,) of `label_confidence`.
        options: thresholds of confidence, presence and IoU.
        thresholds: K minimum confidences of the words, None for that of the options; or empty.
    """
    least = options.conf_threshold
    own = np.array([least if t is None else t for t in thresholds], np.float32)  # (K,)
    kept = confidence >= (own[labels.class_id] if len(own) else least)
    kept &= labels.presence >= options.presence_threshold
    rows = np.flatnonzero(kept)
    best = nms(
        torch.from_numpy(labels.boxes[rows]), torch.from_numpy(confidence[rows]), options.iou
    )
    return np.asarray(rows[best.numpy()], np.int64)


def without_parts(
    labels: Labels,
    rows: npt.NDArray[np.int64],
    containment: float,
    related: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """The rows without second labels of an object: its parts, and what holds it and little else.

    Such a label overlaps another too little for non-maximum suppression by IoU, but one of the two
    lies almost wholly in the other.

    Args:
        labels: N rows, with masks or without.
        rows: of the labels to choose from, most confident first.
        containment: of two related labels, the less confident one goes where more than this share
            of either mask, or box where there are none, lies in the other; 1 keeps all.
        related: (K, K) which words may be of one object.
    """
    if containment >= 1 or len(rows) < 2:
        return rows
    found = labels[rows]
    shapes = [dict(mask) for mask in found.masks] or box_convert(
        torch.from_numpy(found.boxes), "xyxy", "xywh"
    ).double().numpy()
    inside = coco_mask.iou(shapes, shapes, [True] * len(rows))  # (n, n) by the area of the first
    joined = np.maximum(inside, inside.T) > containment
    joined &= related[found.class_id[:, None], found.class_id]
    kept: list[int] = []
    for row in range(len(rows)):
        if not joined[row, kept].any():
            kept.append(row)
    return rows[kept]
