"""What pycocotools and the `lvis` package say of the same predictions."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from lvis import LVIS, LVISEval, LVISResults
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from autolabel.evaluation.coco_eval import coco_results, coco_truth
from autolabel.evaluation.pairing import Paired

COCO_NAMES = ("AP", "AP50", "AP75", "AP_s", "AP_m", "AP_l", "AR1", "AR10", "AR")
COCO_NAMES += ("AR_s", "AR_m", "AR_l")
LVIS_NAMES = {"APs": "AP_s", "APm": "AP_m", "APl": "AP_l", "APr": "AP_r", "APc": "AP_c"}
LVIS_NAMES |= {"APf": "AP_f", "AR@300": "AR", "ARs@300": "AR_s", "ARm@300": "AR_m"}
LVIS_NAMES |= {"ARl@300": "AR_l"}

# lvis 0.5.3 was written for a NumPy that had this name.
if not hasattr(np, "float"):
    np.float = float  # type: ignore[attr-defined]


def coco_figures(paired: Paired, kind: str) -> dict[str, float]:
    """pycocotools' figures; -1, for nothing to measure, becomes NaN."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_truth(paired, kind)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(coco_results(paired, kind)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(COCO_NAMES, map(measured, evaluation.stats), strict=True))


def lvis_figures(paired: Paired, kind: str, folder: Path) -> dict[str, float]:
    """The `lvis` package's figures; -1, for nothing to measure, becomes NaN."""
    path = folder / "truth.json"
    path.write_text(json.dumps(coco_truth(paired, kind)))
    truth = LVIS(str(path))
    evaluation = LVISEval(truth, LVISResults(truth, coco_results(paired, kind)), kind)
    evaluation.run()
    found = evaluation.get_results()
    return {LVIS_NAMES.get(name, name): measured(value) for name, value in found.items()}


def measured(value: float) -> float:
    """NaN where the packages say -1."""
    return float("nan") if value < 0 else float(value)
