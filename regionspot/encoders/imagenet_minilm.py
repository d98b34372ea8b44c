"""An image tower that knows ImageNet and a text tower that knows words, tied by training alone.

EfficientNet-lite2 (timm; Tan & Le 2019, arXiv 1905.11946) and all-MiniLM-L6-v2.
"""

from collections.abc import Sequence

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional as F

from regionspot.localizers.sam import ImageArray
from regionspot.types import ImageTokens
from regionspot.weights import WEIGHTS, locate

TEXT_BATCH = 256


class ImagenetMiniLm:
    """EfficientNet-lite2 maps and MiniLM sentence embeddings.

    Args:
        input_sizes: sides of the squares that the whole image is resized to. The maps of all
            sizes are brought to the side of the largest and stacked along the channels, so that
            both large and small objects meet the tower near the size it was trained on.
        dtype: float32, or bfloat16 for the image tower's products.
    """

    logit_scale = 20.0
    text_key = WEIGHTS["minilm-weights"].sha256

    def __init__(
        self, input_sizes: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.input_sizes = input_sizes
        self.device = device
        self.dtype = dtype
        self.image_tower = _build_image_tower().to(device, memory_format=torch.channels_last)
        self.tokenizer = Tokenizer.from_file(str(locate("minilm-tokenizer")))
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(256)
        self.text_tower = _build_text_tower().to(device)

    @torch.inference_mode()
    def image_tokens(self, images: Sequence[ImageArray]) -> list[ImageTokens]:
        """Class token: the pooled map of each size; map: (C, h, w), C = 1280 a size."""
        maps = [self._map(images, size) for size in self.input_sizes]
        side = max(m.shape[-1] for m in maps)
        tokens = torch.cat([m.mean((2, 3)) for m in maps], dim=1)
        resized = [
            m if m.shape[-1] == side else F.interpolate(m, (side, side), mode="bilinear")
            for m in maps
        ]
        stacked = torch.cat(resized, dim=1)
        return [ImageTokens(t, m) for t, m in zip(tokens, stacked, strict=True)]

    def _map(self, images: Sequence[ImageArray], size: int) -> torch.Tensor:
        squares = [
            np.asarray(Image.fromarray(i).resize((size, size), Image.Resampling.BICUBIC))
            for i in images
        ]
        pixels = torch.from_numpy(np.stack(squares)).to(self.device).permute(0, 3, 1, 2)
        normalised = (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return torch.as_tensor(self.image_tower.forward_features(normalised)).float()

    @torch.inference_mode()
    def text(self, strings: Sequence[str]) -> torch.Tensor:
        """Mean-pooled token embeddings (K, 384)."""
        parts = []
        for start in range(0, len(strings), TEXT_BATCH):
            batch = self.tokenizer.encode_batch(list(strings[start : start + TEXT_BATCH]))
            ids = torch.tensor([e.ids for e in batch], device=self.device)
            mask = torch.tensor([e.attention_mask for e in batch], device=self.device)
            hidden = self.text_tower(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask[..., None].float()
            parts.append((hidden * weights).sum(1) / weights.sum(1))
        return torch.cat(parts).float()


def _build_image_tower() -> torch.nn.Module:
    tower = timm.create_model("tf_efficientnet_lite2")
    loaded = torch.load(locate("efficientnet-lite2"), map_location="cpu", weights_only=True)
    # the file's names are another package's; both list the same layers in the same order
    tower.load_state_dict(dict(zip(tower.state_dict(), loaded.values(), strict=True)))
    return tower.eval().requires_grad_(False)


def _build_text_tower() -> torch.nn.Module:
    from transformers import BertConfig, BertModel  # takes seconds to import

    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    tower = BertModel(config, add_pooling_layer=False)
    loaded = load_file(locate("minilm-weights"))
    used = {
        name: tensor
        for name, tensor in loaded.items()
        if not name.startswith("pooler.") and name != "embeddings.position_ids"
    }
    tower.load_state_dict(used)
    return tower.eval().requires_grad_(False)
