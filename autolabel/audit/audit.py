"""`autolabel audit`: labels of a run that are likely wrong, badly placed or missing.

The regions that the run stored judge the labels, and no model is loaded. Of each label that has a
region, the region's nearest neighbours on other images vote for its class (k nearest neighbours,
leave-one-image-out), and the class that the model gave the same box is a second vote.

Axes: N labels with a region, R regions of one image, D text width, M classes of the encoder.
"""

import csv
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from autolabel.review.label_regions import (
    boxes_of,
    current_labels,
    field_of_run,
    nearest_boxes,
    region_features,
)
from autolabel.run.manifest import LVIS, MANIFEST, read_complete
from autolabel.run.outputs import as_sample, categories_of
from autolabel.run.shards import ImageRegions, read_shards
from integrations.annotations import Annotation, LabelledImage
from integrations.fiftyone.dataset import save_selection
from integrations.fiftyone.review import run_folder_of
from integrations.fiftyone.session import FIFTYONE_PREFIX, connect
from integrations.formats.lvis import read_lvis
from integrations.text import csv_cell
from regionspot.boxes import FloatArray, box_iou
from regionspot.errors import InputError
from regionspot.files import atomic_write
from regionspot.types import Regions

AUDIT = "audit.csv"
VIEW = "likely wrong"  # the field's name follows
WORD, PLACE, MISSING = "word", "place", "missing"
NEIGHBOURS = 10
LEAST = {WORD: 0.5, PLACE: 0.25, MISSING: 0.0}  # score of what is listed
_ROWS = 512  # of the similarity matrix at a time


