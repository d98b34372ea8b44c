"""Presets, the settings that image features depend on, and devices."""

from dataclasses import replace

import open_clip
import pytest
import torch

from regionspot.config import CROP_PRESETS, PRESETS, model_config, preset, resolve_device
from regionspot.errors import InputError
from regionspot.model import head_file


def test_presets_are_the_papers() -> None:
    shapes = {
        name: (c.localizer, c.encoder.model, c.encoder.input_sizes, c.head.width, c.head.text_width)
        for name, c in PRESETS.items()
        if name != "mini"
    }
    assert shapes == {
        "bb": ("vit_b", "ViT-B-16-quickgelu", (224,), 768, 512),
        "bl": ("vit_b", "ViT-L-14-quickgelu", (224,), 1024, 768),
        "bl-336": ("vit_b", "ViT-L-14-336-quickgelu", (336,), 1024, 768),
    }
    with pytest.raises(InputError, match="unknown model 'xl'; presets are mini, bb, bl, bl-336"):
        preset("xl")


def test_image_settings_are_all_but_the_text_side() -> None:
    encoder = preset("bl").encoder
    assert encoder.image_settings() == replace(encoder, templates="name").image_settings()
    assert set(encoder.image_settings()) == {"kind", "input_sizes", "model", "pretrained"}


def test_the_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="no CUDA device was found; use --device cpu or auto"):
        resolve_device("cuda")
    for name in ("cuda:1", "mps"):
        with pytest.raises(InputError, match=r"no (CUDA|MPS) device was found"):
            resolve_device(name)
    for name in ("gpu", "cuda:", "cuda:x", "mps:0", "cpu\n"):
        with pytest.raises(InputError, match="must be one of auto, cpu, cuda, cuda:N, mps, got"):
            resolve_device(name)


def test_a_numbered_device_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="device cuda:2 is not there: 2 CUDA devices were found"):
        resolve_device("cuda:2")


def test_models_without_a_head_are_open_clips() -> None:
    names = {name: (c.encoder.model, c.encoder.pretrained) for name, c in CROP_PRESETS.items()}
    assert names == {
        "clip-b16": ("ViT-B-16-quickgelu", "openai"),
        "clip-l14": ("ViT-L-14-quickgelu", "openai"),
        "siglip2-b16": ("ViT-B-16-SigLIP2", "webli"),
    }
    for model, pretrained in names.values():
        assert open_clip.get_pretrained_cfg(model, pretrained)
    assert model_config("bb") == PRESETS["bb"]
    assert model_config("clip-b16") == CROP_PRESETS["clip-b16"]
    for pretrained in ("laion2b_s34b_b88k", "/weights/mine.pt", "weights/mine.pt"):
        config = model_config(f"openclip:ViT-B-16/{pretrained}")
        assert (config.name, config.encoder.model) == (
            f"openclip:ViT-B-16/{pretrained}",
            "ViT-B-16",
        )
        assert config.encoder.pretrained == pretrained


@pytest.mark.parametrize(
    "name", ["xl", "openclip:", "openclip:ViT-B-16", "openclip:/x", "clip-b16/x"]
)
def test_unknown_models_are_one_line(name: str) -> None:
    with pytest.raises(
        InputError, match=r"unknown model .*mini, .*siglip2-b16, openclip:MODEL/PRE"
    ):
        model_config(name)


@pytest.mark.parametrize("name", ["clip-b16", "openclip:ViT-B-16/openai"])
def test_what_needs_a_head_refuses_models_without(name: str) -> None:
    with pytest.raises(InputError, match="has no trained head; models with one are mini, bb"):
        preset(name)
    with pytest.raises(InputError, match="has no trained head; leave --checkpoint out"):
        head_file(model_config(name), "mine.safetensors")
