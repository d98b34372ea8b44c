"""COCO's and LVIS's matching of predictions to ground truth, image by image.

Kept per image, matches can be weighted by image, which is what the bootstrap needs and the C++
evaluator does not give. Axes: I images, D predictions (of all images, or of one image and class),
G ground-truth annotations of one image and class, K classes, A area ranges, T IoU thresholds.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from autolabel.evaluation.pairing import (
    ClassMatches,
    ImageMatches,
    MatchImages,
    counted,
    has_own_categories,
    match_classes,
    match_images,
)
from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    area,
    as_rle,
    class_labels,
    uncollected,
    without_unused_twins,
)
from regionspot.boxes import xyxy_to_xywh
from regionspot.errors import InputError
from regionspot.types import Rle

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

IouType = Literal["bbox", "segm"]  # what IoU is computed on, in COCO's terms: boxes or masks
COCO_DETECTION_LIMITS, LVIS_DETECTION_LIMITS = (1, 10, 100), (300,)
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_NAMES = ("all", "small", "medium", "large")
# Square pixels (COCO, "Detection evaluation").
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]], np.float64)


@dataclass(frozen=True)
class PairedImages:
    """Ground truth and predictions, image by image.

    Attributes:
        categories: of the ground truth.
        names: of the ground-truth categories that were matched, by id; no two are equal.
        images: of the ground truth, by ascending id.
        predicted: predictions of each of these images, with ground-truth category ids.
        federated: whether LVIS's rules hold: an image lists the categories that are verified to be
            absent or not exhaustively labelled, and predictions of unlisted ones are ignored.
        classes: how the categories were matched.
        matches: how the images were matched.
        of_unmatched_classes: number of predictions, in paired images, of unmatched categories.
    """

    categories: tuple[Category, ...]
    names: Mapping[int, str]
    images: tuple[LabelledImage, ...]
    predicted: tuple[tuple[Annotation, ...], ...]
    federated: bool
    classes: ClassMatches
    matches: ImageMatches
    of_unmatched_classes: int = 0

    @property
    def detection_limits(self) -> tuple[int, ...]:
        """COCO's maxDets: best predictions of an image and category that recall is measured on."""
        return LVIS_DETECTION_LIMITS if self.federated else COCO_DETECTION_LIMITS

    def described(self) -> list[str]:
        """What was paired by which, and all that was not, each in a line."""
        return [
            *self.matches.described(),
            *self.classes.described(),
            *counted(
                "predicted classes that are not in the ground truth",
                self.classes.unmatched_predicted,
                f"; left out with {self.of_unmatched_classes} predictions",
            ),
        ]


def is_federated(ground_truth: LabelledSet) -> bool:
    """Whether any image lists verified categories, as LVIS's do."""
    return any(image.absent or image.unverified for image in ground_truth.images)


@uncollected()
def pair_images(
    ground_truth: LabelledSet,
    predictions: LabelledSet,
    federated: bool | None = None,
    by: MatchImages = "name",
) -> PairedImages:
    """Match images as `match_images` and categories as `match_classes`.

    Of an image of LVIS, the 300 predictions of the highest score count, and of these only those of
    categories that are labelled in the image or verified to be absent.

    Args:
        ground_truth: annotations by a person.
        predictions: annotations with scores.
        federated: whether LVIS's rules hold; None: where the ground truth lists verified
            categories.
        by: how images are matched.

    Raises:
        InputError: the two have no image or no category in common.
    """
    rules = is_federated(ground_truth) if federated is None else federated
    images = tuple(sorted(ground_truth.images, key=lambda image: image.id))
    matches = match_images(images, predictions.images, by)
    categories = ground_truth.categories, predictions.categories
    if not has_own_categories(*categories):
        categories = _in_use(ground_truth), _in_use(predictions)
    classes = match_classes(*categories)
    if predictions.categories and not classes.ids:
        raise InputError(
            "ground truth and predictions have no class in common, neither name nor synonym"
        )
    rows = tuple(
        _mapped(image, other.annotations if other else (), classes, rules)
        for image, other in zip(images, matches.predicted, strict=True)
    )
    unmatched = sum(
        each.category_id not in classes.ids
        for other in matches.predicted
        for each in (other.annotations if other else ())
    )
    return PairedImages(
        ground_truth.categories,
        class_labels(categories[0]),
        images,
        rows,
        rules,
        classes,
        matches,
        unmatched,
    )


