"""Encoders give one semantic map of an image and one embedding of a word, in related spaces."""

from collections.abc import Sequence
from typing import Protocol

import torch

from regionspot.localizers.sam import ImageArray
from regionspot.types import ImageTokens


class VisionLanguageEncoder(Protocol):
    """A frozen image tower and a frozen text tower.

    Attributes:
        logit_scale: what cosines are multiplied with before the softmax.
        text_key: tells apart text towers whose features differ.
    """

    logit_scale: float
    text_key: str

    def image_tokens(self, images: Sequence[ImageArray]) -> list[ImageTokens]:
        """The class token and the map of each whole RGB image, uint8 (H, W, 3)."""

    def text(self, strings: Sequence[str]) -> torch.Tensor:
        """Raw text features (K, D), before any averaging and normalisation."""


__all__ = ["VisionLanguageEncoder"]