@dataclass(frozen=True)
class Suspect:
    """A label that is likely wrong, or a box without one.

    Attributes:
        kind: `word`, `place` or `missing`.
        score: in [0, 1], higher is more suspicious; comparable within a kind alone.
        file_name: of the image, relative to the images' folder.
        box: x1, y1, x2, y2 in pixels of the upright image.
        label: the word of the label; empty where it is missing.
        suggestion: the word that the neighbours and the model hold likelier; empty for `place`.
        image_id: of the image in the run.
    """

    kind: str
    score: float
    file_name: str
    box: tuple[float, float, float, float]
    label: str
    suggestion: str
    image_id: int


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        suspects: by kind, most suspicious first.
        images: number of images.
        labels: number of labels.
        unmatched: number of labels that no region of the run overlaps by half; they have no score.
    """

    suspects: tuple[Suspect, ...]
    images: int
    labels: int
    unmatched: int


@dataclass
class Evidence:
    """What is known of the labels that have a region, one entry a label.

    Attributes:
        labels: each with the score 0, in the order of images and of their labels.
        regions: one row each.
        by_model: the model's word of the same object, empty for none, and its margin.
        others: how likely boxes are badly placed, and missing.
        images: number of images.
        unmatched: number of labels without a region, which have no entry.
    """

    labels: list[Suspect] = field(default_factory=list)
    regions: list[Regions] = field(default_factory=list)
    by_model: list[tuple[str, float]] = field(default_factory=list)
    others: list[Suspect] = field(default_factory=list)
    images: int = 0
    unmatched: int = 0


AuditedImage = tuple[ImageRegions, LabelledImage, LabelledImage | None]


def find_audited_run(source: str, label_field_name: str = "") -> Path:
    """The folder of a run, by itself or by a FiftyOne dataset.

    Of a dataset it is the run that wrote the field which is audited, or else the last one.

    Raises:
        InputError: no run labelled the dataset, or there is no such dataset.
    """
    if Path(source).exists():
        return Path(source)
    connect()
    name = source.removeprefix(FIFTYONE_PREFIX)
    folder = run_folder_of(name, label_field_name) or run_folder_of(name, "")
    if folder is None or not (folder / MANIFEST).exists():
        raise InputError(
            f"no run labelled FiftyOne's dataset {name!r}: the regions of one are needed; "
            f"autolabel run {FIFTYONE_PREFIX}{name} makes them"
        )
    return folder


def audit_run(folder: Path, label_field_name: str = "", limit: int | None = None) -> Audit:
    """Rank what is likely wrong in the labels of a run, or in another field of its dataset.

    Args:
        folder: of a complete run.
        label_field_name: a field of detections, such as a person's; empty: the run's own labels, as
            they stand in FiftyOne, or in the run folder where it has none there.
        limit: number of the first images; None: all.

    Raises:
        InputError: there is no such run or field.
    """
    manifest = read_complete(folder)
    regions = (each for each in read_shards(folder, manifest.shards) if not each.skipped)
    names = [category.name for category in categories_of(manifest)]
    by_model = {each.id: each for each in read_lvis(folder / LVIS).images}
    labels = current_labels(folder, manifest, label_field_name)
    # Without the images that were deleted from the dataset.
    by_person = {each.id: each for each in labels.images}
    triples = (
        (each, by_person[each.image.id], by_model.get(each.image.id))
        for each in regions
        if each.image.id in by_person
    )
    return audit_labels(itertools.islice(triples, limit), labels.words, names)


def save_audit_view(folder: Path, audit: Audit, label_field_name: str = "") -> str:
    """Save a view of the images that an audit lists, in its order.

    Returns:
        The view's name; empty where the run has no labels in FiftyOne.
    """
    manifest = read_complete(folder)
    if manifest.fiftyone is None:
        return ""
    order = list(dict.fromkeys(each.image_id for each in audit.suspects))
    listed = set(order)
    samples = {
        each.image.id: as_sample(manifest, each.image)
        for each in read_shards(folder, manifest.shards)
        if each.image.id in listed
    }
    target = field_of_run(folder, label_field_name)
    return save_selection(target, VIEW, [samples[id] for id in order])


def audit_labels(
    images: Iterable[AuditedImage], words: Mapping[int, str], model_words: Sequence[str]
) -> Audit:
    """Rank what is likely wrong in labels, as `collect_evidence` takes them."""
    evidence = collect_evidence(images, words, model_words)
    suspects = [*evidence.others, *word_suspects(evidence)]
    listed = [each for each in suspects if each.score >= LEAST[each.kind]]
    order = list(LEAST)
    listed.sort(key=lambda each: (order.index(each.kind), -each.score, each.image_id, each.box))
    return Audit(
        tuple(listed),
        evidence.images,
        len(evidence.labels) + evidence.unmatched,
        evidence.unmatched,
    )


def collect_evidence(
    images: Iterable[AuditedImage], words: Mapping[int, str], model_words: Sequence[str]
) -> Evidence:
    """What the stored regions and the model's labels say of labels.

    Args:
        images: the regions of an image, its labels, and the model's labels of it.
        words: name of each category of the labels by its id.
        model_words: names of the model's categories, which have the ids 1, 2, ...
    """
    evidence = Evidence()
    for regions, image, predicted in images:
        guesses = predicted.annotations if predicted else ()
        _collect(regions, image, guesses, words, model_words, evidence)
    return evidence


def _collect(
    regions: ImageRegions,
    image: LabelledImage,
    guesses: Sequence[Annotation],
    words: Mapping[int, str],
    model_words: Sequence[str],
    evidence: Evidence,
) -> None:
    """Add one image."""
    evidence.images += 1
    boxes, guessed = boxes_of(image.annotations), boxes_of(guesses)
    shown = nearest_boxes(boxes, regions.proposals.boxes)
    by_model = nearest_boxes(boxes, guessed)
    for row, label in enumerate(image.annotations):
        name = words[label.category_id]
        suspect = Suspect(WORD, 0.0, image.file_name, label.box, name, "", regions.image.id)
        region, overlap = shown[row]
        if region < 0:
            evidence.unmatched += 1
            continue
        evidence.labels.append(suspect)
        evidence.regions.append(regions.regions.select([region]))
        own, _ = by_model[row]
        evidence.by_model.append(_word_of(guesses[own], model_words) if own >= 0 else ("", 0.0))
        placed = _placement(label, overlap, regions, region)
        evidence.others.append(replace(suspect, kind=PLACE, score=1 - placed))
    for guess, (nearest, _) in zip(guesses, nearest_boxes(guessed, boxes), strict=True):
        if nearest < 0:
            word = model_words[guess.category_id - 1]
            at = (image.file_name, guess.box, "", word, regions.image.id)
            evidence.others.append(Suspect(MISSING, guess.score or 0.0, *at))


def _word_of(guess: Annotation, model_words: Sequence[str]) -> tuple[str, float]:
    """The word of a label of the model, and its margin."""
    return model_words[guess.category_id - 1], float(guess.attributes.get("margin") or 0.0)


def _placement(label: Annotation, overlap: float, regions: ImageRegions, region: int) -> float:
    """IoU of a label's box with its region's mask, or with the region's box without masks."""
    if not regions.regions.masks:
        return overlap
    x, y, width, height = coco_mask.toBbox(regions.regions.masks[region])
    if not width * height:
        return overlap
    tight = np.array([[x, y, x + width, y + height]], np.float32)
    return float(box_iou(boxes_of([label]), tight)[0, 0])


