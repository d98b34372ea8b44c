"""The trained part: region tokens read the image's map by cross-attention (paper, section 3.3).

Axes: B images, N regions, L map tokens (class token first), C map width, D text width.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

TOKEN_WIDTH = 256


@dataclass(frozen=True)
class HeadConfig:
    """Shape of the head and the paper's ablations of it.

    Attributes:
        map_width: channels of the encoder's map.
        text_width: D, of the region and text embeddings.
        width: channels inside the decoder; the official heads use the map's.
        depth, heads, feedforward, dropout: of the decoder (paper: 3, 8, 2048, 0.1).
        class_token: whether the map's class token is read (paper, Table 4a).
        read_map: whether the map is read at all; without it the token alone is classified.
        regions_attend: whether the regions of an image attend to each other, or each to itself.
        token_width: channels of the localizer's tokens; 32 for those of the mask MLP.
        pooled_width: channels of a box-pooled map feature that is added to the query and to the
            output; 0 for none, as in the official heads.
        prior_weight: weight of the encoder's own words for a region beside the learned embedding;
            0 for none, as in the official heads.
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
            mask_tokens: (B, N, token_width) from the localizer.
            image_tokens: (B, L, C), the class token first.
            padding_mask: (B, N), True where a row is no region.
            pooled: (B, N, pooled_width), for heads that are configured so; else not looked at.
            prior: (B, N, D), likewise.
        """
        pooled = pooled if self.config.pooled_width else None
        prior = prior if self.config.prior_weight else None
        B, N, _ = mask_tokens.shape
        if N == 0:
            return mask_tokens.new_zeros(B, 0, self.config.text_width)
        query = self.to_clip(mask_tokens)
        if pooled is not None:
            query = query + self.pooled_to_query(pooled)
        region = query
        if self.config.read_map:
            memory = image_tokens if self.config.class_token else image_tokens[:, 1:]
            region = self.decoder(
                query, self.from_map(memory), **self._self_attention_masks(N, padding_mask)
            )
        embedding = self.projector(region)
        if pooled is not None:
            embedding = embedding + self.pooled_to_output(pooled)
        if prior is not None:
            embedding = F.normalize(embedding, dim=-1) + self.config.prior_weight * prior
        return torch.as_tensor(embedding)

    def _self_attention_masks(
        self, N: int, padding_mask: torch.Tensor | None
    ) -> dict[str, torch.Tensor | None]:
        """What of (N, N) attention between regions is barred."""
        if self.config.regions_attend:
            open_mask = None if padding_mask is None else _attendable(padding_mask)
            return {"tgt_key_padding_mask": open_mask}
        # a padded row sees itself here, so that no row is barred from all and becomes NaN
        others = ~torch.eye(N, dtype=torch.bool, device=self.to_clip.weight.device)
        return {"tgt_mask": others}


def _normed(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """A linear layer on features of a tower that ends without a norm."""
    return nn.Sequential(nn.LayerNorm(inputs), nn.Dropout(dropout), nn.Linear(inputs, outputs))


def _attendable(padding_mask: torch.Tensor) -> torch.Tensor:
    """The mask with one row left open in images of no region, where softmax would be 0 / 0."""
    mask = padding_mask.clone()
    mask[:, 0] &= ~padding_mask.all(dim=1)
    return mask
