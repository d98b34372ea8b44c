"""CLIP on crops, behind the protocol that the model itself satisfies."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from autolabel.evaluation.baselines import (
    BACKGROUND,
    CropClassifier,
    CropKind,
    crop_baseline,
    cut_out,
)
from regionspot import load_model
from regionspot.errors import InputError
from regionspot.localizers.sam import SamLocalizer
from regionspot.scoring import RegionClassifier
from regionspot.types import ScoreCalibration, encode_mask
from tests.regionspot.factories import (
    noise_image,
    random_boxes,
    random_words,
    small_encoder,
    small_sam,
)

IMAGE = noise_image()
WORDS = random_words()
NOTHING = np.zeros((0, 4), np.float32)


def classifier(crops: CropKind, batch_size: int = 32) -> CropClassifier:
    encoder = small_encoder()
    calibration = ScoreCalibration.of_encoder(encoder.logit_scale)
    localizer = SamLocalizer(small_sam())
    return CropClassifier(encoder, localizer, "photo", crops, calibration, batch_size)


def test_box_crop_is_clip_on_the_pixels_of_the_box() -> None:
    baseline: RegionClassifier = classifier("box")
    boxes = np.array([[10, 20, 60, 90], [0.5, 0.5, 20.5, 30.2]], np.float32)
    (regions,) = baseline.regions([IMAGE], [boxes])
    crops = [IMAGE[20:90, 10:60], IMAGE[0:31, 0:21]]
    expected = small_encoder().image_features(crops)
    torch.testing.assert_close(regions.embedding, expected, rtol=0, atol=1e-5)
    labels = baseline.predict(IMAGE, boxes, WORDS)
    assert np.array_equal(labels.boxes, boxes)


def test_mask_crop_paints_over_what_is_not_the_region() -> None:
    mask = np.zeros(IMAGE.shape[:2], np.bool_)
    mask[30:50, 20:40] = True
    crop = cut_out(IMAGE, np.array([10, 20, 60, 90], np.float32), encode_mask(mask))
    assert crop.dtype == np.uint8
    assert np.array_equal(crop[10:30, 10:30], IMAGE[30:50, 20:40])
    outside = ~mask[20:90, 10:60]
    assert (crop[outside] == BACKGROUND).all()


def test_mask_crops_are_of_the_localizers_masks() -> None:
    boxes = random_boxes(3)
    (regions,) = classifier("mask").regions([IMAGE], [boxes], masks=True)
    crops = [cut_out(IMAGE, b, m) for b, m in zip(boxes, regions.masks, strict=True)]
    expected = small_encoder().image_features(crops)
    torch.testing.assert_close(regions.embedding, expected, rtol=0, atol=1e-5)
    assert regions.mask_iou.shape == (3,)
    (unmasked,) = classifier("box").regions([IMAGE], [boxes])
    assert not torch.allclose(unmasked.embedding, regions.embedding)


@pytest.mark.parametrize("crops", ["box", "mask"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_of_crops_change_nothing(crops: CropKind, batch_size: int) -> None:
    images = [IMAGE, noise_image(90, 200, seed=1), noise_image(seed=2)]
    boxes = [random_boxes(3), NOTHING, random_boxes(2, seed=2)]
    found = classifier(crops, batch_size).regions(images, boxes, masks=True)
    assert [len(each.embedding) for each in found] == [3, 0, 2]
    assert [len(each.masks) for each in found] == [3, 0, 2]
    for image, rows, each in zip(images, boxes, found, strict=True):
        (alone,) = classifier(crops).regions([image], [rows])
        torch.testing.assert_close(each.embedding, alone.embedding, rtol=0, atol=1e-5)
        assert alone.masks == ()


def test_unusable_input_is_told_as_the_model_tells_it() -> None:
    with pytest.raises(InputError, match="must have x1 < x2"):
        classifier("box").predict(IMAGE, np.array([[9, 9, 5, 5]], np.float32), WORDS)
    with pytest.raises(InputError, match="expected boxes for 1 images, got 0"):
        classifier("box").regions([IMAGE], [])


@pytest.mark.parametrize("crops", ["box", "mask"])
def test_mini_names_the_cat_by_its_crop(
    photo: Callable[[str], Image.Image], crops: CropKind
) -> None:
    image = np.asarray(photo("chelsea"))
    height, width = image.shape[:2]
    boxes = np.array([[100, 20, width - 60, height]], np.float32)
    baseline = crop_baseline(load_model("mini", "cpu", dtype=torch.float32), crops)
    labels = baseline.predict(image, boxes, baseline.vocabulary(["truck", "cat", "banana"]))
    assert labels.name(0) == "cat"
