"""Metrics of the same predictions by pycocotools and the `lvis` package."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from lvis import LVIS, LVISEval, LVISResults
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from autolabel.evaluation.matching import IouType, PairedImages
from autolabel.evaluation.metrics import coco_ground_truth, coco_results

COCO_NAMES = ("AP", "AP50", "AP75", "AP_s", "AP_m", "AP_l", "AR1", "AR10", "AR")
COCO_NAMES += ("AR_s", "AR_m", "AR_l")
LVIS_NAMES = {"APs": "AP_s", "APm": "AP_m", "APl": "AP_l", "APr": "AP_r", "APc": "AP_c"}
LVIS_NAMES |= {"APf": "AP_f", "AR@300": "AR", "ARs@300": "AR_s", "ARm@300": "AR_m"}
LVIS_NAMES |= {"ARl@300": "AR_l"}

# lvis 0.5.3 was written for a NumPy that had this name.
if not hasattr(np, "float"):
    np.float = float  # type: ignore[attr-defined]


def coco_metrics(pairs: PairedImages, iou_type: IouType) -> dict[str, float]:
    """pycocotools' metrics; -1, for nothing to measure, becomes NaN."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = coco_ground_truth(pairs, iou_type)
        ground_truth.createIndex()
        evaluation = COCOeval(
            ground_truth, ground_truth.loadRes(coco_results(pairs, iou_type)), iou_type
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(COCO_NAMES, map(or_nan, evaluation.stats), strict=True))


def lvis_metrics(pairs: PairedImages, iou_type: IouType, folder: Path) -> dict[str, float]:
    """The `lvis` package's metrics; -1, for nothing to measure, becomes NaN."""
    path = folder / "ground_truth.json"
    path.write_text(json.dumps(coco_ground_truth(pairs, iou_type)))
    ground_truth = LVIS(str(path))
    evaluation = LVISEval(
        ground_truth, LVISResults(ground_truth, coco_results(pairs, iou_type)), iou_type
    )
    evaluation.run()
    found = evaluation.get_results()
    return {LVIS_NAMES.get(name, name): or_nan(value) for name, value in found.items()}


def or_nan(value: float) -> float:
    """NaN where the packages say -1."""
    return float("nan") if value < 0 else float(value)
