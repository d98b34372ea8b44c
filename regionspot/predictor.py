"""One image at a time: encode it once, label boxes as often as wanted."""

import numpy as np

from regionspot.boxes import FloatArray
from regionspot.errors import InputError
from regionspot.model import RegionSpot
from regionspot.scoring import checked_input
from regionspot.types import ImageArray, ImageEmbedding, ImageTokens, Labels, Vocabulary


class Predictor:
    """Interactive use, after segment-anything's `SamPredictor`: both towers run once an image."""

    def __init__(self, model: RegionSpot) -> None:
        self.model = model
        self._image: ImageArray | None = None
        self._embedding: ImageEmbedding | None = None
        self._map: ImageTokens | None = None

    def set_image(self, image: ImageArray) -> None:
        """Encode the image that boxes are then given of.

        Args:
            image: uint8 (H, W, 3) in [0, 255], RGB, upright (after EXIF orientation), of any size.

        Raises:
            InputError: another shape or type.
        """
        checked_input(image, np.zeros((0, 4), np.float32))
        self._image = image
        self._embedding = self.model.localizer.encode(image)
        (self._map,) = self.model.encoder.image_tokens([image])

    def predict(self, boxes: FloatArray, vocabulary: Vocabulary, masks: bool = False) -> Labels:
        """Label boxes of the image that was set.

        Args:
            boxes: (N, 4) xyxy pixels of that image, x1 < x2 in [0, W] and y1 < y2 in [0, H]; (0, 4)
                is allowed. Regions attend to each other: a box's label depends on the others.
            vocabulary: K words, made with `model.vocabulary(words)`.
            masks: whether each label gets a mask, cut to its box.

        Returns:
            One row a box, in the order of the boxes:
            `boxes` (N, 4) float32, as given;
            `class_id` and `runner_up` (N,) int64 in [0, K), the best and the second-best word;
            `score` (N,) float32 in [0, 1], the best word's softmax probability over the K words;
            `margin` (N,) float32 in [0, 1], the best probability less the second-best;
            `presence` (N,) float32 in [0, 1], a sigmoid of the best word's score alone, which does
            not depend on the other words;
            `masks`, N run-length masks (H, W) in the image's frame, or empty;
            `mask_iou` (N,) float32, the localizer's estimate of each mask's IoU, or (0,).

        Raises:
            InputError: no image was set, boxes that cannot be used, or words of another model.
        """
        if self._image is None or self._embedding is None or self._map is None:
            raise InputError("no image is set; call set_image first")
        checked = checked_input(self._image, boxes)
        (regions,) = self.model.read(
            [self._image], [self._embedding], [self._map], [checked], masks
        )
        return self.model.label(checked, regions, vocabulary)
