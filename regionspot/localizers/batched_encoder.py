"""SAM's image encoder for batches on a GPU: the package's modules with another attention.

The package adds a relative position bias to a (4096, 4096) score matrix of each head, which it
writes to memory four times over. The bias is a sum of two terms, one of the key's row and one of
its column, so that it is a part of the scalar product: queries are extended by their terms for all
rows and columns, keys by the indicators of their own. Then any fused attention computes it.

Axes: B images or windows, H heads, h w rows and columns, P = h w tokens, D channels of a head.
"""

import torch
from segment_anything.modeling.image_encoder import Attention, ImageEncoderViT, get_rel_pos
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from regionspot.devices.precision import in_precision

MULTIPLE = 8  # channels of a head: fused kernels take whole multiples
BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def with_fused_attention(encoder: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of an image encoder with fused attention, its large products' weights in `dtype`.

    The copy runs under autocast to `dtype`, which then has no weights to convert. An encoder that
    is not SAM's keeps its own attention.
    """
    twin = in_precision(encoder, dtype)
    if isinstance(twin, ImageEncoderViT):
        for block in twin.blocks:
            attention = block.get_submodule("attn")
            assert isinstance(attention, Attention), "segment-anything's own"
            if attention.use_rel_pos:
                block.add_module("attn", FusedAttention(attention))
    return twin


class FusedAttention(nn.Module):
    """Attention of segment-anything's image encoder without a score matrix in memory.

    Args:
        attention: whose weights are used.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    places: torch.Tensor

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.scale = attention.scale
        self.qkv, self.proj = attention.qkv, attention.proj
        device, dtype = attention.qkv.weight.device, attention.qkv.weight.dtype
        h = (len(attention.rel_pos_h) + 1) // 2
        w = (len(attention.rel_pos_w) + 1) // 2
        # (h, h, D) by row of the query and of the key, and (w, w, D) by column
        self.register_buffer("rows", get_rel_pos(h, h, attention.rel_pos_h).to(dtype))
        self.register_buffer("columns", get_rel_pos(w, w, attention.rel_pos_w).to(dtype))
        of_row = torch.eye(h, device=device).repeat_interleave(w, dim=0)  # (P, h)
        of_column = torch.eye(w, device=device).repeat(h, 1)  # (P, w)
        padding = torch.zeros(h * w, -(h + w) % MULTIPLE, device=device)
        self.register_buffer("places", torch.cat([of_row, of_column, padding], 1).to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend to all of x (B, h, w, C)."""
        B, h, w, C = x.shape
        qkv = self.qkv(x).view(B, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, H, P, D)
        at = q.reshape(B * self.heads, h, w, -1)
        by_row = torch.einsum("bhwd,hkd->bhwk", at, self.rows)  # (B H, h, w, h)
        by_column = torch.einsum("bhwd,wkd->bhwk", at, self.columns)  # (B H, h, w, w)
        terms = torch.cat([by_row, by_column], dim=-1).view(B, self.heads, h * w, -1)
        terms = F.pad(terms, (0, self.places.shape[1] - terms.shape[-1]))
        places = self.places.expand(B, self.heads, -1, -1)
        query = torch.cat([q * self.scale, terms], dim=-1)
        attended = _attend(query, torch.cat([k, places], dim=-1), v)
        # (B, H, P, D) to (B, h, w, H D)
        return torch.as_tensor(self.proj(attended.transpose(1, 2).reshape(B, h, w, C)))


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    with sdpa_kernel(BACKENDS, set_priority=True):
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)
