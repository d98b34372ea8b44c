"""Percentile-bootstrap intervals over images (Efron & Tibshirani 1993, chapter 13).

Axes: I images.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from regionspot.types import IntArray


def bootstrap_rows(images: int, resamples: int, seed: int = 0) -> Iterator[IntArray]:
    """The rows (I,) of each resample of images, sampled with replacement."""
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield generator.integers(0, images, images)


def bootstrap_weights(images: int, resamples: int, seed: int = 0) -> Iterator[IntArray]:
    """How often each image is in each resample (I,), of the rows of `bootstrap_rows`."""
    for rows in bootstrap_rows(images, resamples, seed):
        yield np.bincount(rows, minlength=images)


def percentile_interval(samples: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of a value in resamples, without those that are NaN; NaN without any."""
    finite = [each for each in samples if math.isfinite(each)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite else (math.nan, math.nan)
    return float(low), float(high)
