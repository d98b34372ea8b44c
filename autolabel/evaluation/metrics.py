"""From precision and recall of each word to the figures that the field reports.

Axes: K words, A sizes (all, small, medium, large), T thresholds of IoU, M limits of detections.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from integrations.annotations import Category

Floats = npt.NDArray[np.float64]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
SIZES = ("all", "small", "medium", "large")
# Square pixels (COCO, "Detection evaluation").
AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]], np.float64)
COCO_LIMITS, LVIS_LIMITS = (1, 10, 100), (300,)


@dataclass(frozen=True)
class Curves:
    """What an evaluation found of each word; NaN where the truth has none of it.

    Attributes:
        precision: (K, A, T) mean precision over 101 recalls, with the highest limit.
        recall: (M, K, A, T) highest recall.
    """

    precision: Floats
    recall: Floats


def figures(curves: Curves, categories: tuple[Category, ...], federated: bool) -> dict[str, float]:
    """The figures by name, in [0, 1]; NaN where the truth has nothing to measure one with.

    AP, AP50, AP75 and AP_s, AP_m, AP_l (by size); for LVIS AP_r, AP_c, AP_f (rare, common and
    frequent words). AR is the recall with all detections that count, AR1 and AR10 with as many an
    image and word.
    """
    precision, recall = curves.precision, curves.recall
    found = {
        "AP": _mean(precision[:, 0]),
        "AP50": _mean(precision[:, 0, 0]),
        "AP75": _mean(precision[:, 0, 5]),
        "AP_s": _mean(precision[:, 1]),
        "AP_m": _mean(precision[:, 2]),
        "AP_l": _mean(precision[:, 3]),
    }
    if federated:
        frequency = np.array([category.frequency or "" for category in categories])
        for each in "rcf":
            found[f"AP_{each}"] = _mean(precision[frequency == each, 0])
    else:
        found["AR1"] = _mean(recall[0, :, 0])
        found["AR10"] = _mean(recall[1, :, 0])
    found["AR"] = _mean(recall[-1, :, 0])
    for index, size in enumerate("sml", start=1):
        found[f"AR_{size}"] = _mean(recall[-1, :, index])
    return found


def _mean(values: Floats) -> float:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return float(np.nanmean(values))
