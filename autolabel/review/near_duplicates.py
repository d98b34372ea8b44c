"""Images of a run that show the same, found by the features that its shards hold.

Two images are near-duplicates where half of their best boxes lie in the same places and have the
same embeddings. Axes: N images, R boxes of one image, S of another, D text width.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autolabel.run.shards import ImageRegions
from regionspot.boxes import FloatArray, box_iou

_MOST_BOXES = 8
_BLOCK = 1024
# Chosen on altered copies of training photos, by tests/benchmarks/bench_near_duplicates.py.
# Cosine of the mean embeddings, of two boxes' embeddings; IoU of boxes; share of boxes that match.
_MEAN_COSINE, _COSINE, _IOU, _MATCHED = 0.85, 0.9, 0.5, 0.5


@dataclass(frozen=True)
class _Features:
    """The best boxes (R, 4) as fractions of the sides, and their embeddings (R, D)."""

    file_name: str
    boxes: FloatArray
    embedding: npt.NDArray[np.float16]


def near_duplicates(images: Iterable[ImageRegions]) -> tuple[list[str], list[tuple[str, str]]]:
    """The file names of all images, and the pairs of those that show the same.

    Memory grows with the number of images, by about ten kilobytes each.
    """
    names, features, means = [], [], []
    for image in images:
        names.append(image.image.file_name)
        if not image.skipped and len(image.proposals):
            features.append(_features(image))
            mean = features[-1].embedding.astype(np.float32).mean(axis=0)
            means.append(mean / max(float(np.linalg.norm(mean)), 1e-9))
    return names, list(_pairs(features, np.array(means, np.float32))) if features else []


def _features(image: ImageRegions) -> _Features:
    best = np.argsort(-image.proposals.score, kind="stable")[:_MOST_BOXES]
    sides = np.array([image.width, image.height] * 2, np.float32)
    embedding = image.regions.embedding.numpy()[best].astype(np.float16)
    return _Features(image.image.file_name, image.proposals.boxes[best] / sides, embedding)


def _pairs(features: list[_Features], means: FloatArray) -> Iterator[tuple[str, str]]:
    for start in range(0, len(means), _BLOCK):
        cosine = means[start : start + _BLOCK] @ means.T  # (block, N)
        for row, column in np.argwhere(cosine >= _MEAN_COSINE):
            one, other = features[start + row], features[column]
            if start + row < column and _show_the_same(one, other):
                yield one.file_name, other.file_name


def _show_the_same(one: _Features, other: _Features) -> bool:
    cosine = one.embedding.astype(np.float32) @ other.embedding.astype(np.float32).T  # (R, S)
    matches = (cosine >= _COSINE) & (box_iou(one.boxes, other.boxes) >= _IOU)
    return all(float(matches.any(axis=axis).mean()) >= _MATCHED for axis in (0, 1))
