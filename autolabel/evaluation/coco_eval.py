"""The fast path: faster-coco-eval, which matches and accumulates in C++."""

from typing import Any

import numpy as np

from autolabel.evaluation.metrics import COCO_LIMITS, LVIS_LIMITS, Curves, Floats
from autolabel.evaluation.pairing import Paired, score_of
from integrations.annotations import Annotation, LabelledImage, area, as_rle

IouKind = str  # "bbox" or "segm"


def fast_curves(paired: Paired, kind: IouKind) -> Curves:
    """Precision and recall of each word, as pycocotools or the `lvis` package find them.

    Args:
        kind: `bbox`, or `segm` for masks; annotations without a mask are left out then.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    quiet = {"print_function": lambda *_: None}
    truth = COCO(coco_truth(paired, kind), **quiet)
    results = coco_results(paired, kind)
    words = len(paired.categories)
    if not results:
        return _nothing_found(paired, kind, words)
    evaluation = COCOeval_faster(
        truth, truth.loadRes(results), kind, lvis_style=paired.federated, **quiet
    )
    limits = LVIS_LIMITS if paired.federated else COCO_LIMITS
    evaluation.params.maxDets = list(limits)
    # In the truth's order, which is that of the ids.
    evaluation.evaluate()
    evaluation.accumulate()
    order = np.argsort(np.argsort([category.id for category in paired.categories]))
    precision = np.asarray(evaluation.eval["precision"], np.float64)  # (T, R, K, A, M)
    recall = np.asarray(evaluation.eval["recall"], np.float64)  # (T, K, A, M)
    mean = precision[..., -1].mean(axis=1).transpose(1, 2, 0)[order]
    highest = recall.transpose(3, 1, 2, 0)[:, order]
    return Curves(_nan(mean), _nan(highest))


def _nan(values: Floats) -> Floats:
    return np.where(values < 0, np.nan, values)


def _nothing_found(paired: Paired, kind: IouKind, words: int) -> Curves:
    """Zero for each word and size that the truth has."""
    from autolabel.evaluation.matching import match

    found = match(paired, kind)
    there = np.where(found.truth_counts.sum(axis=0) > 0, 0.0, np.nan)  # (K, A)
    precision = np.repeat(there[..., None], 10, axis=2)
    limits = len(LVIS_LIMITS if paired.federated else COCO_LIMITS)
    assert len(precision) == words
    return Curves(precision, np.repeat(precision[None], limits, axis=0))


def coco_truth(paired: Paired, kind: IouKind) -> dict[str, Any]:
    """The truth as a COCO or LVIS file's content. Annotations are numbered from 1."""
    annotations: list[dict[str, Any]] = []
    for image in paired.images:
        for each in image.annotations:
            if kind == "bbox" or each.mask is not None:
                x1, y1, x2, y2 = each.box
                record = {"bbox": [x1, y1, x2 - x1, y2 - y1], "id": len(annotations) + 1}
                record |= _record(each, image, kind)
                record["area"] = area(each, image.width, image.height)
                record["iscrowd"] = int(each.is_crowd and not paired.federated)
                record["ignore"] = 0
                annotations.append(record)
    return {
        "images": [
            {
                "id": image.id,
                "width": image.width,
                "height": image.height,
                "neg_category_ids": list(image.absent),
                "not_exhaustive_category_ids": list(image.unverified),
            }
            for image in paired.images
        ],
        "annotations": annotations,
        "categories": [
            {"id": each.id, "name": each.name, "frequency": each.frequency or "f"}
            for each in paired.categories
        ],
    }


def coco_results(paired: Paired, kind: IouKind) -> list[dict[str, Any]]:
    """The predictions as a list of COCO's results.

    A result has a box or a mask: of one with both, evaluations would take the size of the box.
    """
    return [
        _record(each, image, kind) | {"score": score_of(each)}
        for image, predicted in zip(paired.images, paired.predicted, strict=True)
        for each in predicted
        if kind == "bbox" or each.mask is not None
    ]


def _record(annotation: Annotation, image: LabelledImage, kind: IouKind) -> dict[str, Any]:
    x1, y1, x2, y2 = annotation.box
    record: dict[str, Any] = {"image_id": image.id, "category_id": annotation.category_id}
    if kind == "bbox":
        return record | {"bbox": [x1, y1, x2 - x1, y2 - y1]}
    assert annotation.mask is not None, "annotations without a mask were left out"
    return record | {"segmentation": as_rle(annotation.mask, image.width, image.height)}
