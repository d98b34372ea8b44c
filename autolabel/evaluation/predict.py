"""What a classifier predicts for each image, for boxes of every origin, and the cache of it.

Axes: N boxes of one image, K classes.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from autolabel.evaluation.matching import LVIS_DETECTION_LIMITS, score_of, without_crowds
from autolabel.evaluation.pairing import MatchImages, match_images
from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    class_labels,
)
from integrations.formats.coco import read_coco, read_coco_results
from integrations.formats.json_stream import is_list
from integrations.formats.parquet import read_parquet
from integrations.progress import Reporter
from regionspot.boxes import as_boxes, clip_boxes
from regionspot.devices.runtime import Runtime
from regionspot.errors import InputError
from regionspot.files import atomic_write
from regionspot.localizers.sam import SamLocalizer
from regionspot.names import display_name, without_underscores
from regionspot.scoring import RegionClassifier, class_probabilities, class_scores
from regionspot.types import ImageArray, Proposals, Vocabulary

GROUND_TRUTH, PROPOSALS = "gt", "proposals"


class Classifier(RegionClassifier, Protocol):
    """A classifier whose localizer and runtime can be asked for."""

    @property
    def localizer(self) -> SamLocalizer:
        """The SAM that gives region tokens and masks."""

    @property
    def runtime(self) -> Runtime:
        """What computes the image towers."""


@dataclass
class ImagePrediction:
    """What a classifier predicts for one image.

    Attributes:
        boxes: (N, 4) xyxy pixels.
        box_scores: (N,) as the detector gave them.
        rows, classes, scores: box, class and score of the best pairs of a box and a class; both
            are rows, of the boxes and of the categories.
        ranks: (N,) for ground-truth boxes, number of classes that score above the own one.
        seconds: from pixels to scores.
        image_id: of the ground truth.
    """

    boxes: list[list[float]]
    box_scores: list[float]
    rows: list[int]
    classes: list[int]
    scores: list[float]
    ranks: list[int] = field(default_factory=list)
    seconds: float = 0.0
    image_id: int = 0


class PredictionCache:
    """Predictions in a file, one a line, below a line with the key of all that they depend on.

    Attributes:
        done: predictions by image id.

    Args:
        path: of the file; one of another key, or a last line that was cut, is dropped.
        key: of all that the predictions depend on.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self.done: dict[int, ImagePrediction] = {}
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        whole = lines[:-1]  # what follows the last line break was not written whole
        if not whole or whole[0] != key:
            whole = [key]
        with atomic_write(path) as file:
            file.writelines(f"{line}\n" for line in whole)
        for line in whole[1:]:
            prediction = ImagePrediction(**json.loads(line))
            self.done[prediction.image_id] = prediction

    def add(self, prediction: ImagePrediction) -> None:
        """Keep a prediction; it is in the file when this returns."""
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(dataclasses.asdict(prediction)) + "\n")
        self.done[prediction.image_id] = prediction


def read_label_file(path: Path) -> LabelledSet:
    """Labels of COCO's or LVIS's JSON, or of a folder of Parquet.

    Raises:
        InputError: it does not hold together.
    """
    return read_parquet(path) if path.is_dir() else read_coco(path)


def read_predictions(
    path: Path, ground_truth: LabelledSet, by: MatchImages | None = None
) -> tuple[LabelledSet, MatchImages]:
    """Predictions, and how their images are matched.

    Args:
        path: of COCO JSON, a folder of Parquet, or COCO's list of results, which has the ground
            truth's ids.
        ground_truth: whose ids a list of results has.
        by: as of `match_images`; None: `id` for a list of results, else `name`.

    Raises:
        InputError: the file does not hold together, or is a list of results, which has ids alone.
    """
    if path.is_dir() or not is_list(path):
        return read_label_file(path), by or "name"
    if by not in (None, "id"):
        raise InputError(
            f"{path} is a list of results, which has the ground truth's ids and no names, but "
            f"--match-images is {by}; leave it out, or say id"
        )
    return read_coco_results(path, ground_truth), "id"


def boxes_of(
    source: str,
    ground_truth: LabelledSet,
    reporter: Reporter,
    match_by: MatchImages | None = None,
) -> dict[int, Proposals] | None:
    """Boxes by image id; None for those that a detector has yet to propose.

    Args:
        source: `gt`, `proposals`, or a file of labels or results.
        ground_truth: whose images are labelled.
        reporter: receives what of a file was paired by which, and what was not.
        match_by: as of `read_predictions`.

    Raises:
        InputError: it is none of them, or the file cannot be read or has none of the images.
    """
    if source == PROPOSALS:
        return None
    if source == GROUND_TRUTH:
        return {
            image.id: _as_proposals(without_crowds(image.annotations), image)
            for image in ground_truth.images
        }
    if not source.endswith(".json"):
        raise InputError(f"--boxes must be gt, proposals or a file.json, got {source!r}")
    labels, by = read_predictions(Path(source), ground_truth, match_by)
    matches = match_images(ground_truth.images, labels.images, by)
    for line in matches.described():
        reporter.message(f"{source}: {line}")
    return {
        image.id: _as_proposals(other.annotations if other else (), image)
        for image, other in zip(ground_truth.images, matches.predicted, strict=True)
    }


