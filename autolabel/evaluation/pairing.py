"""Ground truth and predictions of the same images, in the ground truth's categories."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from regionspot.errors import InputError
from regionspot.names import clean_name, name_key, without_brackets

IouType = Literal["bbox", "segm"]  # what IoU is computed on, in COCO's terms: boxes or masks
COCO_DETECTION_LIMITS, LVIS_DETECTION_LIMITS = (1, 10, 100), (300,)


@dataclass(frozen=True)
class ClassMapping:
    """Which category of the predictions is which of the ground truth.

    Attributes:
        ids: ground-truth category id by the predictions' category id.
        by_synonym: (predicted name, ground-truth name) of categories that only a synonym matches.
        unmatched_predicted: predicted names that match no ground-truth category.
        unmatched_ground_truth: ground-truth names that match no predicted category.
    """

    ids: dict[int, int]
    by_synonym: tuple[tuple[str, str], ...]
    unmatched_predicted: tuple[str, ...]
    unmatched_ground_truth: tuple[str, ...]


@dataclass(frozen=True)
class PairedImages:
    """Ground truth and predictions, image by image.

    Attributes:
        categories: of the ground truth.
        images: of the ground truth, by ascending id.
        predicted: predictions of each of these images, with ground-truth category ids.
        federated: whether LVIS's rules hold: an image lists the categories that are verified to be
            absent or not exhaustively labelled, and predictions of unlisted ones are ignored.
        classes: how the categories were matched.
        without_predictions: number of images that the predictions do not list.
        without_ground_truth: number of images that only the predictions list.
    """

    categories: tuple[Category, ...]
    images: tuple[LabelledImage, ...]
    predicted: tuple[tuple[Annotation, ...], ...]
    federated: bool
    classes: ClassMapping
    without_predictions: int = 0
    without_ground_truth: int = 0

    @property
    def detection_limits(self) -> tuple[int, ...]:
        """COCO's maxDets: best predictions of an image and category that recall is measured on."""
        return LVIS_DETECTION_LIMITS if self.federated else COCO_DETECTION_LIMITS


def is_federated(ground_truth: LabelledSet) -> bool:
    """Whether any image lists verified categories, as LVIS's do."""
    return any(image.absent or image.unverified for image in ground_truth.images)


def pair_images(
    ground_truth: LabelledSet, predictions: LabelledSet, federated: bool | None = None
) -> PairedImages:
    """Match images by file name, or by id where no name is in both, and categories by name.

    Of an image of LVIS, the 300 predictions of the highest score count, and of these only those of
    categories that are labelled in the image or verified to be absent.

    Args:
        ground_truth: annotations by a person.
        predictions: annotations with scores.
        federated: whether LVIS's rules hold; None: where the ground truth lists verified
            categories.

    Raises:
        InputError: the two have no image or no category in common.
    """
    rules = is_federated(ground_truth) if federated is None else federated
    images = tuple(sorted(ground_truth.images, key=lambda image: image.id))
    found = same_images(images, predictions)
    classes = match_classes(ground_truth.categories, predictions.categories)
    if predictions.categories and not classes.ids:
        raise InputError(
            "ground truth and predictions have no class in common, neither name nor synonym"
        )
    rows = tuple(
        _mapped(image, other.annotations if other else (), classes, rules)
        for image, other in zip(images, found, strict=True)
    )
    there = sum(other is not None for other in found)
    return PairedImages(
        ground_truth.categories,
        images,
        rows,
        rules,
        classes,
        len(images) - there,
        len(predictions.images) - there,
    )


def same_images(
    images: Sequence[LabelledImage], predictions: LabelledSet
) -> list[LabelledImage | None]:
    """The predictions of each image, by file name, or by id where no name is in both.

    Raises:
        InputError: there are predictions, and none is of these images.
    """
    by_name = {image.file_name: image for image in predictions.images}
    by_id = {image.id: image for image in predictions.images}
    found = [by_name.get(image.file_name) for image in images]
    if not any(found):
        found = [by_id.get(image.id) for image in images]
    if predictions.images and not any(found):
        raise InputError(
            "ground truth and predictions have no image in common, neither by name nor by id"
        )
    return found


def _mapped(
    image: LabelledImage,
    annotations: tuple[Annotation, ...],
    classes: ClassMapping,
    federated: bool,
) -> tuple[Annotation, ...]:
    kept = [
        dataclasses.replace(each, category_id=classes.ids[each.category_id])
        for each in without_crowds(annotations)
        if each.category_id in classes.ids
    ]
    if federated:
        # LVIS limits the predictions of all categories, and only then ignores unverified ones.
        kept.sort(key=score_of, reverse=True)
        verified = {each.category_id for each in image.annotations}.union(image.absent)
        kept = [each for each in kept[: LVIS_DETECTION_LIMITS[-1]] if each.category_id in verified]
    return tuple(kept)


def score_of(annotation: Annotation) -> float:
    """A prediction's score; 1 for one without, such as a box drawn by a person."""
    return 1.0 if annotation.score is None else annotation.score


def without_crowds(annotations: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """All annotations but crowd regions."""
    return tuple(each for each in annotations if not each.is_crowd)


def of_type(annotations: Iterable[Annotation], iou_type: IouType) -> tuple[Annotation, ...]:
    """All annotations for `bbox`, those that have a mask for `segm`."""
    return tuple(each for each in annotations if iou_type == "bbox" or each.mask is not None)


def match_classes(ground_truth: Sequence[Category], predicted: Sequence[Category]) -> ClassMapping:
    """Match categories by name, then by a synonym that only one category has.

    Names are compared as written, then by `name_key`; a synonym also without what LVIS adds in
    brackets ("bus" is "bus_(vehicle)"). Ids are not compared.
    """
    by_name = {clean_name(each.name).casefold(): each for each in reversed(ground_truth)}
    by_key = _unique((name_key(each.name), each) for each in ground_truth)
    by_synonym = _unique((text, each) for each in ground_truth for text in _strings(each))
    ids: dict[int, int] = {}
    synonyms, unmatched = [], []
    for category in predicted:
        name = clean_name(category.name).casefold()
        found = by_name.get(name) or by_key.get(name_key(name))
        if found is None:
            candidates = {
                match.id: match for text in _strings(category) if (match := by_synonym.get(text))
            }
            found = next(iter(candidates.values())) if len(candidates) == 1 else None
            if found is not None:
                synonyms.append((category.name, found.name))
        if found is None:
            unmatched.append(category.name)
        else:
            ids[category.id] = found.id
    reached = set(ids.values())
    missing = tuple(category.name for category in ground_truth if category.id not in reached)
    return ClassMapping(ids, tuple(synonyms), tuple(unmatched), missing)


def _strings(category: Category) -> set[str]:
    strings = (category.name, *category.synonyms)
    bare = {without_brackets(text) for text in strings} - {""}
    return {name_key(text) for text in (*strings, *bare)}


def _unique(pairs: Iterable[tuple[str, Category]]) -> dict[str, Category]:
    """By string, but for the strings that several categories have."""
    found: dict[str, dict[int, Category]] = {}
    for text, category in pairs:
        found.setdefault(text, {})[category.id] = category
    return {text: next(iter(each.values())) for text, each in found.items() if len(each) == 1}
