"""From regions and words to labels: which box gets which word, and which are kept.

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
    """A model, words and thresholds: one matrix product an image."""

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
            yield (
                each.image,
                labelled_image(
                    labels[rows],
                    confidence[rows],
                    each.image.id,
                    each.image.file_name,
                    each.width,
                    each.height,
                ),
            )


def label_confidence(proposals: Proposals, labels: Labels) -> FloatArray:
    """(N,) in [0, 1]: the detector's score times the word's share of the vocabulary."""
    return np.asarray(proposals.score * labels.score, np.float32)


def is_present(labels: Labels, threshold: float) -> npt.NDArray[np.bool_]:
    """(N,) whether the best word is likely there, judged without regard to the other words.

    A softmax gives every box some word; this is what turns a box down that shows none of them.
    """
    return np.asarray(labels.presence >= threshold)


def select(labels: Labels, confidence: FloatArray, options: Options) -> npt.NDArray[np.int64]:
    """Rows to keep, most confident first; no two boxes overlap by more than `options.iou`.

    The suppression does not look at the words, so that one object gets one label.
    """
    kept = (confidence >= options.conf_threshold) & is_present(labels, options.presence_threshold)
    rows = np.flatnonzero(kept)
    best = nms(
        torch.from_numpy(labels.boxes[rows]), torch.from_numpy(confidence[rows]), options.iou
    )
    return np.asarray(rows[best.numpy()], np.int64)
