"""Precision and recall by faster-coco-eval, which matches and accumulates in C++.

Axes: K classes, A area ranges, T IoU thresholds, R recall levels, M limits of detections.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from autolabel.evaluation.matching import IouType, PairedImages, of_type, score_of, shapes_of
from autolabel.evaluation.metrics import PrecisionRecall
from integrations.annotations import Annotation, LabelledImage, area

Record = dict[str, Any]


def evaluate_coco(pairs: PairedImages, iou_type: IouType) -> PrecisionRecall:
    """Precision and recall of each class, as pycocotools or the `lvis` package find them.

    Args:
        pairs: images, ground truth and predictions.
        iou_type: `bbox`, or `segm` for masks; annotations without a mask are left out then.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    quiet = {"print_function": lambda *_: None}
    ground_truth = COCO(coco_ground_truth(pairs, iou_type), **quiet)
    results = ground_truth.loadRes(coco_results(pairs, iou_type))
    evaluation = COCOeval_faster(
        ground_truth, results, iou_type, lvis_style=pairs.federated, **quiet
    )
    evaluation.params.maxDets = list(pairs.detection_limits)
    evaluation.evaluate()
    evaluation.accumulate()
    # The evaluator orders classes by id; -1 marks those that the ground truth has none of.
    order = np.argsort(np.argsort([category.id for category in pairs.categories]))
    precision = np.asarray(evaluation.eval["precision"], np.float64)  # (T, R, K, A, M)
    recall = np.asarray(evaluation.eval["recall"], np.float64)  # (T, K, A, M)
    mean = precision[..., -1].mean(axis=1).transpose(1, 2, 0)[order]  # (K, A, T)
    recall = recall.transpose(3, 1, 2, 0)[:, order]  # (M, K, A, T)
    return PrecisionRecall(*(np.where(each < 0, np.nan, each) for each in (mean, recall)))


def coco_ground_truth(pairs: PairedImages, iou_type: IouType) -> Record:
    """The ground truth as a COCO or LVIS file's content. Annotations are numbered from 1."""
    annotations = [
        {"area": area(each, image.width, image.height), "ignore": 0}
        | {"iscrowd": int(each.is_crowd and not pairs.federated)}
        | record
        for image in pairs.images
        for each, record in _records(image, image.annotations, iou_type)
    ]
    return {
        "images": [
            {
                "id": image.id,
                "width": image.width,
                "height": image.height,
                "neg_category_ids": list(image.absent),
                "not_exhaustive_category_ids": list(image.unverified),
            }
            for image in pairs.images
        ],
        "annotations": [{"id": row} | each for row, each in enumerate(annotations, start=1)],
        "categories": [
            {"id": each.id, "name": each.name, "frequency": each.frequency or "f"}
            for each in pairs.categories
        ],
    }


def coco_results(pairs: PairedImages, iou_type: IouType) -> list[Record]:
    """The predictions as a list of COCO results."""
    return [
        record | {"score": score_of(each)}
        for image, predicted in zip(pairs.images, pairs.predicted, strict=True)
        for each, record in _records(image, predicted, iou_type)
    ]


def _records(
    image: LabelledImage, annotations: Sequence[Annotation], iou_type: IouType
) -> list[tuple[Annotation, Record]]:
    """Annotations of an image with the record of each.

    A record has a box or a mask: of one with both, evaluators would take the area of the box.
    """
    kept = of_type(annotations, iou_type)
    shapes = shapes_of(kept, image, iou_type)
    values = shapes.tolist() if isinstance(shapes, np.ndarray) else shapes
    key = {"bbox": "bbox", "segm": "segmentation"}[iou_type]
    return [
        (each, {"image_id": image.id, "category_id": each.category_id, key: value})
        for each, value in zip(kept, values, strict=True)
    ]
