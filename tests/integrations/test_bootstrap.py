"""Resamples of images, and the interval of a value in them."""

import math

import numpy as np

from integrations.bootstrap import bootstrap_rows, bootstrap_weights, percentile_interval


def test_resamples_have_as_many_images_and_repeat() -> None:
    found = list(bootstrap_weights(30, 5))
    assert [each.sum() for each in found] == [30] * 5
    assert np.array_equal(found, list(bootstrap_weights(30, 5)))
    assert not np.array_equal(found[0], found[1])


def test_weights_count_the_rows() -> None:
    for rows, weights in zip(bootstrap_rows(9, 4), bootstrap_weights(9, 4), strict=True):
        assert [list(rows).count(image) for image in range(9)] == weights.tolist()


def test_the_interval_is_of_finite_values() -> None:
    samples = np.random.default_rng(0).normal(size=2000)
    low, high = percentile_interval([*samples, math.nan])
    assert abs(low + 1.96) < 0.15
    assert abs(high - 1.96) < 0.15
    assert all(map(math.isnan, percentile_interval([math.nan])))
