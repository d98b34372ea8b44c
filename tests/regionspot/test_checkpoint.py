"""Checkpoints: ours and the released ones, and every way in which a file does not fit."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from regionspot import checkpoint, model
from regionspot.checkpoint import TrainedHead, import_official, load_head, load_official, save_head
from regionspot.config import PRESETS, with_token
from regionspot.errors import InputError
from regionspot.head import HeadConfig, RegionHead
from regionspot.localizers.sam import SamLocalizer
from regionspot.model import load_model
from regionspot.types import ScoreCalibration
from regionspot.zero_shot import FeatureAdapter
from tests.regionspot.factories import (
    CALIBRATION,
    CONFIG,
    HEAD,
    relative_error,
    seeded_head,
    small_encoder,
    small_sam,
)

State = dict[str, torch.Tensor]
OFFICIAL = replace(HEAD, dropout=0.1)


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_released_file_with_and_without_prefix(tmp_path: Path, prefix: str, wrapped: bool) -> None:
    head = seeded_head(OFFICIAL)
    towers = {"sam.image_encoder.pos_embed": torch.zeros(2), "clip.logit_scale": torch.ones(1)}
    state = {f"{prefix}{name}": t for name, t in (head.state_dict() | towers).items()}
    loaded = load_official(write(tmp_path / "x.pth", {"model": state} if wrapped else state))
    assert loaded.config == OFFICIAL
    assert not loaded.training
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, head.state_dict()[name])


@pytest.mark.parametrize("depth", [1, 6])
def test_width_and_depth_are_read_from_the_file(tmp_path: Path, depth: int) -> None:
    config = HeadConfig(map_width=48, text_width=24, width=48, depth=depth, feedforward=96)
    path = write(tmp_path / "x.pth", seeded_head(config).state_dict())
    assert load_official(path).config == config


def without(name: str) -> Callable[[State], State]:
    return lambda state: {n: t for n, t in state.items() if n != name}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("projector.bias"), r"missing: projector\.bias$"),
        (without("to_clip.weight"), r"lacks keys of the head: to_clip\.weight"),
        (
            lambda s: without("decoder.norm.bias")(s) | {"decoder.norm.x": s["decoder.norm.bias"]},
            r"missing: decoder\.norm\.bias; unknown: decoder\.norm\.x",
        ),
        (lambda s: s | {"text_head.weight": torch.ones(1)}, r"no known part: text_head\.weight"),
        (lambda s: s | {"projector.bias": torch.ones(3)}, r"of another shape: projector\.bias"),
        (lambda s: s | {"projector.bias": "no"}, r"must hold tensors under projector\.bias"),
        (
            lambda s: s | {"decoder.layers.9.norm1.bias": torch.ones(64)},
            r"missing: decoder\.layers\.3\..*unknown: decoder\.layers\.9\.norm1\.bias",
        ),
        (lambda s: s | {"to_clip.weight": torch.ones(64, 7)}, "must take 256 channels, got 7"),
        (lambda s: s | {"to_clip.weight": torch.ones(60, 256)}, "multiple of 8, got 60"),
    ],
)
def test_a_head_that_does_not_fit_is_told_by_its_keys(
    tmp_path: Path, spoil: Callable[[State], State], message: str
) -> None:
    path = write(tmp_path / "x.pth", {"model": spoil(seeded_head().state_dict())})
    with pytest.raises(InputError, match=message) as caught:
        load_official(path)
    assert str(path) in str(caught.value)


class Dangerous:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("run",))


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}])
def test_what_is_no_dict_of_tensors_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match="must hold a dict of tensors, got"):
        load_official(write(tmp_path / "x.pth", content))


def test_nothing_in_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (write(tmp_path / "x.pth", {"model": Dangerous()}), tmp_path / "none.pth"):
        with pytest.raises(InputError, match="cannot be read as a checkpoint") as refused:
            load_official(path)
        assert "weights_only" not in str(refused.value)
        assert "torch.load" not in str(refused.value)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("calibration", "classes", "adapter"),
    [
        (
            CALIBRATION,
            ("cat", "dog"),
            FeatureAdapter(torch.ones(5), torch.zeros(5), torch.eye(5)[:, :2], torch.eye(2, 3)),
        ),
        (None, (), None),
    ],
)
def test_our_file_gives_back_what_was_trained(
    tmp_path: Path,
    calibration: ScoreCalibration | None,
    classes: tuple[str, ...],
    adapter: FeatureAdapter | None,
) -> None:
    path, head = tmp_path / "deep" / "x.safetensors", seeded_head()
    save_head(path, TrainedHead(head, calibration, classes, adapter), CONFIG)
    trained = load_head(path, CONFIG)
    assert (trained.calibration, trained.seen_classes) == (calibration, classes)
    assert (trained.adapter is None) == (adapter is None)
    if trained.adapter and adapter:
        for name, tensor in vars(adapter).items():
            assert torch.equal(getattr(trained.adapter, name), tensor)
    for name, tensor in trained.head.state_dict().items():
        assert torch.equal(tensor, head.state_dict()[name].half().float())
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(CONFIG, localizer="vit_h"), "trained with localizer vit_b.*has vit_h"),
        (with_token(CONFIG, "prompt"), "trained with token transformer.*has prompt"),
        (replace(CONFIG, head=replace(HEAD, depth=1)), "trained with head .*depth=3.*depth=1"),
    ],
)
def test_our_file_fits_only_its_model(
    tmp_path: Path, config: model.ModelConfig, message: str
) -> None:
    save_head(tmp_path / "x.safetensors", TrainedHead(seeded_head(), CALIBRATION), CONFIG)
    with pytest.raises(InputError, match=message):
        load_head(tmp_path / "x.safetensors", config)


def test_a_released_head_is_written_with_the_bytes_that_it_has(tmp_path: Path) -> None:
    path = model.find_checkpoint("mini")
    with safe_open(path, "pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert names >= {f"adaptation.{part}" for part in ("usual", "scale", "reading", "directions")}
    again, config = tmp_path / "again.safetensors", PRESETS["mini"]
    training = json.loads(metadata["training"])
    save_head(again, load_head(path, config), config, torch.float16, training)
    assert again.read_bytes() == path.read_bytes()


def test_a_part_of_an_adapter_is_refused(tmp_path: Path) -> None:
    tensors = seeded_head().state_dict() | {"adaptation.usual": torch.ones(5)}
    save_head(tmp_path / "x.safetensors", TrainedHead(seeded_head(), CALIBRATION), CONFIG)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        save_file(tensors, tmp_path / "y.safetensors", file.metadata())
    with pytest.raises(InputError, match=r"does not fit the head; unknown: adaptation\.usual"):
        load_head(tmp_path / "y.safetensors", CONFIG)


def test_foreign_safetensors_and_missing_files_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"no")
    for name in ("x", "y", "z"):
        with pytest.raises(InputError, match="is not a checkpoint of ours"):
            load_head(tmp_path / f"{name}.safetensors", CONFIG)


def test_imported_head_is_found_and_scored_as_clip_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PRESETS, CONFIG.name, CONFIG)
    monkeypatch.setattr(model, "build_sam", lambda name: small_sam())
    monkeypatch.setattr(model, "build_encoder", lambda *_: small_encoder())
    head = seeded_head()
    with pytest.raises(InputError, match=r"no trained head for 'small': .*models import FILE"):
        load_model("small")
    written = import_official(write(tmp_path / "x.pth", {"model": head.state_dict()}), "small")
    assert written == tmp_path / "cache" / "heads" / "small.safetensors"
    loaded = load_model("small", "cpu", dtype=torch.float32)
    assert isinstance(loaded.localizer, SamLocalizer)
    assert loaded.checkpoint == written
    scale = loaded.encoder.logit_scale
    assert loaded.calibration == ScoreCalibration(scale, presence_scale=scale, presence_bias=0.0)
    tokens, memory = torch.randn(1, 3, 256), torch.randn(1, 17, 64)
    assert relative_error(loaded.scorer.head(tokens, memory), head(tokens, memory)) < 1e-6


@pytest.mark.parametrize("name", ["bb", "mini"])
def test_head_of_another_preset_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "x.pth", {"model": seeded_head().state_dict()})
    with pytest.raises(InputError, match=f"the preset '{name}' has HeadConfig"):
        import_official(path, name)
    with pytest.raises(InputError, match="unknown model 'xl'; presets are mini, bb"):
        import_official(path, "xl")
    assert not (tmp_path / "cache").exists()
    assert checkpoint.cache_folder() == tmp_path / "cache"


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        (
            "scoring",
            '{"logit_scale": "hot", "presence_scale": 1, "presence_bias": 0}',
            "logit_scale",
        ),
        ("scoring", "{", "scoring: Invalid JSON"),
        ("trained_words", '["cat", 3]', "trained_words.1: Input should be a valid string, got 3"),
        ("model", '{"name": 3}', "model"),
        ("model", "[" * 100_000, "model: Invalid JSON"),
    ],
)
def test_a_wrong_value_in_the_metadata_is_named(
    tmp_path: Path, key: str, text: str, expected: str
) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, TrainedHead(RegionHead(CONFIG.head)), CONFIG)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() | {key: text}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata)
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        load_head(path, CONFIG)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path, head = tmp_path / "head.safetensors", RegionHead(CONFIG.head)
    with torch.no_grad():
        head.projector.weight[0, 0] = torch.nan
    save_head(path, TrainedHead(head), CONFIG)
    with pytest.raises(InputError, match=r"not finite \(projector\.weight\)"):
        load_head(path, CONFIG)
