"""Truth and predictions over the same images, in the truth's words."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autolabel.evaluation.classes import ClassMatch, match_classes
from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from integrations.formats.coco import read_coco
from integrations.formats.record import Record
from regionspot.errors import InputError

COCO_MAX_DETECTIONS, LVIS_MAX_DETECTIONS = 100, 300


@dataclass(frozen=True)
class Paired:
    """What is compared.

    Attributes:
        categories: the truth's.
        images: the truth's, by ascending id.
        predicted: the predictions of each of these images, in the truth's category ids.
        federated: whether LVIS's rules hold: an image says which absences and which complete
            words were verified, and predictions of any other word do not count.
        classes: how the words were brought together.
        without_predictions: how many images the predictions do not list.
        without_truth: how many images only the predictions list.
    """

    categories: tuple[Category, ...]
    images: tuple[LabelledImage, ...]
    predicted: tuple[tuple[Annotation, ...], ...]
    federated: bool
    classes: ClassMatch
    without_predictions: int = 0
    without_truth: int = 0

    @property
    def max_detections(self) -> int:
        """Predictions that count: in an image and category for COCO, in an image for LVIS."""
        return LVIS_MAX_DETECTIONS if self.federated else COCO_MAX_DETECTIONS


def is_federated(truth: LabelledSet) -> bool:
    """Whether any image says what was verified in it, as LVIS's do."""
    return any(image.absent or image.unverified for image in truth.images)


def pair(truth: LabelledSet, predicted: LabelledSet, federated: bool | None = None) -> Paired:
    """Bring images together by file name, or by id where no name is in both, and words by name.

    Of an image of LVIS, the 300 predictions of the highest score count, and of these only those of
    words that are in the image or verified to be absent.

    Args:
        federated: None: where the truth says what was verified.

    Raises:
        InputError: the two have no image in common, or no word.
    """
    rules = is_federated(truth) if federated is None else federated
    images = tuple(sorted(truth.images, key=lambda image: image.id))
    found = same_images(images, predicted)
    classes = match_classes(truth.categories, predicted.categories)
    if predicted.categories and not classes.ids:
        raise InputError("truth and predictions have no word in common, neither name nor synonym")
    rows = tuple(
        _take(image, other.annotations if other else (), classes, rules)
        for image, other in zip(images, found, strict=True)
    )
    there = sum(other is not None for other in found)
    return Paired(
        truth.categories,
        images,
        rows,
        rules,
        classes,
        len(images) - there,
        len(predicted.images) - there,
    )


def same_images(
    images: Sequence[LabelledImage], predicted: LabelledSet
) -> list[LabelledImage | None]:
    """The predictions of each image, by file name, or by id where no name is in both.

    Raises:
        InputError: there are predictions, and none is of these images.
    """
    by_name = {image.file_name: image for image in predicted.images}
    by_id = {image.id: image for image in predicted.images}
    found = [by_name.get(image.file_name) for image in images]
    if not any(found):
        found = [by_id.get(image.id) for image in images]
    if predicted.images and not any(found):
        raise InputError("truth and predictions have no image in common, neither by name nor by id")
    return found


def _take(
    image: LabelledImage, annotations: tuple[Annotation, ...], classes: ClassMatch, federated: bool
) -> tuple[Annotation, ...]:
    kept = [
        dataclasses.replace(each, category_id=classes.ids[each.category_id])
        for each in annotations
        if each.category_id in classes.ids and not each.is_crowd
    ]
    if federated:
        # LVIS takes the best of all words first, and only then leaves out what is not judged.
        kept.sort(key=score_of, reverse=True)
        judged = {each.category_id for each in image.annotations}.union(image.absent)
        kept = [each for each in kept[:LVIS_MAX_DETECTIONS] if each.category_id in judged]
    return tuple(kept)


def score_of(annotation: Annotation) -> float:
    """A prediction's score; one that has none, such as a person's box, is certain."""
    return 1.0 if annotation.score is None else annotation.score


def read_predictions(path: Path, truth: LabelledSet) -> LabelledSet:
    """Read predictions: a label file as COCO, or a list of results with the truth's ids.

    Raises:
        InputError: the file does not hold together.
    """
    try:
        top = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        top = None  # the reader of label files says what is wrong
    if not isinstance(top, list):
        return read_coco(path)
    images = {image.id: image for image in truth.images}
    found: dict[int, list[Annotation]] = {image.id: [] for image in truth.images}
    known = {category.id for category in truth.categories}
    for index, values in enumerate(top):
        if not isinstance(values, dict):
            raise InputError(f"{path}: results[{index}] must be an object, got {values!r:.40}")
        record = Record(path, "results", index, values)
        image = images.get(record.whole("image_id"))
        if image is None or record.whole("category_id") not in known:
            record.refuse("image_id or category_id is not among the truth's")
        found[image.id].append(
            Annotation(
                record.whole("category_id"),
                record.box("bbox"),
                record.number("score"),
                record.mask("segmentation", image.width, image.height),
            )
        )
    return LabelledSet(
        truth.categories,
        tuple(
            dataclasses.replace(image, annotations=tuple(found[image.id]), absent=(), unverified=())
            for image in truth.images
        ),
    )
