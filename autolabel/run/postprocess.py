"""From regions and words to labels: scores, thresholds and non-maximum suppression.

Axes: N regions of one image.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import nms

from autolabel.options import Options
from autolabel.run.images import ImageRef
from autolabel.run.shards import ImageRegions
from integrations.annotations import LabelledImage, labelled_image
from regionspot.boxes import FloatArray
from regionspot.model import RegionSpot
from regionspot.types import Labels, Proposals, Vocabulary


@dataclass(frozen=True)
class Labeller:
    """A model, a vocabulary and thresholds; labelling an image is one matrix product."""

    model: RegionSpot
    vocabulary: Vocabulary
    options: Options

    def label(self, images: Iterable[ImageRegions]) -> Iterator[tuple[ImageRef, LabelledImage]]:
        """The labels of each image that was not skipped, most confident first."""
        for each in images:
            if each.skipped:
                continue
            labels = self.model.label(each.proposals.boxes, each.regions, self.vocabulary)
            confidence = label_confidence(each.proposals, labels)
            rows = select(labels, confidence, self.options)
            ids = each.proposals.ids
            yield (
                each.image,
                labelled_image(
                    labels[rows],
                    confidence[rows],
                    each.image.id,
                    each.image.file_name,
                    each.width,
                    each.height,
                    [ids[row] for row in rows] if ids else (),
                ),
            )


def label_confidence(proposals: Proposals, labels: Labels) -> FloatArray:
    """(N,) in [0, 1]: the proposal's score times the probability of its word."""
    return np.asarray(proposals.score * labels.score, np.float32)


def select(labels: Labels, confidence: FloatArray, options: Options) -> npt.NDArray[np.int64]:
    """Rows of the labels to keep, most confident first.

    A softmax gives every box some word; the presence, which does not depend on the other words,
    rejects a box that shows none of them. The non-maximum suppression is class-agnostic, so that
    one object gets one label.

    Args:
        labels: N rows.
        confidence: (N,) of `label_confidence`.
        options: thresholds of confidence, presence and IoU.
    """
    kept = confidence >= options.conf_threshold
    kept &= labels.presence >= options.presence_threshold
    rows = np.flatnonzero(kept)
    best = nms(
        torch.from_numpy(labels.boxes[rows]), torch.from_numpy(confidence[rows]), options.iou
    )
    return np.asarray(rows[best.numpy()], np.int64)
