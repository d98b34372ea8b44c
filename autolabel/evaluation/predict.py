"""What a classifier says of one image: boxes of every origin, words, and scores.

Axes: N boxes of one image, K words.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from autolabel.evaluation.cache import Record
from autolabel.evaluation.pairing import LVIS_MAX_DETECTIONS, read_predictions, score_of
from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from regionspot.boxes import as_boxes, clip_boxes
from regionspot.classifier import RegionClassifier
from regionspot.errors import InputError
from regionspot.localizers.sam import SamLocalizer
from regionspot.names import display_name
from regionspot.scoring import Scoring, cosines, word_shares
from regionspot.types import ImageArray, Proposals, Vocabulary

GIVEN, PROPOSALS = "gt", "proposals"


class Classifier(RegionClassifier, Protocol):
    """A classifier whose cosines and boxes' towers can be asked for."""

    @property
    def scoring(self) -> Scoring:
        """How cosines become scores."""

    @property
    def localizer(self) -> SamLocalizer:
        """What the regions are cut out by."""


def boxes_of(source: str, truth: LabelledSet) -> dict[int, Proposals] | None:
    """Boxes by image id; None for those that a detector has yet to propose.

    Args:
        source: `gt`, `proposals`, or a file of labels or results.

    Raises:
        InputError: it is none of them, or the file cannot be read.
    """
    if source == PROPOSALS:
        return None
    if source == GIVEN:
        return {image.id: _as_proposals(judged(image), image) for image in truth.images}
    if not source.endswith(".json"):
        raise InputError(f"--boxes must be gt, proposals or a file.json, got {source!r}")
    data = read_predictions(Path(source), truth)
    by_name = {image.file_name: image for image in data.images}
    by_id = {image.id: image for image in data.images}
    found = {}
    for image in truth.images:
        other = by_name.get(image.file_name) or by_id.get(image.id)
        found[image.id] = _as_proposals(other.annotations if other else (), image)
    return found


def judged(image: LabelledImage) -> tuple[Annotation, ...]:
    """The true labels that are given as boxes: all but crowds."""
    return tuple(each for each in image.annotations if not each.is_crowd)


def _as_proposals(annotations: Sequence[Annotation], image: LabelledImage) -> Proposals:
    """Boxes clipped to the image. One that is empty there gets a pixel, so that rows stay."""
    boxes = clip_boxes(as_boxes([each.box for each in annotations]), image.width, image.height)
    sides = np.array([image.width, image.height], np.float32)
    boxes[:, :2] = np.minimum(boxes[:, :2], sides - 1)
    thin = boxes[:, 2:] - boxes[:, :2] < 0.01
    boxes[:, 2:] = np.where(thin, boxes[:, :2] + 1, boxes[:, 2:])
    score = np.array([score_of(each) for each in annotations], np.float32)
    return Proposals(boxes, score)


def words_of(categories: Sequence[Category]) -> dict[str, list[str]]:
    """Names with the strings that stand for them, as a person would write them."""
    return {
        each.name: list(dict.fromkeys(display_name(text) for text in (each.name, *each.synonyms)))
        for each in categories
    }


def classify(
    classifier: Classifier,
    vocabulary: Vocabulary,
    image: ImageArray,
    proposals: Proposals,
    true: Sequence[int] | None = None,
) -> Record:
    """The best 300 pairs of box and word of one image: the box's score times the word's share.

    Args:
        true: (N,) row of each box's own word, where it is known.
    """
    (regions,) = classifier.regions([image], [proposals.boxes])
    cosine = cosines(regions.embedding, vocabulary)
    score = word_shares(cosine, classifier.scoring) * torch.from_numpy(proposals.score)[:, None]
    best = score.flatten().topk(min(LVIS_MAX_DETECTIONS, score.numel()))
    rows, words = best.indices // len(vocabulary), best.indices % len(vocabulary)
    return Record(
        boxes=np.round(proposals.boxes, 3).astype(float).tolist(),
        box_scores=proposals.score.astype(float).round(7).tolist(),
        rows=rows.tolist(),
        words=words.tolist(),
        scores=[round(value, 7) for value in best.values.tolist()],
        ranks=[] if true is None else ranks_of(cosine, true),
    )


def ranks_of(cosine: torch.Tensor, true: Sequence[int]) -> list[int]:
    """(N,) how many words are preferred to the true one, of cosines (N, K)."""
    own = cosine.gather(1, torch.tensor(true, dtype=torch.int64)[:, None])
    return [int(rank) for rank in (cosine > own).sum(dim=1)]
