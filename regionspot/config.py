"""What a model is made of, the named presets, and the device and precision it runs in."""

import re
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch

from regionspot.errors import InputError
from regionspot.head import TOKEN_WIDTH, HeadConfig

LocalizerName = Literal["mobile-sam", "vit_b", "vit_l", "vit_h"]
EncoderKind = Literal["imagenet-minilm", "open_clip", "open_clip-crops"]
CropKind = Literal["box", "mask"]
TokenSource = Literal["prompt", "transformer", "mask-mlp"]

DEVICES = "auto, cpu, cuda, cuda:N, mps"
MASK_MLP_WIDTH = TOKEN_WIDTH // 8  # of segment-anything's hypernetworks


@dataclass(frozen=True)
class EncoderConfig:
    """The vision-language encoder.

    Attributes:
        kind: `open_clip` is a ViT whose map is read; `open_clip-crops` any model of open_clip, for
            whole images or crops alone.
        input_sizes: sides in pixels of the squares the image is resized to; open_clip takes one.
            `open_clip-crops` has none: its model decides.
        templates: the prompt ensemble, as of `regionspot.vocabulary.templates`.
        model: open_clip's name of the architecture; unused by `imagenet-minilm`.
        pretrained: open_clip's name of the weights; for `open_clip-crops` also a file.
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


@dataclass(frozen=True)
class CropConfig:
    """A model without a trained head: the encoder on what each box cuts out of the image.

    Attributes:
        localizer: of masks.
        detector: which boxes are proposed where none are given.
        crops: `box`, the pixels of the box; `mask`, the same with all that is not the region
            painted over.
        scales: of each box's sides, whose crops are ensembled.
    """

    name: str
    encoder: EncoderConfig
    localizer: LocalizerName = "mobile-sam"
    detector: str = "nanodet"
    crops: CropKind = "box"
    scales: tuple[float, ...] = (1.0, 1.5)  # ViLD's


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


OPEN_CLIP = "openclip"  # `openclip:MODEL/PRETRAINED`


def _crops(name: str, model: str, pretrained: str) -> CropConfig:
    encoder = EncoderConfig("open_clip-crops", (), "openai-imagenet", model, pretrained)
    return CropConfig(name, encoder)


CROP_PRESETS: dict[str, CropConfig] = {
    config.name: config
    for config in (
        _crops("clip-b16", "ViT-B-16-quickgelu", "openai"),
        _crops("clip-l14", "ViT-L-14-quickgelu", "openai"),
        _crops("siglip2-b16", "ViT-B-16-SigLIP2", "webli"),
    )
}


def model_config(name: str) -> ModelConfig | CropConfig:
    """The configuration of a preset, or of `openclip:MODEL/PRETRAINED`.

    Args:
        name: MODEL and PRETRAINED are open_clip's names of architecture and weights; PRETRAINED may
            also be a file.

    Raises:
        InputError: there is none of that name.
    """
    if name in PRESETS:
        return PRESETS[name]
    if name in CROP_PRESETS:
        return CROP_PRESETS[name]
    kind, _, rest = name.partition(":")
    model, _, pretrained = rest.partition("/")
    if kind == OPEN_CLIP and model and pretrained:
        return _crops(name, model, pretrained)
    known = ", ".join([*PRESETS, *CROP_PRESETS, f"{OPEN_CLIP}:MODEL/PRETRAINED"])
    raise InputError(f"unknown model {name!r}; it must be one of {known}")


def preset(name: str) -> ModelConfig:
    """The configuration of a named preset with a trained head.

    Raises:
        InputError: there is none of that name.
    """
    if name in CROP_PRESETS or name.startswith(f"{OPEN_CLIP}:"):
        raise InputError(f"{name} has no trained head; models with one are {', '.join(PRESETS)}")
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
