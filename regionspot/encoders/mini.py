"""The encoder of the preset `mini`: an ImageNet tower and a sentence tower, tied by training alone.

EfficientNet-lite2 (timm; Tan & Le 2019, arXiv 1905.11946) and all-MiniLM-L6-v2.

Axes: B images, N regions, S seen classes, C = P = 1280 channels of the map and of pooled features,
K strings, D = 384.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data.imagenet_info import ImageNetInfo
from timm.models import EfficientNet
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from regionspot.boxes import FloatArray
from regionspot.config import EncoderConfig
from regionspot.devices.resample import bicubic, resize, resize_windows
from regionspot.devices.runtime import TORCH, Runtime
from regionspot.devices.transfer import pixels_on, to_device
from regionspot.errors import InputError
from regionspot.types import ImageArray, ImageTokens, Pixels
from regionspot.vocabulary import BARE_NAME, cached_features
from regionspot.weights import WEIGHTS, locate
from regionspot.zero_shot import FeatureAdapter, ZeroShotClassifier

TEXT_BATCH = 256
NATIVE_SIDE = 260
STRIDE = 32  # pixels of the input square a place of the map
OBJECT_SIDE = 160.0  # pixels; the tower was trained on objects in squares of 260
OCTAVES = 1.0  # deviation of a map's Gaussian weight, over log2 of box side / OBJECT_SIDE
CROP_SIDE = 128  # pixels of the square that a box's own crop is resized to
CROP_WEIGHT = 0.3  # of the crop in a pooled feature; the maps have the rest
CROP_MARGIN = 0.05  # by which a crop is larger than its box
SMALLEST_CROP = 16.0  # pixels of the image
CPU_CROPS, GPU_CROPS = 32, 1024  # at a time
POOLING = {  # what cached features depend on
    "object_side": OBJECT_SIDE,
    "octaves": OCTAVES,
    "crop": [CROP_SIDE, CROP_WEIGHT, CROP_MARGIN, SMALLEST_CROP],
}


class ImagenetMiniLm:
    """EfficientNet-lite2 maps and MiniLM sentence embeddings.

    Args:
        input_sizes: ascending sides in pixels of the squares that the whole image is resized to.
            The head reads the map of the first; a box is pooled from all, by weights that fall
            as its side on a map is farther from `OBJECT_SIDE`, near to what the tower was
            trained on, and from a crop of its own.
        dtype: float32, or bfloat16 for the image tower's products.
        runtime: what computes the image tower's maps.
    """

    pools = True
    logit_scale, logit_bias = 20.0, 0.0
    text_width = 384
    text_key = f"centred-{WEIGHTS['minilm-weights'].sha256}"
    weights: Mapping[str, str] = MappingProxyType({})  # all are listed

    def __init__(
        self,
        input_sizes: tuple[int, ...],
        device: torch.device,
        dtype: torch.dtype,
        runtime: Runtime = TORCH,
    ) -> None:
        self.input_sizes = input_sizes
        self.device = device
        self.dtype = dtype
        self.image_tower = _build_image_tower().to(memory_format=torch.channels_last).to(device)
        maps = _Maps(self.image_tower)
        sides = (*input_sizes, CROP_SIDE)
        self._tower = runtime.tower("efficientnet-lite2", maps, dtype, sides)
        self.tokenizer = Tokenizer.from_file(str(locate("minilm-tokenizer")))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)
        self.text_tower = _build_text_tower().to(device)

    @classmethod
    def build(
        cls,
        config: EncoderConfig,
        device: torch.device,
        dtype: torch.dtype,
        runtime: Runtime = TORCH,
    ) -> "ImagenetMiniLm":
        """The encoder with its weights.

        Raises:
            InputError: weights that cannot be had.
        """
        return cls(config.input_sizes, device, dtype, runtime)

    @classmethod
    def map_length(cls, config: EncoderConfig) -> int:
        """L: the class token and the places of the first map."""
        return 1 + (-(-config.input_sizes[0] // STRIDE)) ** 2

    @classmethod
    def feature_settings(cls, config: EncoderConfig) -> dict[str, object]:
        """What image features depend on."""
        return {**config.image_settings(), "pooling": POOLING}

    @property
    def pooler(self) -> "ImagenetMiniLm":
        """The encoder itself."""
        return self

    @torch.inference_mode()
    def image_tokens(self, images: Sequence[Pixels]) -> list[ImageTokens]:
        """Class token: the mean of the map (C,); map: (C, h, w), C = 1280, stride 32."""
        first, *finer = [self._map(images, size) for size in self.input_sizes]
        return [
            ImageTokens(first[i].mean((1, 2)), first[i], tuple(m[i] for m in finer))
            for i in range(len(images))
        ]

    def _map(self, images: Sequence[Pixels], size: int) -> torch.Tensor:
        if self.device.type != "cpu":
            uploaded = pixels_on(self.device, images)
            return self._features(
                torch.stack([resize(image, (size, size), bicubic) for image in uploaded])
            )
        whole = [Image.fromarray(np.asarray(image)) for image in images]
        return self._features(
            _stacked([each.resize((size, size), Image.Resampling.BICUBIC) for each in whole])
        )

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, h, w) of squares (B, 3, side, side) of levels in [0, 255]."""
        return self._tower(pixels.float() / 127.5 - 1)

    @torch.inference_mode()
    def image_features(self, images: Sequence[Pixels]) -> torch.Tensor:
        """(B, 384): `prior` of the features of each whole image."""
        pooled = self._map(images, NATIVE_SIDE).mean((2, 3))
        return self.prior(pooled).cpu()

    @torch.inference_mode()
    def pool(self, image: Pixels, tokens: ImageTokens, boxes: FloatArray) -> torch.Tensor:
        """Features (N, 1280) of xyxy pixel boxes (N, 4).

        They are means of the maps inside the boxes, which show the surroundings, and of the map of
        each box's own crop, which shows details.
        """
        cropped = self._cropped(np.asarray(image), boxes) if len(boxes) else None
        return self._pooled(image, tokens, boxes, cropped)

    @torch.inference_mode()
    def pool_all(
        self, images: Sequence[Pixels], tokens: Sequence[ImageTokens], boxes: Sequence[FloatArray]
    ) -> list[torch.Tensor]:
        """As `pool`, with the crops of all images together where that is faster."""
        if self.device.type == "cpu":
            return [self.pool(*each) for each in zip(images, tokens, boxes, strict=True)]
        squares = [
            self._crops_on_device(image, rows)
            for image, rows in zip(pixels_on(self.device, images), boxes, strict=True)
        ]
        parts = torch.split(torch.cat(squares), GPU_CROPS)
        together = torch.cat([self._features(part).mean((2, 3)) for part in parts])
        cropped = torch.split(together, [len(each) for each in boxes])
        return [self._pooled(*each) for each in zip(images, tokens, boxes, cropped, strict=True)]

    def _pooled(
        self,
        image: Pixels,
        tokens: ImageTokens,
        boxes: FloatArray,
        cropped: torch.Tensor | None,
    ) -> torch.Tensor:
        """Features (N, 1280) of boxes, from those of the maps and of their crops (N, 1280)."""
        height, width = image.shape[:2]
        pooled = pool_maps((tokens.map, *tokens.finer), self.input_sizes, boxes, width, height)
        if cropped is not None and len(boxes):
            cropped = F.normalize(cropped, dim=-1)
            length = pooled.norm(dim=1, keepdim=True)
            pooled = (1 - CROP_WEIGHT) * pooled + CROP_WEIGHT * length * cropped
        return pooled

    def _cropped(self, image: ImageArray, boxes: FloatArray) -> torch.Tensor:
        """Mean maps (N, 1280) of the squares around boxes, one or more."""
        whole = Image.fromarray(image)
        crops = [
            whole.resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BICUBIC, box=window)
            for window in crop_windows(boxes, whole.width, whole.height).tolist()
        ]
        parts = [
            self._features(_stacked(crops[start : start + CPU_CROPS])).mean((2, 3))
            for start in range(0, len(crops), CPU_CROPS)
        ]
        return torch.cat(parts)

    def _crops_on_device(self, image: torch.Tensor, boxes: FloatArray) -> torch.Tensor:
        """The squares (N, 3, CROP_SIDE, CROP_SIDE) around boxes."""
        windows = crop_windows(boxes, image.shape[1], image.shape[0])
        return resize_windows(image, to_device(windows, self.device), CROP_SIDE, bicubic)

    @torch.inference_mode()
    def prior(self, pooled: torch.Tensor) -> torch.Tensor:
        """Embeddings of ImageNet's class names, averaged (N, 384) by the tower's probabilities of
        the classes for pooled features (N, 1280)."""
        classes = self.image_tower.classifier(pooled).softmax(-1)  # (N, 1000)
        return torch.as_tensor(classes @ (self._class_words - self._centre))

    def zero_shot(self, seen: torch.Tensor, adapter: FeatureAdapter | None) -> ZeroShotClassifier:
        """ImageNet's classifier, for classes beside the seen ones (S, 384)."""
        return ZeroShotClassifier(self.image_tower.classifier, self._class_meanings, seen, adapter)

    @cached_property
    def _class_meanings(self) -> torch.Tensor:
        """Unit embeddings (1000, 384) of ImageNet's classes with WordNet's definitions.

        A definition names the broader word, "a cat with a grey coat", which the name, "tabby",
        leaves out.
        """
        info = ImageNetInfo()
        strings = [info.index_to_description(i, detailed=True) for i in range(1000)]
        features = cached_features(self._sentences, f"{self.text_key}-raw", BARE_NAME, strings)
        return F.normalize(features - features.mean(0), dim=-1)

    @cached_property
    def _class_words(self) -> torch.Tensor:
        """Sentence features (1000, 384) of ImageNet's classes, synonyms averaged."""
        info = ImageNetInfo()
        groups = [info.index_to_description(i).split(", ") for i in range(1000)]
        strings = sorted({name for group in groups for name in group})
        row = {name: i for i, name in enumerate(strings)}
        features = cached_features(self._sentences, f"{self.text_key}-raw", "photo", strings)
        means = [features[[row[name] for name in group]].mean(0) for group in groups]
        return torch.stack(means).to(self.device)

    @cached_property
    def _centre(self) -> torch.Tensor:
        """(384,) the mean of sentence features over ImageNet's class names."""
        return self._class_words.mean(0)

    def text(self, strings: Sequence[str]) -> torch.Tensor:
        """Sentence features (K, 384), less their mean over ImageNet's class names.

        All-MiniLM puts short names close together; without their mean they differ more.
        """
        return F.normalize(self._sentences(strings), dim=-1) - self._centre

    @torch.inference_mode()
    def _sentences(self, strings: Sequence[str]) -> torch.Tensor:
        """Mean-pooled token embeddings (K, 384).

        Strings of one length are computed together: nothing is padded, so that the features of a
        string do not depend on the others.
        """
        by_length: defaultdict[int, list[int]] = defaultdict(list)
        encoded = self.tokenizer.encode_batch(list(strings))
        for row, each in enumerate(encoded):
            by_length[len(each.ids)].append(row)
        features = torch.empty(len(strings), self.text_width, device=self.device)
        for rows in by_length.values():
            for start in range(0, len(rows), TEXT_BATCH):
                part = rows[start : start + TEXT_BATCH]
                ids = torch.tensor([encoded[row].ids for row in part], device=self.device)
                hidden = self.text_tower(input_ids=ids).last_hidden_state  # (k, tokens, 384)
                features[part] = hidden.float().mean(1)
        return features