def word_suspects(evidence: Evidence) -> list[Suspect]:
    """Each label with the share of the evidence that speaks against its word."""
    names = sorted({each.label for each in evidence.labels})
    number = {name: index for index, name in enumerate(names)}
    classes = np.array([number[each.label] for each in evidence.labels], np.int64)
    images = np.array([each.image_id for each in evidence.labels], np.int64)
    if not evidence.labels:
        return []
    votes = neighbour_votes(region_features(evidence.regions), classes, images, len(names))
    found = []
    for row, label in enumerate(evidence.labels):
        share = {name: float(votes[row, index]) for name, index in number.items()}
        word, margin = evidence.by_model[row]
        if word:  # the margin says how sure the model is of its word
            share = {name: value / 2 for name, value in share.items()}
            share[word] = share.get(word, 0.0) + (1 + margin) / 4
            if word != label.label:
                share[label.label] += (1 - margin) / 4
        if not sum(share.values()):  # no neighbour and no word of the model
            continue
        others = {name: value for name, value in share.items() if name != label.label}
        best = max(others, key=lambda name: others[name], default="")
        score = (1 - share[label.label] + others.get(best, 0.0)) / 2
        found.append(replace(label, score=score, suggestion=best))
    return found


def neighbour_votes(
    features: FloatArray,
    classes: npt.NDArray[np.int64],
    images: npt.NDArray[np.int64],
    count: int,
) -> FloatArray:
    """Share (N, count) of each class among the nearest neighbours on other images.

    Args:
        features: (N, D) L2-normalised.
        classes: (N,) in [0, count).
        images: (N,) a neighbour has another number.
        count: number of classes.
    """
    votes = np.zeros((len(classes), count), np.float32)
    for start in range(0, len(classes), _ROWS):
        rows = slice(start, start + _ROWS)
        alike = features[rows] @ features.T  # (rows, N)
        alike[images[rows][:, None] == images[None]] = -np.inf
        nearest = np.argsort(-alike, axis=1, kind="stable")[:, :NEIGHBOURS]
        weight = np.maximum(np.take_along_axis(alike, nearest, 1), 0)  # (rows, k)
        for vote, near, heavy in zip(votes[rows], nearest, weight, strict=True):
            np.add.at(vote, classes[near], heavy)
    return np.asarray(votes / np.maximum(votes.sum(1, keepdims=True), 1e-6), np.float32)


def write_audit(folder: Path, audit: Audit) -> Path:
    """Write `audit.csv` into the run folder."""
    path = folder / AUDIT
    with atomic_write(path) as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["kind", "score", "image", "x1", "y1", "x2", "y2", "label", "suggestion"])
        for each in audit.suspects:
            box = [f"{side:.1f}" for side in each.box]
            texts = csv_cell(each.label), csv_cell(each.suggestion)
            out.writerow([each.kind, f"{each.score:.4f}", csv_cell(each.file_name), *box, *texts])
    return path
