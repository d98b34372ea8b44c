"""Which prediction finds which true label, kept for each image so that images can be drawn anew.

The rules are those of COCO's and LVIS's evaluation. Axes: D predictions of all images, K words,
A sizes, T thresholds of IoU, G true labels of one image and word.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from autolabel.evaluation.metrics import AREAS, THRESHOLDS, Floats
from autolabel.evaluation.pairing import Paired, score_of
from integrations.annotations import Annotation, LabelledImage, area, as_rle

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """Predictions that count, by word and descending score.

    Attributes:
        image: (D,) row of the image in `Paired.images`.
        word: (D,) row of the word in `Paired.categories`, ascending.
        score: (D,).
        rank: (D,) how many of the same image and word have a higher score.
        found: (D, A, T) whether a true label was found.
        ignored: (D, A, T) whether it counts neither as right nor as wrong.
        truth_counts: (I, K, A) true labels of each image that count.
    """

    image: Ints
    word: Ints
    score: Floats
    rank: Ints
    found: Bools
    ignored: Bools
    truth_counts: Ints


def match(paired: Paired, kind: str) -> Matches:
    """Match the predictions of each image and word with its true labels.

    Args:
        kind: `bbox`, or `segm` for masks; annotations without a mask are left out then.
    """
    rows = {category.id: row for row, category in enumerate(paired.categories)}
    counts = np.zeros((len(paired.images), len(rows), len(AREAS)), np.int64)
    parts: list[tuple[int, int, Floats, Bools, Bools]] = []
    for index, (image, predicted) in enumerate(zip(paired.images, paired.predicted, strict=True)):
        truth_of, predicted_of = _by_word(image.annotations, kind), _by_word(predicted, kind)
        for word in truth_of.keys() | predicted_of.keys():
            truth = truth_of[word]
            found = sorted(predicted_of[word], key=score_of, reverse=True)
            found = found[: paired.max_detections]
            ignore = _ignored_truth(truth, image, paired.federated)
            counts[index, rows[word]] = (~ignore).sum(axis=1)
            if found:
                hit, skip = _match_one(paired, image, truth, found, ignore, kind)
                if word in image.unverified and paired.federated:
                    skip |= ~hit
                scores = np.array([score_of(each) for each in found])
                parts.append((index, rows[word], scores, hit, skip))
    return _joined(parts, counts)


def _by_word(annotations: tuple[Annotation, ...], kind: str) -> defaultdict[int, list[Annotation]]:
    found: defaultdict[int, list[Annotation]] = defaultdict(list)
    for each in annotations:
        if kind == "bbox" or each.mask is not None:
            found[each.category_id].append(each)
    return found


def _outside(areas: Floats) -> Bools:
    """(A, N) whether an area is not of a size."""
    return (areas < AREAS[:, :1]) | (areas > AREAS[:, 1:])


def _ignored_truth(truth: list[Annotation], image: LabelledImage, federated: bool) -> Bools:
    """(A, G): of another size, or a crowd."""
    areas = np.array([area(each, image.width, image.height) for each in truth], np.float64)
    crowd = np.array([each.is_crowd and not federated for each in truth], np.bool_)
    return _outside(areas) | crowd


def _match_one(
    paired: Paired,
    image: LabelledImage,
    truth: list[Annotation],
    predicted: list[Annotation],
    ignore: Bools,
    kind: str,
) -> tuple[Bools, Bools]:
    """Found and ignored (D, A, T) of the predictions of one image and word."""
    shapes = [_shape(each, image, kind) for each in predicted]
    if kind == "bbox":
        areas = np.array([shape[2] * shape[3] for shape in shapes], np.float64)
    else:
        areas = np.asarray(coco_mask.area(shapes), np.float64)
    found = np.zeros((len(predicted), len(AREAS), len(THRESHOLDS)), np.bool_)
    on_ignored = np.zeros_like(found)
    if truth:
        crowd = [int(each.is_crowd and not paired.federated) for each in truth]
        ious = coco_mask.iou(shapes, [_shape(each, image, kind) for each in truth], crowd)
        _greedy(np.asarray(ious), ignore, np.array(crowd, np.bool_), found, on_ignored)
    return found, on_ignored | (~found & _outside(areas).T[:, :, None])


def _shape(annotation: Annotation, image: LabelledImage, kind: str) -> Any:
    if kind == "bbox":
        x1, y1, x2, y2 = annotation.box
        return [x1, y1, x2 - x1, y2 - y1]
    assert annotation.mask is not None, "annotations without a mask were left out"
    rle = as_rle(annotation.mask, image.width, image.height)
    return {"size": rle["size"], "counts": rle["counts"].encode("ascii")}


def _greedy(ious: Floats, ignore: Bools, crowd: Bools, found: Bools, on_ignored: Bools) -> None:
    """Each prediction, best first, takes the free true label that it overlaps most.

    A label that does not count is taken only where none that counts is left; of equals the last
    one is taken; a crowd is never used up.

    Args:
        ious: (D, G).
        ignore: (A, G).
        found, on_ignored: (D, A, T), written to.
    """
    A, T, G = len(AREAS), len(THRESHOLDS), ious.shape[1]
    taken = np.zeros((A, T, G), np.bool_)
    counts = ~ignore[:, None]
    rows, columns = np.ogrid[:A, :T]
    for number in np.flatnonzero((ious >= THRESHOLDS[0]).any(axis=1)):
        row = ious[number]
        free = (~taken | crowd) & (row >= THRESHOLDS[:, None])
        good = np.where(free & counts, row, -1)[..., ::-1]
        rest = np.where(free & ~counts, row, -1)[..., ::-1]
        has_good, has_rest = good.max(axis=-1) >= 0, rest.max(axis=-1) >= 0
        pick = np.where(has_good, good.argmax(axis=-1), rest.argmax(axis=-1))
        hit = has_good | has_rest
        found[number] = hit
        on_ignored[number] = hit & ~has_good
        taken[rows, columns, G - 1 - pick] |= hit


def _joined(parts: list[tuple[int, int, Floats, Bools, Bools]], counts: Ints) -> Matches:
    if not parts:
        none = np.zeros((0, len(AREAS), len(THRESHOLDS)), np.bool_)
        empty = np.zeros(0, np.int64)
        return Matches(empty, empty, np.zeros(0), empty, none, none, counts)
    lengths = [len(scores) for _, _, scores, _, _ in parts]
    image = np.repeat([part[0] for part in parts], lengths)
    word = np.repeat([part[1] for part in parts], lengths)
    score = np.concatenate([part[2] for part in parts])
    rank = np.concatenate([np.arange(length) for length in lengths])
    # Equal scores stay in the order of images and of rank, as in the reference.
    order = np.lexsort((rank, image, -score, word))
    return Matches(
        image[order],
        word[order],
        score[order],
        rank[order],
        np.concatenate([part[3] for part in parts])[order],
        np.concatenate([part[4] for part in parts])[order],
        counts,
    )
