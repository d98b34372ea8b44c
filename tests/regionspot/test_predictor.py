"""The predictor gives the labels of the model."""

import numpy as np
import pytest

from regionspot.errors import InputError
from regionspot.model import Predictor, RegionSpot
from tests.regionspot.factories import (
    noise_image,
    random_boxes,
    random_words,
    small_model,
)

IMAGE = noise_image()
WORDS = random_words()


@pytest.fixture(scope="module")
def model() -> RegionSpot:
    return small_model()


@pytest.mark.parametrize("masks", [False, True])
def test_predictor_says_what_the_model_says(model: RegionSpot, masks: bool) -> None:
    predictor = Predictor(model)
    with pytest.raises(InputError, match="no image is set; call set_image first"):
        predictor.predict(random_boxes(2), WORDS)
    predictor.set_image(IMAGE)
    for boxes in (random_boxes(3), random_boxes(2, seed=1)):
        found = predictor.predict(boxes, WORDS, masks)
        expected = model.predict(IMAGE, boxes, WORDS, masks)
        np.testing.assert_allclose(found.score, expected.score, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.mask_iou, expected.mask_iou, rtol=0, atol=1e-5)
        assert found.masks == expected.masks
    with pytest.raises(InputError, match="image must be"):
        predictor.set_image(IMAGE[0])
