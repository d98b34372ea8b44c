"""Any model of segment-anything's shape as a localizer.

Axes: N regions, T token width, C = 256 channels, h w rows and columns of the low-resolution masks.
"""

import numpy as np
import torch
from PIL import Image
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from torch.nn import functional as F

from regionspot.boxes import FloatArray
from regionspot.config import TokenSource
from regionspot.errors import InputError
from regionspot.localizers.fast_decoder import RegionDecoder
from regionspot.localizers.mobile_sam import build_mobile_sam
from regionspot.types import ImageArray, ImageEmbedding, RegionTokens, Rle, encode_window
from regionspot.weights import locate

ENLARGEMENT = 4  # pixels of the padded square a side of a low-resolution logit
MARGIN = 2  # logits, or cells of the embedding, around a box: more than bilinear sampling reaches


class SamLocalizer:
    """SAM or MobileSAM, prompted with boxes (paper, section 3.2: the position-aware token).

    Args:
        sam: a model built from segment-anything's modules.
        dtype: float32, or bfloat16 for the image encoder and the decoder's large products.
        token: the module behind which the token is taken, as `ModelConfig.token` says.
    """

    def __init__(
        self, sam: Sam, dtype: torch.dtype = torch.float32, token: TokenSource = "transformer"
    ) -> None:
        self.sam = sam.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.dtype = dtype
        self.token = token
        self._decoder = RegionDecoder(sam.mask_decoder, dtype)

    @torch.inference_mode()
    def encode(self, image: ImageArray) -> ImageEmbedding:
        """Embed an RGB image, uint8 (H, W, 3): longest side resized to the model's, zero padded."""
        height, width = image.shape[:2]
        scale = self.sam.image_encoder.img_size / max(height, width)
        size = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
        resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(resized.copy()).to(self.sam.device)
        pixels = pixels.permute(2, 0, 1)[None]  # (1, 3, H, W)
        square = self.sam.preprocess(pixels).contiguous(memory_format=torch.channels_last)
        with torch.autocast(square.device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = self.sam.image_encoder(square)[0]
        return ImageEmbedding(features.float(), width, height, *size)

    @torch.inference_mode()
    def tokens(
        self, embedding: ImageEmbedding, boxes: FloatArray, masks: bool = False
    ) -> RegionTokens:
        """Tokens (N, T), and if asked mask logits (N, h, w), for xyxy pixel boxes (N, 4).

        Token and mask come from the same pass of the decoder. The logits are those of the box and
        of `MARGIN` cells around it; elsewhere they are 0.
        """
        scale = np.array(
            [
                embedding.input_width / embedding.width,
                embedding.input_height / embedding.height,
            ]
            * 2,
            np.float32,
        )
        encoder = self.sam.prompt_encoder
        corners = torch.from_numpy(boxes * scale).to(self.sam.device)  # (N, 4) of the padded square
        prompts, dense = encoder(None, corners, None)  # (N, 2, C), (N, C, 64, 64)
        if not len(boxes):
            dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        if self.token == "prompt" and not masks:
            return RegionTokens(prompts.mean(1))
        decoded = self._decoder(
            embedding.features + dense[0],
            encoder.get_dense_pe()[0],
            prompts,
            self._windows(corners) if masks else None,
        )
        return RegionTokens(
            self._chosen(prompts, decoded.token), decoded.mask_logits, decoded.mask_iou
        )

    def _windows(self, corners: torch.Tensor) -> torch.Tensor:
        """Cells (N, 4) of the embedding that boxes (N, 4) of the padded square touch, and MARGIN
        cells around them."""
        encoder = self.sam.prompt_encoder
        cell = encoder.input_image_size[0] / encoder.image_embedding_size[0]  # pixels
        first = (corners[:, :2] / cell).floor() - MARGIN
        last = (corners[:, 2:] / cell).ceil() + MARGIN
        return torch.cat([first, last], dim=1).long()

    def _chosen(self, prompts: torch.Tensor, mask_token: torch.Tensor) -> torch.Tensor:
        """Tokens (N, T), from prompts (N, 2, C) and mask tokens (N, C)."""
        if self.token == "prompt":
            return prompts.mean(1)
        if self.token == "mask-mlp":
            return torch.as_tensor(self.sam.mask_decoder.output_hypernetworks_mlps[0](mask_token))
        return mask_token


def run_length_masks(
    tokens: RegionTokens, embedding: ImageEmbedding, boxes: FloatArray, threshold: float = 0.0
) -> tuple[Rle, ...]:
    """The masks of the regions in the original image's frame, each cut to its own box.

    Low-resolution logits are enlarged bilinearly to the padded square and sampled at the pixels
    of the box alone, so that a large image costs no more than its boxes.

    Args:
        tokens: of the N regions, with `mask_logits`.
        embedding: of the image.
        boxes: (N, 4) xyxy pixels of the original image.
        threshold: on the logits; 0 is SAM's own.
    """
    assert tokens.mask_logits is not None, "ask the localizer for masks"
    result = []
    for logits, box in zip(tokens.mask_logits, boxes, strict=True):
        x1, y1 = (int(v) for v in np.floor(box[:2]))
        x2, y2 = (int(v) for v in np.ceil(box[2:]))
        x2, y2 = min(x2, embedding.width), min(y2, embedding.height)
        # Pixel centres of the original image, in pixels of the padded square.
        across = (torch.arange(x1, x2) + 0.5) * (embedding.input_width / embedding.width)
        down = (torch.arange(y1, y2) + 0.5) * (embedding.input_height / embedding.height)
        mask = _sampled(logits.float(), across, down) > threshold
        result.append(encode_window(mask.cpu().numpy(), x1, y1, embedding.width, embedding.height))
    return tuple(result)


def _sampled(logits: torch.Tensor, across: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Logits at places of the padded square, as if they were enlarged to its size.

    Only the part around the places is enlarged: what is farther than MARGIN cells has no influence
    on them.

    Args:
        logits: (4 h, 4 w), each of ENLARGEMENT pixels of the square a side.
        across: (X,) ascending pixels of the square.
        down: (Y,) ascending pixels of the square.

    Returns:
        (Y, X).
    """
    (left, right), (top, bottom) = (
        (
            max(0, int(at[0]) // ENLARGEMENT - MARGIN),
            min(side, int(at[-1]) // ENLARGEMENT + MARGIN + 1),
        )
        for at, side in ((across, logits.shape[1]), (down, logits.shape[0]))
    )
    part = logits[None, None, top:bottom, left:right]
    enlarged = F.interpolate(part, scale_factor=ENLARGEMENT, mode="bilinear")
    height, width = enlarged.shape[2:]
    columns = (2 * (across - ENLARGEMENT * left) / width - 1).to(logits.device)
    rows = (2 * (down - ENLARGEMENT * top) / height - 1).to(logits.device)
    # (1, Y, X, 2), x first
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    return F.grid_sample(enlarged, grid, padding_mode="border", align_corners=False)[0, 0]


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
