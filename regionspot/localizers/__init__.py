"""Localizers turn boxes into position-aware tokens, and into masks."""

from typing import Protocol

from regionspot.boxes import FloatArray
from regionspot.types import ImageArray, ImageEmbedding, RegionTokens


class Localizer(Protocol):
    """A frozen model that is prompted with boxes."""

    def encode(self, image: ImageArray) -> ImageEmbedding:
        """Embed an RGB image, uint8 (H, W, 3)."""

    def tokens(
        self, embedding: ImageEmbedding, boxes: FloatArray, masks: bool = False
    ) -> RegionTokens:
        """One token, and if asked one mask, for each xyxy pixel box (N, 4) of that image."""


__all__ = ["Localizer"]
