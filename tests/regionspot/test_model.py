"""The public surface on a small model: one row a box, whatever else is asked at the same time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import regionspot
from regionspot.errors import InputError
from regionspot.model import Predictor, RegionSpot
from regionspot.types import decode_mask
from tests.regionspot.factories import (
    CONFIG,
    noise_image,
    random_boxes,
    random_words,
    relative_error,
    small_model,
)

IMAGE = noise_image()
WORDS = random_words()
NOTHING = np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module")
def model() -> RegionSpot:
    return small_model()


def test_public_names() -> None:
    for name in ("load_model", "Predictor", "Vocabulary", "Labels", "RegionSpot"):
        assert name in regionspot.__all__
        assert hasattr(regionspot, name)


def test_one_row_a_box_in_the_order_of_the_boxes(model: RegionSpot) -> None:
    boxes = random_boxes(5)
    labels = model.predict(IMAGE, boxes, WORDS)
    assert np.array_equal(labels.boxes, boxes)
    order = np.array([4, 2, 0, 1, 3])
    permuted = model.predict(IMAGE, boxes[order], WORDS)
    assert np.array_equal(permuted.class_id, labels.class_id[order])
    for name in ("score", "margin", "presence"):
        np.testing.assert_allclose(
            getattr(permuted, name), getattr(labels, name)[order], rtol=0, atol=1e-5
        )
    assert labels.name(0) == WORDS.names[labels.class_id[0]]
    assert ((labels.margin >= 0) & (labels.margin <= labels.score)).all()
    assert (labels.class_id != labels.runner_up).all()


def test_batch_mates_padding_and_batch_size_change_nothing(model: RegionSpot) -> None:
    images = [noise_image(seed=0), noise_image(90, 200, seed=1), noise_image(seed=2)]
    boxes = [random_boxes(5), random_boxes(2, height=90, seed=1), NOTHING]
    together = model.regions(images, boxes)
    assert [len(each.embedding) for each in together] == [5, 2, 0]
    for image, rows, each in zip(images, boxes, together, strict=True):
        (alone,) = model.regions([image], [rows])
        torch.testing.assert_close(each.embedding, alone.embedding, rtol=0, atol=1e-5)
    assert model.regions([], []) == []


@pytest.mark.parametrize("masks", [False, True])
def test_no_boxes_no_labels(model: RegionSpot, masks: bool) -> None:
    labels = model.predict(IMAGE, NOTHING, WORDS, masks)
    assert len(labels) == 0
    assert labels.masks == ()
    assert len(model.predict(IMAGE, [], WORDS)) == 0


def test_masks_and_their_iou_come_with_the_same_labels(model: RegionSpot) -> None:
    boxes = random_boxes(3)
    bare, labels = model.predict(IMAGE, boxes, WORDS), model.predict(IMAGE, boxes, WORDS, True)
    np.testing.assert_allclose(labels.score, bare.score, rtol=0, atol=1e-5)
    assert labels.mask_iou.shape == (3,)
    assert [decode_mask(mask).shape for mask in labels.masks] == [IMAGE.shape[:2]] * 3
    assert bare.masks == ()
    assert len(bare.mask_iou) == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE[:, :, 0], r"image must be \(H, W, 3\) RGB, got \(120, 200\)"),
        (np.zeros((9, 9, 4), np.uint8), r"image must be \(H, W, 3\) RGB, got \(9, 9, 4\)"),
        (np.zeros((0, 9, 3), np.uint8), r"image must be \(H, W, 3\) RGB, got \(0, 9, 3\)"),
        (IMAGE / 255, r"image must be a uint8 array \(H, W, 3\) RGB, got float64"),
        ([[1]], "image must be a uint8 array .* got list"),
        (torch.zeros(9, 9, 3), "image must be a uint8 array .* got torch.float32"),
    ],
)
def test_images_that_cannot_be_used(model: RegionSpot, image: np.ndarray, message: str) -> None:
    for call in (
        lambda: model.predict(image, NOTHING, WORDS),
        lambda: Predictor(model).set_image(image),
    ):
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.zeros(4), r"boxes must be \(N, 4\) xyxy pixels, got \(4,\)"),
        (np.zeros((2, 5)), r"boxes must be \(N, 4\) xyxy pixels, got \(2, 5\)"),
        ([[0, 0, 9, 9], [9, 1, 5, 5]], "must have x1 < x2 and y1 < y2, got .* in row 1"),
        ([[1, 1, 1, 5]], "must have x1 < x2"),
        ([[0, 0, np.nan, 5]], "boxes must be finite"),
        ([[0, 0, np.inf, 5]], "boxes must be finite"),
        ([[-1, 0, 5, 5]], "must lie inside the image of 200 x 120 pixels"),
        ([[0, 0, 5, 121]], "must lie inside the image of 200 x 120 pixels"),
        ([["a", 0, 5, 5]], "boxes must be numbers"),
        ([[0, 0, 5], [0, 0, 5, 5]], "boxes must be numbers"),
    ],
)
def test_boxes_that_cannot_be_used(model: RegionSpot, boxes: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.predict(IMAGE, boxes, WORDS)


def test_vocabulary_is_made_with_the_configured_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path))
    encoder = replace(CONFIG.encoder, templates="name")
    photo, name = small_model(), small_model(replace(CONFIG, encoder=encoder))
    difference = photo.vocabulary(["cat"]).embedding - name.vocabulary(["cat"]).embedding
    assert difference.abs().max() > 1e-3
    labels = name.predict(IMAGE, random_boxes(2), name.vocabulary({"cat": ["cat", "kitten"]}))
    assert labels.names == ("cat",)


@pytest.mark.parametrize(
    "change",
    [
        {"class_token": False},
        {"read_map": False},
        {"depth": 1},
        {"depth": 6},
        {"regions_attend": False},
    ],
    ids=str,
)
def test_ablations_of_the_head_reach_the_regions(
    model: RegionSpot, change: dict[str, bool | int]
) -> None:
    ablated = small_model(replace(CONFIG, head=replace(CONFIG.head, **change)))
    found, expected = (m.regions([IMAGE], [random_boxes(4)])[0] for m in (ablated, model))
    assert relative_error(found.embedding, expected.embedding) > 1e-4
