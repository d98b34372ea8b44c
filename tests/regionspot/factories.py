"""Seeded models of the packages' own modules, small enough to run in a moment."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch.nn import functional as F

from regionspot.boxes import FloatArray
from regionspot.config import EncoderConfig, ModelConfig
from regionspot.encoders.clip import ClipEncoder
from regionspot.head import HeadConfig, RegionHead
from regionspot.localizers.sam import SamLocalizer
from regionspot.model import RegionSpot
from regionspot.scoring import RegionScorer
from regionspot.types import ImageArray, ScoreCalibration, Vocabulary
from regionspot.weights import WEIGHTS, cached_path, sha256_of

CPU = torch.device("cpu")
SIDE = 256  # of the small SAM's square, in pixels
CLIP_SIDE = 64
HEAD = HeadConfig(map_width=64, text_width=32, width=64, feedforward=128)
CONFIG = ModelConfig(
    name="small",
    localizer="vit_b",
    encoder=EncoderConfig("open_clip", (CLIP_SIDE,), "photo", "ViT-B-16-quickgelu", "openai"),
    head=HEAD,
)
CALIBRATION = ScoreCalibration(logit_scale=100.0, presence_scale=20.0, presence_bias=-4.0)


def small_sam(seed: int = 0) -> Sam:
    """SAM with one narrow block in the image encoder and the full mask decoder."""
    torch.manual_seed(seed)
    grid = SIDE // 16
    sam = Sam(
        ImageEncoderViT(img_size=SIDE, embed_dim=32, depth=1, num_heads=2, out_chans=256),
        PromptEncoder(256, (grid, grid), (SIDE, SIDE), 16),
        MaskDecoder(transformer_dim=256, transformer=TwoWayTransformer(2, 256, 8, 2048)),
    )
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(3)  # attention that differs from place to place
            if name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return sam.eval()


def small_clip(seed: int = 0) -> open_clip.CLIP:
    """CLIP with two narrow blocks in each tower and OpenAI's activation."""
    torch.manual_seed(seed)
    vision = CLIPVisionCfg(layers=2, width=64, head_width=64, patch_size=16, image_size=CLIP_SIDE)
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=64, heads=1, layers=2)
    return open_clip.CLIP(32, vision, text, quick_gelu=True).eval()


def small_encoder(seed: int = 0, dtype: torch.dtype = torch.float32) -> ClipEncoder:
    tokenizer = open_clip.get_tokenizer("ViT-B-16-quickgelu")
    return ClipEncoder(small_clip(seed), f"small {seed}", tokenizer, CLIP_SIDE, CPU, dtype)


def seeded_head(config: HeadConfig = HEAD, seed: int = 0) -> RegionHead:
    torch.manual_seed(seed)
    return RegionHead(config).eval().requires_grad_(False)


def small_model(config: ModelConfig = CONFIG) -> RegionSpot:
    localizer = SamLocalizer(small_sam(), token=config.token)
    templates, head = config.encoder.templates, seeded_head(config.head)
    scorer = RegionScorer(small_encoder(), templates, head, CALIBRATION)
    return RegionSpot(config, localizer, scorer, CPU, torch.float32)


def noise_image(height: int = 120, width: int = 200, seed: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def random_boxes(count: int, width: int = 200, height: int = 120, seed: int = 0) -> FloatArray:
    """Boxes (count, 4) of at least 8 pixels a side, inside the image."""
    generator = np.random.default_rng(seed)
    start = generator.random((count, 2)) * (width / 2, height / 2)
    sides = 8 + generator.random((count, 2)) * (width / 2 - 8, height / 2 - 8)
    return np.concatenate([start, start + sides], axis=1).astype(np.float32)


def random_words(count: int = 7, seed: int = 5) -> Vocabulary:
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(count, HEAD.text_width, generator=generator)
    names = tuple(f"word {i}" for i in range(count))
    return Vocabulary(names, F.normalize(embedding, dim=-1))


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((got.float() - expected).norm() / expected.norm()).detach())


def list_cached_file(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """List the file that a test has put into the cache as the right one."""
    file = WEIGHTS[name]
    monkeypatch.setitem(WEIGHTS, name, replace(file, sha256=sha256_of(cached_path(file))))


def tiny_open_clip(folder: Path, name: str = "tiny-clip", seed: int = 0, **changes: object) -> Path:
    """Register a small architecture with open_clip, and write seeded weights of it.

    Args:
        folder: of both files.
        name: of the architecture.
        seed: of the weights.
        changes: of open_clip's configuration.
    """
    vision = {"image_size": CLIP_SIDE, "layers": 1, "width": 64, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    settings = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text, **changes}
    (folder / f"{name}.json").write_text(json.dumps(settings))
    open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(seed)
    path = folder / f"{name}-{seed}.safetensors"
    save_file(open_clip.create_model(name).state_dict(), path)
    return path