def _as_proposals(annotations: Sequence[Annotation], image: LabelledImage) -> Proposals:
    """Boxes clipped to the image. One that is empty there gets a pixel, so that rows stay."""
    boxes = clip_boxes(as_boxes([each.box for each in annotations]), image.width, image.height)
    sides = np.array([image.width, image.height], np.float32)
    boxes[:, :2] = np.minimum(boxes[:, :2], sides - 1)
    thin = boxes[:, 2:] - boxes[:, :2] < 0.01
    boxes[:, 2:] = np.where(thin, boxes[:, :2] + 1, boxes[:, 2:])
    score = np.array([score_of(each) for each in annotations], np.float32)
    return Proposals(boxes, score)


def vocabulary_of(categories: Sequence[Category]) -> dict[str, list[str]]:
    """A name for each category, with the strings that are embedded for it.

    These are without underscores; LVIS's (whose categories have synsets) also without the sense in
    brackets, where no other category has that string.
    """
    labels = class_labels(categories)
    form = display_name if any(each.synset for each in categories) else without_underscores
    shown = Counter(form(each.name) for each in categories)
    texts = {
        each.id: form(each.name)
        if shown[form(each.name)] == 1
        else without_underscores(labels[each.id])
        for each in categories
    }
    return {
        labels[each.id]: list(dict.fromkeys([texts[each.id], *map(form, each.synonyms)]))
        for each in categories
    }


def classify(
    classifier: Classifier,
    vocabulary: Vocabulary,
    image: ImageArray,
    proposals: Proposals,
    targets: Sequence[int] | None = None,
) -> ImagePrediction:
    """The best 300 pairs of box and class: the box's score times the class probability.

    Args:
        classifier: scores regions against words.
        vocabulary: K words.
        image: uint8 (H, W, 3) RGB.
        proposals: N boxes with scores.
        targets: (N,) row of each box's own class, where it is known.
    """
    (regions,) = classifier.regions([image], [proposals.boxes])
    class_score = class_scores(regions, vocabulary)  # (N, K)
    probability = class_probabilities(class_score, classifier.calibration)
    score = probability * torch.from_numpy(proposals.score)[:, None]
    best = score.flatten().topk(min(LVIS_DETECTION_LIMITS[-1], score.numel()))  # of N * K
    rows, classes = best.indices // len(vocabulary), best.indices % len(vocabulary)
    return ImagePrediction(
        boxes=np.round(proposals.boxes, 3).astype(float).tolist(),
        box_scores=proposals.score.astype(float).round(7).tolist(),
        rows=rows.tolist(),
        classes=classes.tolist(),
        scores=[round(value, 7) for value in best.values.tolist()],
        ranks=[] if targets is None else ranks_of(class_score, targets),
    )


def ranks_of(scores: torch.Tensor, targets: Sequence[int]) -> list[int]:
    """(N,) number of classes whose score, of (N, K), is above that of the own class."""
    own = scores.gather(1, torch.tensor(targets, dtype=torch.int64)[:, None])  # (N, 1)
    return [int(rank) for rank in (scores > own).sum(dim=1)]


def labels_of(ground_truth: LabelledSet, predictions: Sequence[ImagePrediction]) -> LabelledSet:
    """The pairs of box and class of each of the ground truth's images, as labels."""
    images = []
    for image, each in zip(ground_truth.images, predictions, strict=True):
        labels = []
        for row, category, score in zip(each.rows, each.classes, each.scores, strict=True):
            x1, y1, x2, y2 = each.boxes[row]
            category_id = ground_truth.categories[category].id
            labels.append(Annotation(category_id, (x1, y1, x2, y2), score))
        size = image.width, image.height
        images.append(LabelledImage(image.id, image.file_name, *size, tuple(labels)))
    return LabelledSet(ground_truth.categories, tuple(images))


def boxes_in(ground_truth: LabelledSet, predictions: Sequence[ImagePrediction]) -> LabelledSet:
    """The boxes of each of the ground truth's images with their own scores, all of one class."""
    alone = [
        dataclasses.replace(
            each,
            rows=list(range(len(each.boxes))),
            classes=[0] * len(each.boxes),
            scores=each.box_scores,
        )
        for each in predictions
    ]
    return labels_of(ground_truth, alone)