class _Maps(nn.Module):
    """An image tower without its classifier."""

    def __init__(self, tower: EfficientNet) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, h, w) of normalised pixels (B, 3, side, side)."""
        return torch.as_tensor(self.tower.forward_features(pixels))


def _stacked(squares: Sequence[Image.Image]) -> torch.Tensor:
    """Levels (B, 3, side, side) of squares of one size."""
    stacked = np.stack([np.asarray(square) for square in squares])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def pool_maps(
    maps: Sequence[torch.Tensor],
    input_sizes: Sequence[int],
    boxes: FloatArray,
    width: int,
    height: int,
) -> torch.Tensor:
    """RoIAlign's mean (N, C) of the maps (C, h, w) inside xyxy pixel boxes (N, 4).

    Args:
        maps: (C, h, w) each.
        input_sizes: of each map, sides in pixels of the square that it was made of.
        boxes: (N, 4) xyxy pixels.
        width: of the image that the boxes are in.
        height: of the image that the boxes are in.
    """
    device = maps[0].device
    # Divided on the host: (N, 4) xyxy in [0, 1].
    relative = to_device(boxes / np.array([width, height, width, height], np.float32), device)
    sides = (relative[:, 2:] - relative[:, :2]).log2().mean(1)
    sizes = to_device((torch.tensor(input_sizes) / OBJECT_SIDE).log2().numpy(), device)
    weights = (-(((sides[:, None] + sizes) / OCTAVES) ** 2) / 2).softmax(1)  # (N, maps)
    means = [
        roi_align(each[None], [relative * each.shape[-1]], 1, aligned=True)[:, :, 0, 0]  # (N, C)
        for each in maps
    ]
    return (weights[..., None] * torch.stack(means, 1)).sum(1)  # over the maps


def crop_windows(boxes: FloatArray, width: int, height: int) -> FloatArray:
    """Squares around xyxy pixel boxes (N, 4), cut off where the image of `width` x `height` ends.

    They are larger than the boxes by `CROP_MARGIN`, and have sides of `SMALLEST_CROP` or more.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) * (1 + CROP_MARGIN)
    half = np.maximum(side, SMALLEST_CROP) / 2
    limit = np.array([width, height], np.float32)
    first = (centre - half).clip(0, limit - 1)
    last = (centre + half).clip(first + 1, limit)
    return np.concatenate([first, last], axis=1)


def _build_image_tower() -> EfficientNet:
    tower = timm.create_model("tf_efficientnet_lite2")
    assert isinstance(tower, EfficientNet)
    path = locate("efficientnet-lite2")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch reports a foreign file by many exception types
        raise InputError(f"{path} is not its file; run `autolabel models verify`") from error
    # the file's names are another package's; both list the same layers in the same order
    tower.load_state_dict(dict(zip(tower.state_dict(), loaded.values(), strict=True)))
    return tower.eval().requires_grad_(False)


def _build_text_tower() -> torch.nn.Module:
    from transformers import BertConfig, BertModel  # takes seconds to import

    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    tower: torch.nn.Module = BertModel(config, add_pooling_layer=False)
    loaded = load_file(locate("minilm-weights"))
    used = {
        name: tensor
        for name, tensor in loaded.items()
        if not name.startswith("pooler.") and name != "embeddings.position_ids"
    }
    tower.load_state_dict(used)
    return tower.eval().requires_grad_(False)
