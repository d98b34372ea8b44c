"""What a model is made of, and the named choices."""

from dataclasses import dataclass, replace
from typing import Literal

from regionspot.errors import InputError
from regionspot.head import TOKEN_WIDTH, HeadConfig

LocalizerName = Literal["mobile-sam", "vit_b", "vit_l", "vit_h"]
EncoderKind = Literal["imagenet-minilm", "open_clip"]
TokenSource = Literal["prompt", "transformer", "mask-mlp"]

MASK_MLP_WIDTH = TOKEN_WIDTH // 8  # of segment-anything's hypernetworks


@dataclass(frozen=True)
class EncoderConfig:
    """The vision-language encoder.

    Attributes:
        input_sizes: sides in pixels of the squares the image is resized to; open_clip takes one.
        templates: the prompt ensemble, a key of `templates.TEMPLATES`.
        model: open_clip's name of the architecture; unused by `imagenet-minilm`.
        pretrained: open_clip's name of the weights.
    """

    kind: EncoderKind
    input_sizes: tuple[int, ...]
    templates: str
    model: str = ""
    pretrained: str = ""


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
