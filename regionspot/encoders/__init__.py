"""Encoders give one semantic map of an image and one embedding of a word, in related spaces."""

from collections.abc import Sequence
from typing import Protocol

import torch

from regionspot.boxes import FloatArray
from regionspot.types import ImageArray, ImageTokens, PooledRegions
from regionspot.zero_shot import Adaptation, UnseenWords


class VisionLanguageEncoder(Protocol):
    """A frozen image tower and a frozen text tower.

    Attributes:
        logit_scale: what cosines are multiplied with before the softmax.
        text_key: tells apart text towers whose features differ.
        text_width: D, of text and image features.
    """

    logit_scale: float
    text_width: int
    text_key: str

    def image_tokens(self, images: Sequence[ImageArray]) -> list[ImageTokens]:
        """The class token and the map of each whole RGB image, uint8 (H, W, 3)."""

    def image_features(self, images: Sequence[ImageArray]) -> torch.Tensor:
        """What the encoder alone says of each whole RGB image: (B, D) in the words' space."""

    def pool(
        self, image: ImageArray, tokens: ImageTokens, boxes: FloatArray
    ) -> PooledRegions | None:
        """What an RGB image, uint8 (H, W, 3), and its maps show inside xyxy pixel boxes (N, 4).

        None where the encoder offers no more to the head than its map, as in the paper.
        """

    def prior(self, pooled: torch.Tensor) -> torch.Tensor:
        """What the image tower's own classes say of pooled features: (N, P) to (N, D)."""

    def unseen_words(
        self, trained: torch.Tensor, adaptation: Adaptation | None
    ) -> UnseenWords | None:
        """How words beside the trained ones (S, D) are scored; None: as all others.

        Args:
            adaptation: of the image tower's classifier, as `TrainedHead.adaptation`.
        """

    def text(self, strings: Sequence[str]) -> torch.Tensor:
        """Raw text features (K, D), before any averaging and normalisation."""


__all__ = ["VisionLanguageEncoder"]
