"""Resizing on a device against Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image

from regionspot.devices.resample import Filter, bicubic, bilinear, resize, resize_windows
from tests.regionspot.factories import noise_image, random_boxes

FILTERS = [(bilinear, Image.Resampling.BILINEAR), (bicubic, Image.Resampling.BICUBIC)]


def assert_same_levels(got: torch.Tensor, expected: np.ndarray) -> None:
    """But for ties, which each of the two directions may round otherwise."""
    difference = np.abs(got.permute(1, 2, 0).numpy() - expected.astype(np.float32))
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize(("kernel", "pillows"), FILTERS)
@pytest.mark.parametrize("size", [(60, 41), (311, 263), (120, 200), (1, 1), (240, 30)])
def test_whole_images(kernel: Filter, pillows: Image.Resampling, size: tuple[int, int]) -> None:
    image = noise_image()
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], pillows))
    assert_same_levels(resize(torch.from_numpy(image), size, kernel), expected)


@pytest.mark.parametrize(("kernel", "pillows"), FILTERS)
def test_windows(kernel: Filter, pillows: Image.Resampling) -> None:
    image, windows = noise_image(), random_boxes(9)
    windows[0] = 0, 0, 200, 120
    found = resize_windows(torch.from_numpy(image), torch.from_numpy(windows), 32, kernel)
    for square, window in zip(found, windows.tolist(), strict=True):
        expected = np.asarray(Image.fromarray(image).resize((32, 32), pillows, box=window))
        assert_same_levels(square, expected)
