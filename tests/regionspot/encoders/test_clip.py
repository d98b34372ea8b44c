"""The CLIP encoder against open_clip's own modules on seeded weights."""

from pathlib import Path

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from PIL import Image
from torch import nn
from torch.nn import functional as F

from regionspot import weights
from regionspot.config import EncoderConfig
from regionspot.encoders.clip import ClipEncoder
from regionspot.encoders.open_clip_weights import cached_weights, check_names, find_weights
from regionspot.errors import InputError
from regionspot.vocabulary import build_vocabulary
from tests.regionspot.factories import (
    CLIP_SIDE,
    CPU,
    list_cached_file,
    noise_image,
    relative_error,
    small_clip,
    small_encoder,
    tiny_open_clip,
)


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return small_encoder()


def build_clip(model: str, pretrained: str, side: int) -> ClipEncoder:
    config = EncoderConfig("open_clip", (side,), "photo", model, pretrained)
    return ClipEncoder.build(config, CPU, torch.float32)


def squares(images: list[np.ndarray]) -> torch.Tensor:
    """Whole images as CLIP's input, written out."""
    size = (CLIP_SIDE, CLIP_SIDE)
    pixels = [np.asarray(Image.fromarray(i).resize(size, Image.Resampling.BICUBIC)) for i in images]
    mean, std = np.array(open_clip.OPENAI_DATASET_MEAN), np.array(open_clip.OPENAI_DATASET_STD)
    normalised = (np.stack(pixels) / 255 - mean) / std
    return torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float()


@torch.no_grad()
def tokens_before_ln_post(model: open_clip.CLIP, pixels: torch.Tensor) -> torch.Tensor:
    visual = model.visual
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    first = visual.class_embedding.expand(len(pixels), 1, -1)
    x = visual.ln_pre(torch.cat([first, patches], dim=1) + visual.positional_embedding)
    for block in visual.transformer.resblocks:
        y = block.ln_1(x)
        x = x + block.attn(y, y, y, need_weights=False)[0]
        x = x + block.mlp(block.ln_2(x))
    return x


def test_map_is_class_and_patch_tokens_before_ln_post(encoder: ClipEncoder) -> None:
    images = [noise_image(90, 150), noise_image(200, 80, seed=1)]
    expected = tokens_before_ln_post(small_clip(), squares(images))
    for tokens, sequence in zip(encoder.image_tokens(images), expected, strict=True):
        assert tokens.map.shape == (64, 4, 4)
        torch.testing.assert_close(tokens.sequence(), sequence, rtol=0, atol=1e-4)
        torch.testing.assert_close(tokens.map[:, 1, 2], sequence[1 + 4 + 2], rtol=0, atol=1e-4)


def test_the_whole_image_is_seen_uncropped(encoder: ClipEncoder) -> None:
    wide = noise_image(60, 300)
    other = wide.copy()
    other[:, :20] = 255 - other[:, :20]  # a centre crop would not see it
    before, after = encoder.image_tokens([wide, other])
    assert relative_error(after.sequence(), before.sequence()) > 1e-3


def test_bfloat16_map_is_near_and_float32(encoder: ClipEncoder) -> None:
    (rounded,) = small_encoder(dtype=torch.bfloat16).image_tokens([noise_image()])
    (exact,) = encoder.image_tokens([noise_image()])
    assert rounded.map.dtype == torch.float32
    assert 0 < relative_error(rounded.map, exact.map) < 5e-2


def test_image_features_are_clips_own(encoder: ClipEncoder) -> None:
    images = [noise_image()]
    with torch.no_grad():
        expected = small_clip().encode_image(squares(images))
    torch.testing.assert_close(encoder.image_features(images), expected, rtol=0, atol=1e-4)
    assert expected.shape[1] == encoder.text_width


def test_text_is_raw_features_averaged_then_normalised(
    encoder: ClipEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path))
    model, tokenize = small_clip(), open_clip.get_tokenizer("ViT-B-16-quickgelu")
    rows = []
    for word in ("cat", "dog"):
        prompts = [template(word) for template in OPENAI_IMAGENET_TEMPLATES]
        with torch.no_grad():
            rows.append(model.encode_text(tokenize(prompts)).mean(0))
    expected = F.normalize(torch.stack(rows), dim=-1)
    found = build_vocabulary(encoder, ["cat", "dog"], "openai-imagenet").embedding
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    bare = build_vocabulary(encoder, ["cat", "dog"], "name").embedding
    with torch.no_grad():
        names = F.normalize(model.encode_text(tokenize(["cat", "dog"])), dim=-1)
    torch.testing.assert_close(bare, names, rtol=0, atol=1e-5)
    assert relative_error(bare, expected) > 1e-2


def test_logit_scale_is_clips_own() -> None:
    model = small_clip()
    with torch.no_grad():
        model.logit_scale.fill_(np.log(100.0))
    tokenizer = open_clip.get_tokenizer("ViT-B-16-quickgelu")
    encoder = ClipEncoder(model, "x", tokenizer, CLIP_SIDE, CPU, torch.float32)
    assert encoder.logit_scale == pytest.approx(100.0, rel=1e-5)


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-L-14", "ViT-L-14-336"])
def test_quickgelu_mismatch_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match=f"trained with QuickGELU.*use '{name}-quickgelu'"):
        check_names(EncoderConfig("open_clip", (), "photo", name, "openai"))
    check_names(EncoderConfig("open_clip", (), "photo", f"{name}-quickgelu", "openai"))


