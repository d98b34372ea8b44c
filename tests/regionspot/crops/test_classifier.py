"""CLIP on crops, behind the protocol that the model itself satisfies."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from autolabel.evaluation.predictor import crop_baseline
from regionspot import Examples, load_model
from regionspot.config import CropConfig, CropKind
from regionspot.crops import classifier as crops_module
from regionspot.crops.classifier import BACKGROUND, CropClassifier, cut_out
from regionspot.errors import InputError
from regionspot.localizers.sam import SamLocalizer
from regionspot.scoring import RegionClassifier
from regionspot.types import encode_mask
from tests.regionspot.factories import (
    CONFIG,
    CPU,
    noise_image,
    random_boxes,
    random_words,
    small_encoder,
    small_sam,
)

IMAGE = noise_image()
WORDS = random_words()
NOTHING = np.zeros((0, 4), np.float32)


def classifier(crops: CropKind, scales: tuple[float, ...] = (1.0,)) -> CropClassifier:
    config = CropConfig("small", CONFIG.encoder, crops=crops, scales=scales)
    return CropClassifier(
        config, small_encoder(), lambda: SamLocalizer(small_sam()), CPU, torch.float32
    )


def unit_features(crops: list[np.ndarray]) -> torch.Tensor:
    return F.normalize(small_encoder().image_features(crops), dim=-1)


def test_box_crop_is_clip_on_the_pixels_of_the_box() -> None:
    baseline: RegionClassifier = classifier("box")
    boxes = np.array([[10, 20, 60, 90], [0.5, 0.5, 20.5, 30.2]], np.float32)
    (regions,) = baseline.regions([IMAGE], [boxes])
    expected = unit_features([IMAGE[20:90, 10:60], IMAGE[0:31, 0:21]])
    torch.testing.assert_close(regions.embedding, expected, rtol=0, atol=1e-5)
    labels = baseline.predict(IMAGE, boxes, WORDS)
    assert np.array_equal(labels.boxes, boxes)


def test_the_box_and_its_context_are_ensembled() -> None:
    boxes = np.array([[20, 20, 60, 60], [100, 0, 200, 120]], np.float32)
    (regions,) = classifier("box", scales=(1.0, 1.5)).regions([IMAGE], [boxes])
    alone = unit_features([IMAGE[20:60, 20:60], IMAGE[:, 100:200]])
    context = unit_features([IMAGE[10:70, 10:70], IMAGE[:, 75:200]])  # cut at the image's border
    expected = F.normalize(alone + context, dim=-1)
    torch.testing.assert_close(regions.embedding, expected, rtol=0, atol=1e-5)


def test_sam_is_built_for_masks_alone() -> None:
    def none() -> SamLocalizer:
        raise InputError("mobile-sam-encoder cannot be had")

    without = replace(classifier("box"), build_localizer=none)
    assert len(without.predict(IMAGE, random_boxes(2), WORDS)) == 2
    with pytest.raises(InputError, match="cannot be had; small needs it for masks alone"):
        without.predict(IMAGE, random_boxes(2), WORDS, masks=True)


def test_words_are_embedded_with_their_synonyms_and_examples_refused() -> None:
    words = classifier("box").vocabulary({"cat": ["cat", "kitten"], "dog": []})
    assert words.synonyms == (("cat", "kitten"), ("dog",))
    assert classifier("box").vocabulary({"a photo of a dog": "dog"}).names == ("dog",)
    with pytest.raises(InputError, match=r"examples of 'cat': .* small has none; give words"):
        classifier("box").vocabulary({"cat": Examples([IMAGE], [random_boxes(1)])})


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
    expected = unit_features(crops)
    torch.testing.assert_close(regions.embedding, expected, rtol=0, atol=1e-5)
    assert regions.mask_iou.shape == (3,)
    (unmasked,) = classifier("box").regions([IMAGE], [boxes])
    assert not torch.allclose(unmasked.embedding, regions.embedding)


@pytest.mark.parametrize("crops", ["box", "mask"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_of_crops_change_nothing(
    crops: CropKind, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crops_module, "BATCH", batch_size)
    images = [IMAGE, noise_image(90, 200, seed=1), noise_image(seed=2)]
    boxes = [random_boxes(3), NOTHING, random_boxes(2, seed=2)]
    found = classifier(crops).regions(images, boxes, masks=True)
    assert classifier(crops).regions([], []) == []
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
