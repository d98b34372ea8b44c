"""The trained part: region tokens attend to the image's map (paper, section 3.3).

Axes: B images, N regions, L map tokens (class token first), T token width, P pooled channels,
C map width, D text width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from regionspot.devices.transfer import to_device
from regionspot.types import Regions

TOKEN_WIDTH = 256


@dataclass(frozen=True)
class HeadConfig:
    """Shape of the head and the paper's ablations of it.

    Attributes:
        map_width: channels of the encoder's map.
        text_width: D, of the region and text embeddings.
        width: channels inside the decoder; the official heads use the map's.
        depth, heads, feedforward, dropout: of the decoder (paper: 3, 8, 2048, 0.1).
        class_token: whether regions attend to the map's class token, too (paper, Table 4a).
        read_map: whether regions attend to the map at all; else the token alone is classified.
        regions_attend: whether the regions of an image attend to each other, or each to itself.
        token_width: channels of the localizer's tokens; 32 for those of the mask MLP.
        pooled_width: channels of a box-pooled map feature that is added to the query and to the
            output; 0 for none, as in the official heads.
        prior_weight: weight of the prior, the encoder's own class embeddings for a region, that is
            added to the normalised output; 0 for none, as in the official heads.
    """

    map_width: int
    text_width: int
    width: int
    depth: int = 3
    heads: int = 8
    feedforward: int = 2048
    dropout: float = 0.1
    class_token: bool = True
    read_map: bool = True
    regions_attend: bool = True
    token_width: int = TOKEN_WIDTH
    pooled_width: int = 0
    prior_weight: float = 0.0


class HeadInputs(Protocol):
    """What the head takes of one image, computed now or read from a cache."""

    @property
    def tokens(self) -> torch.Tensor:
        """(N, T) of the localizer."""

    @property
    def memory(self) -> torch.Tensor:
        """(L, C) of the encoder's map, the class token first."""

    @property
    def pooled(self) -> torch.Tensor | None:
        """(N, P) box-pooled features; None where the encoder pools none."""

    @property
    def prior(self) -> torch.Tensor | None:
        """(N, D) the encoder's own class embeddings for the boxes; None likewise."""


class RegionHead(nn.Module):
    """`to_clip`, a post-norm transformer decoder and `projector`, named as in the official head."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.to_clip = nn.Linear(config.token_width, width)
        layer = nn.TransformerDecoderLayer(
            width, config.heads, config.feedforward, config.dropout, batch_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, config.depth, nn.LayerNorm(width))
        self.projector = nn.Linear(width, config.text_width)
        self.from_map = (
            nn.Identity() if config.map_width == width else _normed(config.map_width, width, 0.0)
        )
        if config.pooled_width:
            self.pooled_to_query = _normed(config.pooled_width, width, config.dropout)
            self.pooled_to_output = _normed(config.pooled_width, config.text_width, config.dropout)

    def forward(
        self,
        mask_tokens: torch.Tensor,
        image_tokens: torch.Tensor,
        padding_mask: torch.Tensor | None = None,
        pooled: torch.Tensor | None = None,
        prior: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Region embeddings (B, N, D), not normalised.

        Args:
            mask_tokens: (B, N, T) from the localizer.
            image_tokens: (B, L, C), the class token first.
            padding_mask: (B, N) bool, True where a row is no region.
            pooled: (B, N, P), ignored by a head of `pooled_width` 0.
            prior: (B, N, D), ignored by a head of `prior_weight` 0.
        """
        pooled = pooled if self.config.pooled_width else None
        prior = prior if self.config.prior_weight else None
        B, N, _ = mask_tokens.shape
        if N == 0:
            return mask_tokens.new_zeros(B, 0, self.config.text_width)
        query = self.to_clip(mask_tokens)  # (B, N, width)
        if pooled is not None:
            query = query + self.pooled_to_query(pooled)
        region = query
        if self.config.read_map:
            memory = image_tokens if self.config.class_token else image_tokens[:, 1:]  # (B, L, C)
            region = self.decoder(
                query, self.from_map(memory), **self._self_attention_masks(N, padding_mask)
            )
        embedding = self.projector(region)  # (B, N, D)
        if pooled is not None:
            embedding = embedding + self.pooled_to_output(pooled)
        if prior is not None:
            embedding = F.normalize(embedding, dim=-1) + self.config.prior_weight * prior
        return torch.as_tensor(embedding)

    @torch.inference_mode()
    def regions(self, batch: Sequence[HeadInputs]) -> list[Regions]:
        """Each image's regions with L2-normalised embeddings (N, D), where the head computes."""
        device = self.to_clip.weight.device
        tokens = _padded([each.tokens for each in batch], device)
        assert tokens is not None, "give at least one image"
        counts = [len(each.tokens) for each in batch]
        # (B, N)
        padding = to_device(np.arange(tokens.shape[1]) >= np.array(counts)[:, None], device)
        output = self(
            tokens,
            torch.stack([each.memory.to(device) for each in batch]).float(),
            padding,
            _padded([each.pooled for each in batch], device),
            _padded([each.prior for each in batch], device),
        )
        return [
            Regions(F.normalize(rows[:count].float(), dim=-1))
            for rows, count in zip(output, counts, strict=True)
        ]

    def _self_attention_masks(
        self, N: int, padding_mask: torch.Tensor | None
    ) -> dict[str, torch.Tensor | None]:
        """Masks of the (N, N) self-attention between regions."""
        if self.config.regions_attend:
            open_mask = None if padding_mask is None else _attendable(padding_mask)
            return {"tgt_key_padding_mask": open_mask}
        # a padded row attends to itself here: a row without any key would become NaN
        others = ~torch.eye(N, dtype=torch.bool, device=self.to_clip.weight.device)
        return {"tgt_mask": others}


def _normed(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """A linear layer on features of a tower that ends without a norm."""
    return nn.Sequential(nn.LayerNorm(inputs), nn.Dropout(dropout), nn.Linear(inputs, outputs))


def _padded(rows: Sequence[torch.Tensor | None], device: torch.device) -> torch.Tensor | None:
    """(B, N, ...) float32, of B tensors (n, ...), N their largest n; None where none is given."""
    given = [each.to(device).float() for each in rows if each is not None]
    return pad_sequence(given, batch_first=True) if given else None


def _attendable(padding_mask: torch.Tensor) -> torch.Tensor:
    """(B, N): the mask, with a row open in images of no region, where softmax would be 0 / 0."""
    mask = padding_mask.clone()
    mask[:, 0] &= ~padding_mask.all(dim=1)
    return mask