def _mapped(
    image: LabelledImage,
    annotations: tuple[Annotation, ...],
    classes: ClassMatches,
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


def _in_use(labels: LabelledSet) -> tuple[Category, ...]:
    used = {each.category_id for image in labels.images for each in image.annotations}
    return without_unused_twins(labels.categories, used)


@dataclass(frozen=True)
class Matches:
    """Predictions by class and descending score, and whether each is a true positive.

    Attributes:
        image: (D,) row of the image in `PairedImages.images`.
        category: (D,) row of the category in `PairedImages.categories`, ascending.
        score: (D,) confidence in [0, 1].
        rank: (D,) number of predictions of the same image and class with a higher score.
        matched: (D, A, T) whether a ground-truth annotation was matched.
        ignored: (D, A, T) whether the prediction is neither a true nor a false positive.
        ground_truth_counts: (I, K, A) ground-truth annotations that are not ignored.
    """

    image: Ints
    category: Ints
    score: Floats
    rank: Ints
    matched: Bools
    ignored: Bools
    ground_truth_counts: Ints


@uncollected()
def match_predictions(pairs: PairedImages, iou_type: IouType) -> Matches:
    """Match the predictions of each image and class with its ground truth.

    Args:
        pairs: what is compared.
        iou_type: `bbox`, or `segm` for masks; annotations without a mask are left out then.
    """
    rows = {category.id: row for row, category in enumerate(pairs.categories)}
    counts = np.zeros((len(pairs.images), len(rows), len(AREA_RANGES)), np.int64)
    none = np.zeros((0, len(AREA_RANGES), len(IOU_THRESHOLDS)), np.bool_)
    parts: list[tuple[int, int, Floats, Bools, Bools]] = [(0, 0, np.zeros(0), none, none)]
    for index, (image, annotations) in enumerate(zip(pairs.images, pairs.predicted, strict=True)):
        labels_of = _by_category(of_type(image.annotations, iou_type))
        predicted_of = _by_category(of_type(annotations, iou_type))
        for category in labels_of.keys() | predicted_of.keys():
            labels = labels_of[category]
            predicted = sorted(predicted_of[category], key=score_of, reverse=True)
            predicted = predicted[: pairs.detection_limits[-1]]
            crowd = np.array([each.is_crowd and not pairs.federated for each in labels], np.bool_)
            areas = np.array([area(each, image.width, image.height) for each in labels], np.float64)
            ignore = _outside(areas) | crowd  # (A, G)
            counts[index, rows[category]] = (~ignore).sum(axis=1)
            if predicted:
                matched, ignored = _match_class(image, labels, predicted, crowd, ignore, iou_type)
                if category in image.unverified and pairs.federated:
                    ignored |= ~matched
                scores = np.array([score_of(each) for each in predicted])
                parts.append((index, rows[category], scores, matched, ignored))
    return _joined(parts, counts)


def _by_category(annotations: Iterable[Annotation]) -> defaultdict[int, list[Annotation]]:
    found: defaultdict[int, list[Annotation]] = defaultdict(list)
    for each in annotations:
        found[each.category_id].append(each)
    return found


def _outside(areas: Floats) -> Bools:
    """(A, N) whether areas (N,) lie outside of each range."""
    return (areas < AREA_RANGES[:, :1]) | (areas > AREA_RANGES[:, 1:])


def _match_class(
    image: LabelledImage,
    labels: Sequence[Annotation],
    predicted: Sequence[Annotation],
    crowd: Bools,
    ignore: Bools,
    iou_type: IouType,
) -> tuple[Bools, Bools]:
    """`Matches.matched` and `ignored` (D, A, T) of one image and class.

    Args:
        image: that both are of.
        labels: (G,) ground truth.
        predicted: (D,) by descending score.
        crowd: (G,) crowd regions.
        ignore: (A, G) ground truth that is ignored.
        iou_type: `bbox` or `segm`.
    """
    shapes = shapes_of(predicted, image, iou_type)
    matched = np.zeros((len(predicted), len(AREA_RANGES), len(IOU_THRESHOLDS)), np.bool_)
    on_ignored = np.zeros_like(matched)
    if labels:
        ious = coco_mask.iou(shapes, shapes_of(labels, image, iou_type), crowd.astype(np.uint8))
        _greedy(np.asarray(ious), ignore, crowd, matched, on_ignored)
    if isinstance(shapes, np.ndarray):
        areas = shapes[:, 2] * shapes[:, 3]
    else:
        areas = np.asarray(coco_mask.area(shapes), np.float64)
    outside = _outside(areas).T[:, :, None]  # (D, A, 1)
    return matched, on_ignored | (~matched & outside)


def shapes_of(
    annotations: Sequence[Annotation], image: LabelledImage, iou_type: IouType
) -> Floats | list[Rle]:
    """As pycocotools takes them: xywh boxes (N, 4), or the run lengths of masks."""
    if iou_type == "bbox":
        boxes = np.array([each.box for each in annotations], np.float64).reshape(-1, 4)
        return xyxy_to_xywh(boxes)
    masks = [each.mask for each in annotations if each.mask is not None]
    return [as_rle(mask, image.width, image.height) for mask in masks]


def _greedy(ious: Floats, ignore: Bools, crowd: Bools, matched: Bools, on_ignored: Bools) -> None:
    """COCO's greedy matching: each prediction, best first, takes the free label of highest IoU.

    An ignored label is taken only where no other is left; of labels with equal IoU the last one is
    taken; a crowd may be taken again.

    Args:
        ious: (D, G), predictions by descending score.
        ignore: (A, G) ground truth that is ignored.
        crowd: (G,) crowd regions.
        matched: (D, A, T) bool, written to.
        on_ignored: (D, A, T) bool, written to.
    """
    A, T, G = len(AREA_RANGES), len(IOU_THRESHOLDS), ious.shape[1]
    taken = np.zeros((A, T, G), np.bool_)
    counts = ~ignore[:, None]  # (A, 1, G)
    rows, columns = np.ogrid[:A, :T]
    for number in np.flatnonzero((ious >= IOU_THRESHOLDS[0]).any(axis=1)):
        iou = ious[number]
        free = (~taken | crowd) & (iou >= IOU_THRESHOLDS[:, None])  # (A, T, G)
        # Reversed, so that argmax finds the last of equals.
        counted = np.where(free & counts, iou, -1)[..., ::-1]
        rest = np.where(free & ~counts, iou, -1)[..., ::-1]
        has_counted, has_rest = counted.max(axis=-1) >= 0, rest.max(axis=-1) >= 0  # (A, T)
        pick = np.where(has_counted, counted.argmax(axis=-1), rest.argmax(axis=-1))  # (A, T)
        matched[number] = has_counted | has_rest
        on_ignored[number] = has_rest & ~has_counted
        taken[rows, columns, G - 1 - pick] |= matched[number]


def _joined(parts: list[tuple[int, int, Floats, Bools, Bools]], counts: Ints) -> Matches:
    images, categories, scores, matched, ignored = zip(*parts, strict=True)
    lengths = [len(each) for each in scores]
    image, category = np.repeat(images, lengths), np.repeat(categories, lengths)  # (D,)
    score = np.concatenate(scores)
    rank = np.concatenate([np.arange(length) for length in lengths])
    # Equal scores stay in the order of images and of rank, as in the reference.
    order = np.lexsort((rank, image, -score, category))
    return Matches(
        image[order],
        category[order],
        score[order],
        rank[order],
        np.concatenate(matched)[order],
        np.concatenate(ignored)[order],
        counts,
    )