class Archive(nn.Module):
    """A module tree with the parameters of another and a forward that TorchScript can compile."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for name, parameter in module.named_parameters(recurse=False):
            self.register_parameter(name, nn.Parameter(parameter.detach(), requires_grad=False))
        for name, child in module.named_children():
            self.add_module(name, Archive(child))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def save_as_openai_does(model: open_clip.CLIP, path: Path) -> None:
    """A TorchScript archive in half precision with OpenAI's three extra entries."""
    archive = Archive(model).half()
    archive.register_buffer("input_resolution", torch.tensor(CLIP_SIDE))
    archive.register_buffer("context_length", torch.tensor(77))
    archive.register_buffer("vocab_size", torch.tensor(49408))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.script(archive).save(str(path))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_openais_archive_in_the_cache_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path))
    model = small_clip()
    save_as_openai_does(model, weights.cached_path(weights.WEIGHTS["clip-vit-b-16"]))
    list_cached_file(monkeypatch, "clip-vit-b-16")
    built = build_clip("ViT-B-16-quickgelu", "openai", CLIP_SIDE)
    (tokens,) = built.image_tokens([noise_image()])
    expected = tokens_before_ln_post(model, squares([noise_image()]))
    assert relative_error(tokens.sequence(), expected[0]) < 2e-3  # the file is in half precision
    with pytest.raises(InputError, match=r"takes squares of \(64, 64\), got 224"):
        build_clip("ViT-B-16-quickgelu", "openai", 224)


def test_another_file_in_the_cache_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path))
    weights.cached_path(weights.WEIGHTS["clip-vit-b-16"]).write_bytes(b"another")
    with pytest.raises(InputError, match=r"ViT-B-16\.pt is not .*sha256 5806.*models pull"):
        build_clip("ViT-B-16-quickgelu", "openai", 224)


def test_weights_that_no_hub_gives_are_an_error(caplog: pytest.LogCaptureFixture) -> None:
    what = "the weights 'laion2b_s34b_b88k' of 'ViT-B-16' cannot be had: .*`mini` needs no network"
    with pytest.raises(InputError, match=what) as refused:
        build_clip("ViT-B-16", "laion2b_s34b_b88k", 224)
    assert "\n" not in str(refused.value)
    assert not caplog.records


def build_crops(model: str, pretrained: str) -> ClipEncoder:
    config = EncoderConfig("open_clip-crops", (), "photo", model, pretrained)
    return ClipEncoder.build(config, CPU, torch.float32)


def test_weights_may_be_a_file(tmp_path: Path) -> None:
    path = tiny_open_clip(tmp_path)
    encoder = build_crops("tiny-clip", str(path))
    with torch.no_grad():
        model = open_clip.create_model("tiny-clip", pretrained=str(path)).eval()
        expected = model.encode_image(squares([noise_image()]))
    torch.testing.assert_close(encoder.image_features([noise_image()]), expected, rtol=0, atol=1e-4)
    assert (encoder.side, encoder.text_width, encoder.logit_bias) == (CLIP_SIDE, 32, 0.0)
    assert encoder.weights == {"open_clip": weights.sha256_of(path)}
    other = build_crops("tiny-clip", str(tiny_open_clip(tmp_path, seed=1)))
    assert other.text_key != encoder.text_key  # texts in the cache are of one file's tower


def test_siglips_bias_and_pixels_are_those_of_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_open_clip(tmp_path, "tiny-siglip-like", custom_text=True, init_logit_bias=-10)
    listed = {"file": str(path), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-siglip-like", {"webli": listed})
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda _: open_clip.SimpleTokenizer())
    for pretrained in ("webli", str(path)):
        encoder = build_crops("tiny-siglip-like", pretrained)
        assert encoder.logit_bias == -10
        white = np.full((9, 9, 3), 255, np.uint8)
        assert torch.equal(encoder.preprocess([white]), torch.ones(1, 3, CLIP_SIDE, CLIP_SIDE))


def test_a_name_or_file_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    tiny_open_clip(tmp_path)
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pt")
    for model, pretrained, message in (
        ("tiny-clip", str(tmp_path / "other.pt"), r"other\.pt is not tiny-clip; give its weights"),
        ("ViT-B-61", str(tmp_path / "other.pt"), "no model 'ViT-B-61'; near it are ViT-B-16"),
        ("ViT-B-16", "laion", "no file 'laion', and .* weights of 'ViT-B-16', only openai, "),
        ("hf-hub:me", "model", "open_clip knows no model 'hf-hub:me'"),
    ):
        with pytest.raises(InputError, match=message) as refused:
            build_crops(model, pretrained)
        assert "\n" not in str(refused.value)


def test_weights_in_the_hubs_cache_are_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_open_clip(tmp_path, "tiny-hub")
    tags = {"ours": {"hf_hub": "me/tiny-hub/"}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-hub", tags)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    config = EncoderConfig("open_clip-crops", (), "photo", "tiny-hub", "ours")
    assert cached_weights(config) is None
    with pytest.raises(InputError, match="the weights 'ours' of 'tiny-hub' cannot be had"):
        find_weights(config)
    repository = tmp_path / "hub" / "models--me--tiny-hub"
    for name, content in (
        ("refs/main", b"a1"),
        ("snapshots/a1/open_clip_model.safetensors", path.read_bytes()),
    ):
        (repository / name).parent.mkdir(parents=True)
        (repository / name).write_bytes(content)
    assert find_weights(config) == repository / "snapshots" / "a1" / "open_clip_model.safetensors"
    assert build_crops("tiny-hub", "ours").weights == {"open_clip": weights.sha256_of(path)}


def test_a_hub_that_cannot_be_reached_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    message = r"cannot be had: http://127\.0\.0\.1:9 cannot be reached: .*; the model `mini`"
    with pytest.raises(InputError, match=message):
        build_crops("ViT-B-16-SigLIP2", "webli")
