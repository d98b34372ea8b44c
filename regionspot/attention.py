"""The head's cross-attention over the map, for each region (paper, Figure 4).

Axes: B images, N regions, L map tokens (class token first), h w the map's rows and columns.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from regionspot.boxes import FloatArray
from regionspot.errors import InputError
from regionspot.head import RegionHead
from regionspot.model import RegionSpot
from regionspot.scoring import checked_input
from regionspot.types import ImageArray, Regions


@dataclass(frozen=True)
class RegionAttention:
    """Cross-attention weights of one image, the mean over the heads of each decoder layer.

    Attributes:
        map: (layers, N, h, w) weights of the map, which is of the whole image, resized to a
            square. Together with the class token's they add up to 1.
        class_token: (layers, N) weight of the class token; 0 where the head ignores it.
    """

    map: torch.Tensor
    class_token: torch.Tensor

    @classmethod
    def of_layers(
        cls, layers: Sequence[torch.Tensor], rows: int, has_class_token: bool
    ) -> "RegionAttention":
        """The mean over heads of `recorded_cross_attention`, for the one image of a batch.

        Args:
            layers: (1, heads, N, L) each.
            rows: h of the map.
            has_class_token: whether the first of the L tokens is the class token.
        """
        weights = torch.stack([layer[0].mean(0) for layer in layers]).float().cpu()
        class_token = torch.zeros(weights.shape[:2])  # (layers, N)
        if has_class_token:
            class_token, weights = weights[..., 0], weights[..., 1:]
        # (layers, N, L) to (layers, N, h, w)
        return cls(weights.reshape(*weights.shape[:2], rows, -1), class_token)

    def mean(self) -> tuple[FloatArray, FloatArray]:
        """Maps (N, h, w) and class token's weights (N,), the mean over the layers."""
        return self.map.mean(0).numpy(), self.class_token.mean(0).numpy()


def attended(
    model: RegionSpot, image: ImageArray, boxes: FloatArray
) -> tuple[Regions, RegionAttention]:
    """The regions of one image as `RegionSpot.regions`, and the attention of each.

    Args:
        model: whose head is recorded.
        image: uint8 (H, W, 3) RGB.
        boxes: float32 (N, 4) xyxy pixels of that image.

    Raises:
        InputError: an image or boxes that cannot be used, no box at all, or a head that is
            configured not to attend to the map.
    """
    checked = checked_input(image, boxes)
    if not model.config.head.read_map:
        raise InputError(f"the head of {model.config.name!r} reads no map; there is no attention")
    if not len(checked):
        raise InputError("attention needs at least one box, got none")
    (tokens,) = model.encoder.image_tokens([image])
    embedding = model.localizer.encode(image)
    with recorded_cross_attention(model.scorer.head) as layers:
        (regions,) = model.read([image], [embedding], [tokens], [checked])
    shape = tokens.map.shape  # (C, h, w)
    return regions, RegionAttention.of_layers(layers, shape[1], model.config.head.class_token)


@contextmanager
def recorded_cross_attention(head: RegionHead) -> Iterator[list[torch.Tensor]]:
    """Weights (B, heads, N, L) of each decoder layer, in order, while the head runs.

    `nn.TransformerDecoderLayer` calls its attention with `need_weights=False`; a hook sets it to
    True, which changes nothing else.
    """
    weights: list[torch.Tensor] = []

    def need_weights(
        _: nn.Module, args: Any, options: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        return args, options | {"need_weights": True, "average_attn_weights": False}

    def keep(_: nn.Module, __: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        weights.append(output[1])

    handles = []
    for layer in head.decoder.layers:
        attention = layer.get_submodule("multihead_attn")
        handles.append(attention.register_forward_pre_hook(need_weights, with_kwargs=True))
        handles.append(attention.register_forward_hook(keep))
    try:
        yield weights
    finally:
        for handle in handles:
            handle.remove()
