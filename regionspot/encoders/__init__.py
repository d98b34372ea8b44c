"""Encoders: a semantic map of an image and the embedding of a word, in related spaces."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from regionspot.boxes import FloatArray
from regionspot.config import EncoderConfig
from regionspot.devices.runtime import TORCH, Runtime
from regionspot.types import ImageTokens, Pixels
from regionspot.zero_shot import FeatureAdapter, ZeroShotClassifier

if TYPE_CHECKING:
    from regionspot.encoders.clip import ClipEncoder
    from regionspot.encoders.mini import ImagenetMiniLm


class RegionPooler(Protocol):
    """What an encoder gives beside its map if its image tower has a classifier of its own."""

    def pool(self, image: Pixels, tokens: ImageTokens, boxes: FloatArray) -> torch.Tensor:
        """Features (N, P) of the xyxy pixel boxes (N, 4) of an RGB image, uint8 (H, W, 3)."""

    def pool_all(
        self, images: Sequence[Pixels], tokens: Sequence[ImageTokens], boxes: Sequence[FloatArray]
    ) -> list[torch.Tensor]:
        """As `pool`, of the boxes (n, 4) of each image."""

    def prior(self, pooled: torch.Tensor) -> torch.Tensor:
        """Class embeddings (N, D), averaged by the classifier's probabilities for pooled features
        (N, P)."""

    def zero_shot(self, seen: torch.Tensor, adapter: FeatureAdapter | None) -> ZeroShotClassifier:
        """The classifier, for classes beside the seen ones (S, D)."""


class VisionLanguageEncoder(Protocol):
    """A frozen image tower and a frozen text tower.

    Attributes:
        logit_scale: of cosines before the softmax.
        logit_bias: added to them before a sigmoid; 0 for an encoder that was trained without.
        text_key: identifies the text tower in the cache of text features.
        text_width: D, of text and image features.
        weights: name and sha256 of files that `regionspot.weights` does not list.
    """

    logit_scale: float
    logit_bias: float
    text_width: int
    text_key: str
    weights: Mapping[str, str]

    @property
    def pooler(self) -> RegionPooler | None:
        """Pools features inside boxes; None where the map is all, as in the paper."""

    def image_tokens(self, images: Sequence[Pixels]) -> list[ImageTokens]:
        """The class token and the map of each whole RGB image, uint8 (H, W, 3)."""

    def image_features(self, images: Sequence[Pixels]) -> torch.Tensor:
        """Embeddings (B, D) of whole RGB images, in the space of the words."""

    def text(self, strings: Sequence[str]) -> torch.Tensor:
        """Raw text features (K, D), before any averaging and normalisation."""


def encoder_class(config: EncoderConfig) -> "type[ClipEncoder | ImagenetMiniLm]":
    """The class of encoder that a configuration names.

    Its class methods say, without loading weights: `map_length(config)`, L of an image's map with
    the class token; `feature_settings(config)`, what its image features depend on; `pools`, whether
    it has a `RegionPooler`.
    """
    # each imports libraries that take seconds
    if config.kind == "imagenet-minilm":
        from regionspot.encoders.mini import ImagenetMiniLm

        return ImagenetMiniLm
    from regionspot.encoders.clip import ClipEncoder

    return ClipEncoder


def build_encoder(
    config: EncoderConfig, device: torch.device, dtype: torch.dtype, runtime: Runtime = TORCH
) -> VisionLanguageEncoder:
    """The encoder that a configuration names, with its weights.

    Args:
        config: of the encoder.
        device: that it computes on.
        dtype: of the image tower's large products.
        runtime: what computes the image tower.

    Raises:
        InputError: unknown to open_clip, or weights that cannot be had.
    """
    return encoder_class(config).build(config, device, dtype, runtime)
