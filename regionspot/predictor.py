"""One image at a time: encode it once, ask for boxes as often as wanted."""

import numpy as np

from regionspot.boxes import FloatArray
from regionspot.classifier import checked_input
from regionspot.errors import InputError
from regionspot.model import RegionSpot
from regionspot.types import ImageArray, ImageEmbedding, ImageTokens, Labels, Vocabulary


class Predictor:
    """Interactive use, after segment-anything's `SamPredictor`: both towers run once an image."""

    def __init__(self, model: RegionSpot) -> None:
        self.model = model
        self._image: ImageArray | None = None
        self._embedding: ImageEmbedding | None = None
        self._map: ImageTokens | None = None

    def set_image(self, image: ImageArray) -> None:
        """Encode an RGB image, uint8 (H, W, 3).

        Raises:
            InputError: another shape or type.
        """
        checked_input(image, np.zeros((0, 4), np.float32))
        self._image = image
        self._embedding = self.model.localizer.encode(image)
        (self._map,) = self.model.encoder.image_tokens([image])

    def predict(self, boxes: FloatArray, vocabulary: Vocabulary, masks: bool = False) -> Labels:
        """Label boxes of the image that was set; as `RegionSpot.predict`.

        Raises:
            InputError: no image was set, or boxes that cannot be used.
        """
        if self._image is None or self._embedding is None or self._map is None:
            raise InputError("no image is set; call set_image first")
        checked = checked_input(self._image, boxes)
        (regions,) = self.model.read(
            [self._image], [self._embedding], [self._map], [checked], masks
        )
        return self.model.label(checked, regions, vocabulary)
