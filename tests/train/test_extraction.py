"""Extraction with cheap towers: views, keys, disk need, kills. Each run is a process of its own."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from regionspot.errors import InputError
from regionspot.presets import ModelConfig, preset
from tests.train.written import HEIGHT, WIDTH, annotation, coco, image, write_image, write_json
from train import extraction, features
from train.datasets import AnnotatedImage, open_dataset
from train.extraction import bytes_needed, check_space, map_tokens
from train.features import FeatureStore, feature_set, load_features
from train.views import AS_IT_IS, View

ROOT = Path(__file__).parents[2]
IMAGES = 9
FLIP, CUT = View(flip=True), View(scale=4)
SHARD = 2

# Workers import this file again, so they too have its towers, of the true shapes.
PROGRAM = """
import sys, time
from pathlib import Path
import torch
from regionspot.errors import InputError
from regionspot.presets import preset
from train import extraction, features
from train.datasets import open_dataset
from train.views import parse_view

extraction.SHARD = features.SHARD = {shard}
PAUSE = float(sys.argv[4])

def localizer(config):
    def tokens(pixels, image):
        time.sleep(PAUSE)
        return {{"tokens": torch.from_numpy(image.boxes).repeat(1, 64)}}
    return tokens

def encoder(config):
    def maps(pixels, image):
        time.sleep(PAUSE)
        mean = torch.from_numpy(pixels.copy()).float().mean()
        pooled = torch.from_numpy(image.boxes).repeat(1, 320)
        return {{"memory": mean.expand(226, 1280), "pooled": pooled}}
    return maps

extraction._localizer, extraction._encoder = localizer, encoder

if __name__ == "__main__":
    images = open_dataset(sys.argv[1]).images
    try:
        extraction.extract(
            preset("mini"), images, Path(sys.argv[2]), 2, view=parse_view(sys.argv[3])
        )
    except InputError as error:
        sys.exit(f"error: {{error}}")
"""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "SHARD", SHARD)
    monkeypatch.setattr(features, "SHARD", SHARD)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    boxes = [annotation(i, i, 1, (1, 1, 8, 8)) for i in range(IMAGES)]
    boxes += [annotation(100 + i, i, 2, (24, 16, 20 + i, 20)) for i in range(IMAGES - 1)]
    content = coco([image(i) for i in range(IMAGES)], boxes, {1: "cat", 2: "dog"})
    write_json(folder / "instances.json", content)
    for i in range(IMAGES):
        write_image(folder / f"images/{i:06d}.jpg", seed=i)
    return folder


def start(
    tmp_path: Path, data: Path, cache: Path, view: str = "scale=1", pause: float = 0
) -> "subprocess.Popen[str]":
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(shard=SHARD))
    return subprocess.Popen(
        [sys.executable, str(program), str(data), str(cache), view, str(pause)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> None:
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors


def opened(data: Path) -> list[AnnotatedImage]:
    return list(open_dataset(str(data)).images)


def files(cache: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(cache)): path.read_bytes()
        for path in cache.rglob("*")
        if path.is_file()
    }


def test_killed_and_started_again_it_ends_with_the_same_bytes(tmp_path: Path, data: Path) -> None:
    never_stopped, stopped = tmp_path / "never", tmp_path / "stopped"
    reference = start(tmp_path, data, never_stopped)
    process = start(tmp_path, data, stopped, pause=0.5)
    end = time.monotonic() + 150
    while not list(stopped.rglob("*.safetensors")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {name: content for name, content in files(stopped).items() if ".part" not in name}
    finish(reference)
    # What a killed worker leaves, under the number of a process that is gone.
    folder = next(stopped.iterdir())
    (folder / f"00004.safetensors.{process.pid}.part").write_bytes(b"half")
    finish(start(tmp_path, data, stopped))
    whole = files(never_stopped)
    assert 0 < len(done) < len(whole) == 2 * -(-IMAGES // SHARD)
    assert files(stopped) == whole
    assert done.items() <= whole.items()


def test_a_view_is_extracted_from_changed_pixels_and_boxes(tmp_path: Path, data: Path) -> None:
    cache, config, images = tmp_path / "cache", preset("mini"), opened(data)
    needed = bytes_needed(feature_set(config, images, cache, CUT))
    finish(start(tmp_path, data, cache, str(CUT)))
    assert bytes_needed(feature_set(config, images, cache, CUT)) == 0
    written = sum(map(len, files(cache).values()))
    assert needed == pytest.approx(written, rel=0.02)
    with pytest.raises(InputError, match="is missing; run `python -m train extract`"):
        load_features(config, images, cache)
    store = FeatureStore(feature_set(config, images, cache, CUT))
    # Only the second box lies in the middle, and the last image has none.
    assert len(store) == IMAGES - 1
    assert [each.names for each in store] == [("dog",)] * len(store)
    expected, _ = CUT.boxes(images[3].boxes, WIDTH, HEIGHT)
    assert np.allclose(store[3].tokens[:, :4].numpy(), expected, atol=0.1)
    assert store[3].pooled is not None
    assert store[3].verified is None
    assert torch.equal(store[2:4][1].memory, store[3].memory)


def test_an_unreadable_image_is_named(tmp_path: Path, data: Path) -> None:
    (data / "images/000004.jpg").write_bytes(b"no image")
    process = start(tmp_path, data, tmp_path / "cache")
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "000004.jpg" in errors.splitlines()[-1]
    assert "take it out of the data" in errors.splitlines()[-1]


def folders(config: ModelConfig, images: list[AnnotatedImage], view: View) -> tuple[str, str]:
    found = feature_set(config, images, Path("cache"), view).folders
    return found["localizer"].name, found["encoder"].name


def test_every_change_is_another_key(data: Path) -> None:
    images, config = opened(data), preset("mini")
    moved = [replace(images[0], boxes=images[0].boxes + 1), *images[1:]]
    keys = [
        folders(config, images, AS_IT_IS),
        folders(config, images, FLIP),
        folders(config, images, View(scale=0.75)),
        folders(config, images, View(flip=True, scale=0.75)),
        folders(config, moved, AS_IT_IS),
    ]
    assert len({key for pair in keys for key in pair}) == 2 * len(keys)
    encoder = replace(config.encoder, input_sizes=(480,))
    smaller = folders(replace(config, encoder=encoder), images, AS_IT_IS)
    assert smaller[0] == keys[0][0]
    assert smaller[1] != keys[0][1]
    tokens = folders(replace(config, token="prompt"), images, AS_IT_IS)
    assert tokens[0] != keys[0][0]
    assert tokens[1] == keys[0][1]


def test_a_full_disk_is_refused_beforehand(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [
        feature_set(preset("mini"), opened(data), tmp_path / "new/cache", view)
        for view in (AS_IT_IS, FLIP)
    ]
    needed, free = check_space(sets, tmp_path / "new/cache")
    assert 0 < needed < free
    usage = type("Usage", (), {"free": needed - 1})
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"need 0\.0 GB and .* has 0\.0 GB free; make room"):
        check_space(sets, tmp_path / "new/cache")


@pytest.mark.parametrize(
    ("name", "tokens"), [("mini", 226), ("bb", 197), ("bl", 257), ("bl-336", 577)]
)
def test_tokens_of_a_map(name: str, tokens: int) -> None:
    assert map_tokens(preset(name).encoder) == tokens
