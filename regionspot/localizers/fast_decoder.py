"""SAM's mask decoder on many boxes of some images, computing the same with fewer operations.

Each box carries the 4,096 image tokens through two layers of the two-way transformer. Some things
are done otherwise than in `segment_anything.modeling.TwoWayTransformer`; none changes the result
but by rounding:

- The first layer's image tokens are the same for every box, so its keys, values and queries are
  projected once an image.
- In token-to-image attention the key projection moves onto the few prompt tokens and the value
  projection onto their attended sums: q (k W)^T = (q W^T) k^T and a (v W) = (a v) W. The key bias
  adds the same to all scores of a query and cancels in the softmax.
- In image-to-token attention the query projection moves onto the few keys and the output
  projection onto the few values.
- Only the mask token (and the IoU token where masks are asked for) goes through the last
  attention, and the upscaling is left out where no masks are asked for.
- Boxes of several images are decoded together, each with the image tokens of its own.
- Mask logits are computed in the window of each box alone. Both transposed convolutions of the
  upscaling have a kernel as large as their stride, so that each image token becomes its own 4 x 4
  logits, whatever lies beside it.
- Of a point's three candidate masks only those with a high enough predicted IoU, which the IoU
  token alone gives, are computed.

Axes: I images, N boxes, B boxes of a chunk, T prompt tokens, P image tokens, H heads, D channels of
a head, C = 256 channels, h w rows and columns of the embedding (P = h w), M image tokens inside
windows, or candidate masks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention
from torch import nn
from torch.nn import functional as F

from regionspot.devices.transfer import to_device
from regionspot.types import IntArray

IOU_TOKEN, MASK_TOKEN = 0, 1
CANDIDATES = slice(2, 5)  # mask tokens of a prompt that may mean several things
CPU_CHUNK, GPU_CHUNK = 4, 256


@dataclass(frozen=True)
class Decoded:
    """The decoder's output for N boxes.

    Attributes:
        token: (N, C) the first mask token after the transformer.
        mask_logits: (N, 4 h, 4 w), 0 outside of the windows, or None where no masks were asked for.
        mask_iou: (N,) estimated, or None likewise.
    """

    token: torch.Tensor
    mask_logits: torch.Tensor | None
    mask_iou: torch.Tensor | None


@dataclass(frozen=True)
class CandidateMasks:
    """Masks of some points; a point has up to three: a part, an object, or what it belongs to.

    Attributes:
        mask_logits: (M, 4 rows, 4 columns) over the part of the embedding that the image takes.
        mask_iou: (M,) estimated.
    """

    mask_logits: torch.Tensor
    mask_iou: torch.Tensor


class RegionDecoder:
    """The first mask token, and if asked the mask, for many boxes on some image embeddings.

    Args:
        decoder: the package's own mask decoder; its weights are used, never changed.
        dtype: of the image tokens' products; the few prompt tokens stay in float32.
        chunk: boxes at a time; by default 4 on a CPU, where few stay in cache at about 15 MB a
            box in float32, and 256 on a GPU.
    """

    def __init__(
        self, decoder: MaskDecoder, dtype: torch.dtype = torch.float32, chunk: int | None = None
    ) -> None:
        self.decoder = decoder
        self.dtype = dtype
        self.chunk = chunk

    @torch.inference_mode()
    def __call__(
        self,
        embedding: torch.Tensor,
        position: torch.Tensor,
        prompts: torch.Tensor,
        windows: IntArray | None = None,
        counts: Sequence[int] | None = None,
    ) -> Decoded:
        """Decode N boxes.

        Args:
            embedding: (C, h, w) of the image, or (I, C, h, w), with the dense prompt (no mask)
                added.
            position: (C, h, w) positional encoding.
            prompts: (N, 2, C) sparse embeddings of the boxes' corners.
            windows: (N, 4) int64 xyxy in columns and rows of the embedding, exclusive of the last,
                where mask logits are computed, too; None: no masks.
            counts: how many of the boxes are of each of the I images, in order.
        """
        embeddings = embedding.view(-1, *embedding.shape[-3:])
        image = _SharedImages(self.decoder, embeddings, position, self.dtype)
        owners = np.repeat(np.arange(len(embeddings)), counts or [len(prompts)])
        size = self._chunk_on(prompts.device)
        parts = [
            self._decode(
                image.of(owners[start : start + size]),
                prompts[start : start + size],
                None if windows is None else windows[start : start + size],
            )
            for start in range(0, len(prompts), size)
        ]
        empty = prompts.new_zeros
        token = torch.cat([empty(0, prompts.shape[-1]), *(part.token for part in parts)])
        if windows is None:
            return Decoded(token, None, None)
        side = [4 * s for s in embedding.shape[-2:]]
        logits = [part.mask_logits for part in parts if part.mask_logits is not None]
        iou = [part.mask_iou for part in parts if part.mask_iou is not None]
        return Decoded(token, torch.cat([empty(0, *side), *logits]), torch.cat([empty(0), *iou]))

    @torch.inference_mode()
    def candidates(
        self,
        embedding: torch.Tensor,
        position: torch.Tensor,
        prompts: torch.Tensor,
        min_iou: float,
        inside: tuple[int, int],
    ) -> Iterator[CandidateMasks]:
        """The candidate masks of N points of one image, chunk by chunk.

        Args:
            embedding: (C, h, w) of the image, with the dense prompt (no mask) added.
            position: (C, h, w) positional encoding.
            prompts: (N, 2, C) sparse embeddings: of each point, and of none.
            min_iou: masks of a lower estimated IoU are left out.
            inside: rows and columns of the embedding that the image takes; masks end there.
        """
        rows, columns = inside
        image = _SharedImages(self.decoder, embedding[None], position, self.dtype)
        for part in torch.split(prompts, self._chunk_on(prompts.device)):
            owners = np.zeros(len(part), np.int64)
            tokens, keys = self._transformed(image.of(owners), part, slice(None, CANDIDATES.stop))
            estimated = self.decoder.iou_prediction_head(tokens[:, IOU_TOKEN])  # (B, 4)
            point, mask = torch.nonzero(estimated[:, 1:] >= min_iou, as_tuple=True)  # (M,) each
            weights = torch.stack(
                [
                    self.decoder.output_hypernetworks_mlps[number](tokens[:, MASK_TOKEN + number])
                    for number in range(1, estimated.shape[1])
                ],
                dim=1,
            )[point, mask]  # (B, 3, C / 8) to (M, C / 8)
            # (B, P, C) to (B, rows columns, C)
            cells = keys.view(len(part), *image.side, -1)[:, :rows, :columns].flatten(1, 2)
            logits = [
                self._upscaled(cells[row]) @ weights[point == row].T  # (rows columns, 16, m)
                for row in sorted(set(point.tolist()))
            ]
            grid = [_side_by_side(each.movedim(2, 0), inside) for each in logits]
            yield CandidateMasks(
                torch.cat([estimated.new_zeros(0, 4 * rows, 4 * columns), *grid]),
                estimated[:, 1:][point, mask],
            )

    def _chunk_on(self, device: torch.device) -> int:
        """Prompts that are decoded at a time."""
        return self.chunk or (CPU_CHUNK if device.type == "cpu" else GPU_CHUNK)

    def _decode(
        self, image: "_ChunkImages", prompts: torch.Tensor, windows: IntArray | None
    ) -> Decoded:
        """Decode the prompts (B, 2, C) of a chunk."""
        first_kept = MASK_TOKEN if windows is None else IOU_TOKEN
        tokens, keys = self._transformed(image, prompts, slice(first_kept, MASK_TOKEN + 1))
        token = tokens[:, -1]  # (B, C)
        if windows is None:
            return Decoded(token, None, None)
        logits = self._masks(keys, token, image.shared.side, windows)
        return Decoded(token, logits, self._iou(tokens[:, IOU_TOKEN]))

    def _transformed(
        self, image: "_ChunkImages", prompts: torch.Tensor, kept: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Some output tokens (B, kept, C), and image tokens (B, P, C), of prompts (B, 2, C)."""
        decoder, transformer = self.decoder, self.decoder.transformer
        first, second = transformer.layers
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])  # (5, C)
        prompt_position = torch.cat(
            [output_tokens.expand(len(prompts), -1, -1), prompts], dim=1
        ).float()  # (B, T, C), T = 5 + 2

        tokens = first.norm1(first.self_attn(*[prompt_position] * 3))  # (B, T, C)
        tokens = first.norm2(tokens + image.attended_by(tokens + prompt_position))
        tokens = first.norm3(tokens + first.mlp(tokens))
        keys = image.tokens + image.attend_to(tokens + prompt_position, tokens)  # (B, P, C)
        keys = _norm(first.norm4, keys)

        position = tokens + prompt_position
        tokens = second.norm1(tokens + second.self_attn(position, position, tokens))
        placed = keys + image.shared.position  # (B, P, C) + (P, C)
        attention = second.cross_attn_token_to_image
        tokens = second.norm2(
            tokens + _token_to_image(attention, tokens + prompt_position, placed, keys)
        )
        tokens = second.norm3(tokens + second.mlp(tokens))
        attention = second.cross_attn_image_to_token
        keys += _image_to_token(attention, placed, tokens + prompt_position, tokens)
        keys = _norm(second.norm4, keys)

        tokens, prompt_position = tokens[:, kept], prompt_position[:, kept]  # (B, kept, C)
        attention = transformer.final_attn_token_to_image
        tokens = tokens + _token_to_image(
            attention, tokens + prompt_position, keys + image.shared.position, keys
        )
        return transformer.norm_final_attn(tokens), keys

    def _masks(
        self, keys: torch.Tensor, token: torch.Tensor, side: tuple[int, int], windows: IntArray
    ) -> torch.Tensor:
        """Mask logits (B, 4 h, 4 w) inside windows (B, 4) of image tokens (B, P, C) and mask
        tokens (B, C); 0 elsewhere."""
        B, P, C = keys.shape
        # On the host, as a device would have to be waited for to know M.
        inside = np.flatnonzero(_cells(windows, side))  # (M,) of B P
        box, cell = to_device(np.stack([inside // P, inside]), keys.device)
        weights = self.decoder.output_hypernetworks_mlps[0](token)  # (B, C / 8)
        weight: torch.Tensor = weights[box][..., None]  # (M, C / 8, 1)
        logits = self._upscaled(keys.view(B * P, C)[cell].float()) @ weight  # (M, 16, 1)
        grid = logits.new_zeros(B * P, 16)
        grid[cell] = logits[..., 0]
        return _side_by_side(grid.view(B, P, 16), side)

    def _upscaled(self, cells: torch.Tensor) -> torch.Tensor:
        """The decoder's `output_upscaling` of image tokens (M, C): (M, 16, C / 8), the 16 as rows
        and columns of the first doubling, then of the second. Its products are of their type."""
        first, norm, gelu, second, last_gelu = self.decoder.output_upscaling
        dtype = cells.dtype
        x = _doubled(first, cells).float()  # (4 M, C / 4)
        # The package's LayerNorm2d, of single places.
        x = gelu(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        upscaled: torch.Tensor = last_gelu(_doubled(second, x.to(dtype)).float())  # (16 M, C / 8)
        return upscaled.view(len(cells), 16, upscaled.shape[1])

    def _iou(self, token: torch.Tensor) -> torch.Tensor:
        prediction: torch.Tensor = self.decoder.iou_prediction_head(token)  # (B, masks)
        return prediction[:, 0]


def _side_by_side(logits: torch.Tensor, side: tuple[int, int]) -> torch.Tensor:
    """Logits (B, P, 16) of `_upscaled`'s places as masks (B, 4 h, 4 w)."""
    h, w = side
    # Rows and columns of the image, of the first and of the second doubling.
    doubled = logits.reshape(-1, h, w, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
    return doubled.reshape(-1, 4 * h, 4 * w)


def _cells(windows: IntArray, side: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which cells (B, h, w) lie in windows (B, 4)."""
    rows, columns = np.arange(side[0])[:, None], np.arange(side[1])  # (h, 1) and (w,)
    x1, y1, x2, y2 = windows.T[..., None, None]  # (B, 1, 1) each
    return np.asarray((columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2))


def _doubled(layer: nn.ConvTranspose2d, x: torch.Tensor) -> torch.Tensor:
    """A transposed convolution of kernel and stride 2, of single places: (M, C) to (4 M, C')."""
    assert layer.kernel_size == layer.stride == (2, 2), "every place gets a square of its own"
    out = layer.out_channels
    weight = layer.weight.permute(0, 2, 3, 1).flatten(1)  # (C, C', 2, 2) to (C, 4 C')
    bias = layer.bias.repeat(4) if layer.bias is not None else weight.new_zeros(weight.shape[1])
    doubled = torch.addmm(bias.to(x.dtype), x, weight.to(x.dtype))
    return doubled.view(-1, out)


class _SharedImages:
    """Each image's part of the first layer, which is the same for every box of it."""

    def __init__(
        self,
        decoder: MaskDecoder,
        embeddings: torch.Tensor,
        position: torch.Tensor,
        dtype: torch.dtype,
    ) -> None:
        self.side = (embeddings.shape[2], embeddings.shape[3])
        tokens = [each.flatten(1).T for each in embeddings]  # I of (P, C)
        placed = [each + position.flatten(1).T for each in tokens]
        self.tokens = [each.to(dtype).contiguous() for each in tokens]
        self.position = position.flatten(1).T.to(dtype).contiguous()
        first = decoder.transformer.layers[0]
        self.token_to_image = first.cross_attn_token_to_image
        self.image_to_token = first.cross_attn_image_to_token
        heads = self.token_to_image.num_heads
        key, value = self.token_to_image.k_proj, self.token_to_image.v_proj
        self.keys = [_split_heads(key(each)[None], heads)[0] for each in placed]  # I of (H, P, D)
        self.values = [_split_heads(value(each)[None], heads)[0] for each in tokens]
        queries = [self.image_to_token.q_proj(each) for each in placed]  # I of (P, H D)
        scale = (self.image_to_token.internal_dim // heads) ** 0.5
        self.queries = [(each / scale).to(dtype) for each in queries]

    def of(self, owners: IntArray) -> "_ChunkImages":
        """The images of the boxes of a chunk, `owners` (B,) ascending."""
        return _ChunkImages(self, owners)


class _ChunkImages:
    """What boxes of a chunk take of their images."""

    def __init__(self, shared: _SharedImages, owners: IntArray) -> None:
        self.shared = shared
        numbers, counts = np.unique(owners, return_counts=True)
        self._boxes = list(zip(numbers.tolist(), counts.tolist(), strict=True))
        if len(self._boxes) == 1:
            number = self._boxes[0][0]
            self.tokens, self._queries = shared.tokens[number], shared.queries[number]  # (P, C)
        else:
            self.tokens, self._queries = (  # (B, P, C)
                torch.cat([each[i].expand(count, -1, -1) for i, count in self._boxes])
                for each in (shared.tokens, shared.queries)
            )

    def attended_by(self, queries: torch.Tensor) -> torch.Tensor:
        """Token-to-image attention of queries (B, T, C) over the shared keys and values."""
        attention = self.shared.token_to_image
        q = _split_heads(attention.q_proj(queries), attention.num_heads)  # (B, H, T, D)
        parts = torch.split(q, [count for _, count in self._boxes])
        attended = torch.cat(
            [
                _attended_side_by_side(part, self.shared.keys[i], self.shared.values[i])
                for part, (i, _) in zip(parts, self._boxes, strict=True)
            ]
        )
        return torch.as_tensor(attention.out_proj(attended))

    def attend_to(self, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Image-to-token attention of the shared queries over the tokens (B, T, C)."""
        attention = self.shared.image_to_token
        k = _split_heads(attention.k_proj(keys), attention.num_heads)
        B, H, T, D = k.shape
        by_head = k.new_zeros(B, H, D, H, T)
        own = by_head.diagonal(dim1=1, dim2=3)  # (B, D, T, H); zero between heads
        own.copy_(k.permute(0, 3, 2, 1))
        scores = self._queries @ by_head.view(B, H * D, H * T).to(self.tokens.dtype)  # (B, P, H T)
        return _attend(attention, scores, values)


def _attended_side_by_side(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Attention (B, T, H D) of boxes of one image: one product a head, not one a head and box.

    Args:
        q: (B, H, T, D).
        keys: (H, P, D) of the image.
        values: likewise.
    """
    B, H, T, D = q.shape
    q = q.transpose(0, 1).reshape(H, B * T, D)
    attended = F.scaled_dot_product_attention(q, keys, values)  # (H, B T, D)
    return attended.view(H, B, T, D).permute(1, 2, 0, 3).reshape(B, T, H * D)


def _token_to_image(
    attention: Attention, queries: torch.Tensor, placed: torch.Tensor, keys: torch.Tensor
) -> torch.Tensor:
    """Attention of tokens (B, T, C) over a box's own image tokens (B, P, C)."""
    q = _split_heads(attention.q_proj(queries), attention.num_heads)
    B, H, T, D = q.shape
    projected = q @ attention.k_proj.weight.view(H, D, -1) / D**0.5  # (B, H, T, C)
    scores = projected.view(B, H * T, -1).to(keys.dtype) @ placed.transpose(1, 2)  # (B, H T, P)
    attended = (scores.softmax(-1) @ keys).float().view(B, H, T, -1)  # (B, H, T, C)
    value = attention.v_proj
    heads = attended @ value.weight.view(H, D, -1).transpose(1, 2) + value.bias.view(H, 1, D)
    # (B, H, T, D) to (B, T, H D)
    return torch.as_tensor(attention.out_proj(heads.transpose(1, 2).reshape(B, T, H * D)))


def _image_to_token(
    attention: Attention, placed: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Attention of a box's image tokens (B, P, C) over its tokens (B, T, C)."""
    k = (
        _split_heads(attention.k_proj(keys), attention.num_heads)
        / (attention.internal_dim // attention.num_heads) ** 0.5
    )
    B, H, T, D = k.shape
    query = attention.q_proj
    projected = (k @ query.weight.view(H, D, -1)).view(B, H * T, -1)  # (B, H T, C)
    constant = (k @ query.bias.view(H, D, 1)).view(B, 1, H * T)
    scores = torch.baddbmm(
        constant.to(placed.dtype), placed, projected.transpose(1, 2).to(placed.dtype)
    )  # (B, P, H T)
    return _attend(attention, scores, values)


def _attend(attention: Attention, scores: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Softmax over the tokens of each head of scores (B, P, H T), times values (B, T, C): the
    attention's output (B, P, C)."""
    v = _split_heads(attention.v_proj(values), attention.num_heads)
    B, H, T, D = v.shape
    output = attention.out_proj
    projected = v @ output.weight.T.view(H, D, -1)  # (B, H, T, C)
    weights = scores.view(B, -1, H, T).softmax(-1).view(B, -1, H * T)  # (B, P, H T)
    return torch.baddbmm(
        output.bias.to(scores.dtype),
        weights,
        projected.view(B, H * T, -1).to(scores.dtype),
    )


def _split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, T, C) to (B, H, T, D)."""
    B, T, C = x.shape
    return x.view(B, T, heads, C // heads).transpose(1, 2)


def _norm(norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(
        x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps
    )
