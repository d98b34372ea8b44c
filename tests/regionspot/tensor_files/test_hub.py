"""Heads in folders and repositories: what is saved, what is read, what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi

from regionspot import RegionSpot, model
from regionspot.checkpoint import TrainedHead, save_head
from regionspot.config import PRESETS
from regionspot.errors import InputError
from regionspot.weights import sha256_of
from tests.regionspot.factories import CALIBRATION, CONFIG, seeded_head, small_encoder, small_sam

FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a small head, whose preset has small towers."""
    monkeypatch.setitem(PRESETS, CONFIG.name, CONFIG)
    monkeypatch.setattr(model, "build_sam", lambda name: small_sam())
    monkeypatch.setattr(model, "build_encoder", lambda *_: small_encoder())
    save_head(tmp_path / "mine.safetensors", TrainedHead(seeded_head(), CALIBRATION), CONFIG)
    return tmp_path / "mine.safetensors"


def test_a_saved_head_is_loaded_from_its_folder(head: Path, tmp_path: Path) -> None:
    saved = RegionSpot.of_head_file(head, device="cpu")
    saved.save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == FILES
    assert sha256_of(tmp_path / "saved" / "model.safetensors") == sha256_of(head)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["name"] == "small"
    assert "RegionSpot.from_pretrained" in (tmp_path / "saved" / "README.md").read_text()
    loaded = RegionSpot.from_pretrained(tmp_path / "saved", device="cpu", dtype=torch.float32)
    assert (loaded.dtype, loaded.provenance()["head"]) == (torch.float32, sha256_of(head))
    assert loaded.calibration == CALIBRATION
    loaded.save_pretrained(tmp_path / "saved")  # onto itself
    assert sha256_of(tmp_path / "saved" / "model.safetensors") == sha256_of(head)


def test_a_head_is_pushed_and_comes_back_from_the_hubs_cache(
    head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "cache" / "models--me--head" / "snapshots" / "a1"

    class Made:
        repo_id = "me/head"

    def upload(_: HfApi, folder_path: Path, **options: object) -> str:
        shutil.copytree(folder_path, snapshot)
        return str(options["repo_id"])

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: Made)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert RegionSpot.of_head_file(head, device="cpu").push_to_hub("me/head") == "me/head"
    assert sorted(path.name for path in snapshot.iterdir()) == FILES
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a1")
    loaded = RegionSpot.from_pretrained("me/head", cache_dir=tmp_path / "cache", device="cpu")
    assert loaded.checkpoint == snapshot / "model.safetensors"


def test_no_other_file_is_read(head: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    torch.save(seeded_head().state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pickled must hold model\.safetensors, the only file"):
        RegionSpot.from_pretrained(folder)
    RegionSpot.of_head_file(head, device="cpu").save_pretrained(folder)
    (folder / "config.json").write_text('{"name": "xl", "checkpoint": "elsewhere"}')
    assert RegionSpot.from_pretrained(folder, device="cpu").checkpoint.parent == folder


@pytest.mark.parametrize("name", ["me/head", "no/such/place", "two words"])
def test_what_cannot_be_had_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"cannot be had: .*no network, give the folder"
    ) as refused:
        RegionSpot.from_pretrained(name, cache_dir=tmp_path)
    assert "\n" not in str(refused.value)


def test_a_head_of_no_preset_and_one_in_memory_are_refused(head: Path, tmp_path: Path) -> None:
    loaded = RegionSpot.of_head_file(head, device="cpu")
    PRESETS.pop(CONFIG.name)
    with pytest.raises(InputError, match="unknown model 'small'"):
        RegionSpot.of_head_file(head)
    in_memory = RegionSpot(*[getattr(loaded, name) for name in list(vars(loaded))[:5]])
    with pytest.raises(InputError, match="in memory alone; write it with save_head"):
        in_memory.save_pretrained(tmp_path / "none")
