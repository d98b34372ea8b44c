"""Any model of segment-anything's shape as a localizer.

Axes: N regions, T token width, C = 256 channels, h w rows and columns of the low-resolution masks.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from regionspot.boxes import FloatArray
from regionspot.config import TokenSource
from regionspot.devices.resample import bilinear, resize
from regionspot.devices.runtime import TORCH, Runtime
from regionspot.devices.transfer import pixels_on, to_device
from regionspot.errors import InputError
from regionspot.localizers.batched_encoder import with_fused_attention
from regionspot.localizers.fast_decoder import CandidateMasks, RegionDecoder
from regionspot.localizers.mobile_sam import build_mobile_sam
from regionspot.types import (
    ImageArray,
    ImageEmbedding,
    IntArray,
    Pixels,
    RegionTokens,
)
from regionspot.weights import locate

MARGIN = 2  # cells of the embedding around a box: more than bilinear sampling reaches


class SamLocalizer:
    """SAM or MobileSAM, prompted with boxes (paper, section 3.2: the position-aware token).

    Args:
        sam: a model built from segment-anything's modules.
        dtype: float32, or bfloat16 for the image encoder and the decoder's large products.
        token: the module behind which the token is taken, as `ModelConfig.token` says.
        in_batches: whether images are resized and embedded together, where the model computes; by
            default on every device but the CPU.
        runtime: what computes the image encoder for one image.
    """

    def __init__(
        self,
        sam: Sam,
        dtype: torch.dtype = torch.float32,
        token: TokenSource = "transformer",
        in_batches: bool | None = None,
        runtime: Runtime = TORCH,
    ) -> None:
        self.sam = sam.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.dtype = dtype
        self.token = token
        self.in_batches = sam.device.type != "cpu" if in_batches is None else in_batches
        self._decoder = RegionDecoder(sam.mask_decoder, dtype)
        side = sam.image_encoder.img_size
        self._tower = runtime.tower("sam", sam.image_encoder, dtype, (side,))
        self._encoder = (
            with_fused_attention(sam.image_encoder, dtype) if self.in_batches else sam.image_encoder
        )

    @torch.inference_mode()
    def encode(self, image: ImageArray) -> ImageEmbedding:
        """Embed an RGB image, uint8 (H, W, 3): longest side resized to the model's, zero padded."""
        height, width = image.shape[:2]
        size = self._input_size(width, height)
        resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(resized.copy()).to(self.sam.device)
        pixels = pixels.permute(2, 0, 1)[None]  # (1, 3, H, W)
        features = self._tower(self.sam.preprocess(pixels))[0]
        return ImageEmbedding(features, width, height, *size)

    @torch.inference_mode()
    def encode_all(self, images: Sequence[Pixels]) -> list[ImageEmbedding]:
        """As `encode`, of images (H, W, 3) of any sizes."""
        if not self.in_batches:
            return [self.encode(np.asarray(image)) for image in images]
        side, device = self.sam.image_encoder.img_size, self.sam.device
        sizes = [self._input_size(image.shape[1], image.shape[0]) for image in images]
        squares = torch.zeros(len(images), 3, side, side, device=device)  # (B, 3, S, S)
        squares = squares.contiguous(memory_format=torch.channels_last)
        for square, image, (w, h) in zip(squares, pixels_on(device, images), sizes, strict=True):
            pixels = resize(image, (h, w), bilinear).float()
            square[:, :h, :w] = (pixels - self.sam.pixel_mean) / self.sam.pixel_std
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = self._encoder(squares).float()
        return [
            ImageEmbedding(each, image.shape[1], image.shape[0], *size)
            for each, image, size in zip(features, images, sizes, strict=True)
        ]

    def _input_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of an image inside the padded square."""
        scale = self.sam.image_encoder.img_size / max(height, width)
        return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))

    @torch.inference_mode()
    def tokens(
        self, embedding: ImageEmbedding, boxes: FloatArray, masks: bool = False
    ) -> RegionTokens:
        """Tokens (N, T), and if asked mask logits (N, h, w), for xyxy pixel boxes (N, 4).

        Token and mask come from the same pass of the decoder. The logits are those of the box and
        of `MARGIN` cells around it; elsewhere they are 0.
        """
        return self._decoded([embedding], [boxes], masks)

    @torch.inference_mode()
    def tokens_of_all(
        self, embeddings: Sequence[ImageEmbedding], boxes: Sequence[FloatArray], masks: bool = False
    ) -> list[RegionTokens]:
        """As `tokens`, of the boxes (n, 4) of each image."""
        if not self.in_batches:
            return [self.tokens(e, b, masks) for e, b in zip(embeddings, boxes, strict=True)]
        counts = [len(each) for each in boxes]
        together = self._decoded(embeddings, boxes, masks)
        nothing: list[None] = [None] * len(counts)
        logits, iou = together.mask_logits, together.mask_iou
        return [
            RegionTokens(*parts)
            for parts in zip(
                torch.split(together.tokens, counts),
                nothing if logits is None else torch.split(logits, counts),
                nothing if iou is None else torch.split(iou, counts),
                strict=True,
            )
        ]

    @torch.inference_mode()
    def point_masks(
        self, embedding: ImageEmbedding, points: FloatArray, min_iou: float
    ) -> Iterator[CandidateMasks]:
        """Masks of whatever lies at points (N, 2) xy in pixels of the original image.

        Args:
            embedding: of the image.
            points: inside of it.
            min_iou: masks of a lower estimated IoU are left out.
        """
        encoder = self.sam.prompt_encoder
        square = to_device(_of_square(embedding, np.tile(points, 2))[:, None, :2], self.sam.device)
        labels = torch.ones(len(points), 1, dtype=torch.int64, device=self.sam.device)
        prompts, dense = encoder((square, labels), None, None)  # (N, 2, C), (N, C, 64, 64)
        cell = encoder.input_image_size[0] // encoder.image_embedding_size[0]  # pixels
        inside = (-(-embedding.input_height // cell), -(-embedding.input_width // cell))
        yield from self._decoder.candidates(
            embedding.features + dense[0], encoder.get_dense_pe()[0], prompts, min_iou, inside
        )

    def _decoded(
        self, embeddings: Sequence[ImageEmbedding], boxes: Sequence[FloatArray], masks: bool
    ) -> RegionTokens:
        """Tokens of the N boxes of all images, one image after the other."""
        encoder = self.sam.prompt_encoder
        scaled = np.concatenate(
            [_of_square(each, rows) for each, rows in zip(embeddings, boxes, strict=True)]
        )
        corners = to_device(scaled, self.sam.device)  # (N, 4) of the padded square
        prompts, dense = encoder(None, corners, None)  # (N, 2, C), (N, C, 64, 64)
        if not len(scaled):
            dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        if self.token == "prompt" and not masks:
            return RegionTokens(prompts.mean(1))
        decoded = self._decoder(
            torch.stack([each.features for each in embeddings]) + dense[0],
            encoder.get_dense_pe()[0],
            prompts,
            self._windows(scaled) if masks else None,
            [len(each) for each in boxes],
        )
        return RegionTokens(
            self._chosen(prompts, decoded.token), decoded.mask_logits, decoded.mask_iou
        )

    def _windows(self, boxes: FloatArray) -> IntArray:
        """Cells (N, 4) of the embedding that boxes (N, 4) of the padded square touch, and MARGIN
        cells around them."""
        encoder = self.sam.prompt_encoder
        cell = encoder.input_image_size[0] / encoder.image_embedding_size[0]  # pixels
        first = np.floor(boxes[:, :2] / cell) - MARGIN
        last = np.ceil(boxes[:, 2:] / cell) + MARGIN
        return np.concatenate([first, last], axis=1).astype(np.int64)

    def _chosen(self, prompts: torch.Tensor, mask_token: torch.Tensor) -> torch.Tensor:
        """Tokens (N, T), from prompts (N, 2, C) and mask tokens (N, C)."""
        if self.token == "prompt":
            return prompts.mean(1)
        if self.token == "mask-mlp":
            return torch.as_tensor(self.sam.mask_decoder.output_hypernetworks_mlps[0](mask_token))
        return mask_token


def _of_square(embedding: ImageEmbedding, boxes: FloatArray) -> FloatArray:
    """Boxes (N, 4) of the original image in pixels of the padded square."""
    across = embedding.input_width / embedding.width
    down = embedding.input_height / embedding.height
    return boxes * np.array([across, down] * 2, np.float32)


def build_sam(name: str) -> Sam:
    """`mobile-sam`, or `vit_b`, `vit_l`, `vit_h` from Meta's checkpoints.

    Raises:
        InputError: the weights cannot be had, or the file in the cache is another one.
    """
    if name == "mobile-sam":
        return build_mobile_sam()
    path = locate(f"sam-{name.replace('_', '-')}")
    sam = sam_model_registry[name]()
    try:
        sam.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        # torch reports a foreign file by many exception types
        raise InputError(f"{path} is not SAM's {name}; run `autolabel models verify`") from error
    return sam
