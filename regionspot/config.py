"""What a model is made of, the named presets, and the device and precision it runs in."""

import re
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch

from regionspot.errors import InputError
from regionspot.head import TOKEN_WIDTH, HeadConfig

LocalizerName = Literal["mobile-sam", "vit_b", "vit_l", "vit_h"]
EncoderKind = Literal["imagenet-minilm", "open_clip"]
TokenSource = Literal["prompt", "transformer", "mask-mlp"]

DEVICES = "auto, cpu, cuda, cuda:N, mps"
MASK_MLP_WIDTH = TOKEN_WIDTH // 8  # of segment-anything's hypernetworks


@dataclass(frozen=True)
class EncoderConfig:
    """The vision-language encoder.

    Attributes:
        input_sizes: sides in pixels of the squares the image is resized to; open_clip takes one.
        templates: the prompt ensemble, as of `regionspot.vocabulary.templates`.
        model: open_clip's name of the architecture; unused by `imagenet-minilm`.
        pretrained: open_clip's name of the weights.
    """

    kind: EncoderKind
    input_sizes: tuple[int, ...]
    templates: str
    model: str = ""
    pretrained: str = ""

    def image_settings(self) -> dict[str, object]:
        """All but the text side, which may change without new image features."""
        settings = asdict(self)
        del settings["templates"]
        return settings


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: two frozen towers and the head between them.

    Attributes:
        detector: which boxes are proposed where none are given.
        token: which module of the localizer's decoder the token is taken behind (paper, ablation
            of position-aware tokens): `prompt` is the mean of the two corners' embeddings,
            `transformer` the first mask token behind the two-way transformer, `mask-mlp` that
            token behind the mask's hypernetwork, of 32 channels.
    """

    name: str
    localizer: LocalizerName
    encoder: EncoderConfig
    head: HeadConfig
    detector: str = "nanodet"
    token: TokenSource = "transformer"


def with_token(config: ModelConfig, token: TokenSource) -> ModelConfig:
    """A configuration with another token, and the head as wide as that token is."""
    width = MASK_MLP_WIDTH if token == "mask-mlp" else TOKEN_WIDTH
    return replace(config, token=token, head=replace(config.head, token_width=width))


def _openai_clip(name: str, model: str, side: int, map_width: int, text_width: int) -> ModelConfig:
    return ModelConfig(
        name=name,
        localizer="vit_b",
        encoder=EncoderConfig("open_clip", (side,), "openai-imagenet", model, "openai"),
        head=HeadConfig(map_width=map_width, text_width=text_width, width=map_width),
    )


PRESETS: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        ModelConfig(
            name="mini",
            localizer="mobile-sam",
            encoder=EncoderConfig("imagenet-minilm", (480, 1200), "photo"),
            head=HeadConfig(
                map_width=1280,
                text_width=384,
                width=256,
                dropout=0.25,
                pooled_width=1280,
                prior_weight=0.5,
            ),
        ),
        _openai_clip("bb", "ViT-B-16-quickgelu", 224, 768, 512),
        _openai_clip("bl", "ViT-L-14-quickgelu", 224, 1024, 768),
        _openai_clip("bl-336", "ViT-L-14-336-quickgelu", 336, 1024, 768),
    )
}


def preset(name: str) -> ModelConfig:
    """The configuration of a named preset.

    Raises:
        InputError: there is none of that name.
    """
    if name not in PRESETS:
        raise InputError(f"unknown model {name!r}; presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def resolve_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda`, `cuda:N` or `mps` stands for here.

    Raises:
        InputError: an unknown name, or a device that is not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?|mps", name, re.ASCII):
        raise InputError(f"device must be one of {DEVICES}, got {name!r}")
    kind, _, number = name.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device was found; use --device cpu or auto")
    if number and int(number) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise InputError(f"device {name} is not there: {count} CUDA devices were found, from 0")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("no MPS device was found; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_bf16 else torch.float32
