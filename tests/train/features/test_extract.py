"""Extraction with cheap towers: views, keys, disk need, kills."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from integrations.fiftyone.review import ReviewedImage
from integrations.images import read_image
from integrations.progress import NullReporter
from regionspot.config import ModelConfig, preset
from regionspot.devices.runtime import Runtime
from regionspot.encoders import VisionLanguageEncoder, build_encoder
from regionspot.encoders.mini import POOLING
from regionspot.errors import InputError
from regionspot.process import machine_id
from regionspot.types import ImageArray
from tests.train.factories import RecordingReporter
from tests.train.written import HEIGHT, WIDTH, annotation, coco, image, write_image, write_json
from train.data.dataset import AnnotatedImage
from train.data.registry import open_dataset
from train.features import cache as features
from train.features import extract as extraction
from train.features.augment import IDENTITY, View
from train.features.cache import FeatureSet, FeatureStore
from train.features.extract import FeatureExtractor, check_space, extract_sets
from train.finetune.examples import review_features

ROOT = Path(__file__).parents[3]
IMAGES = 9
FLIP, CUT = View(flip=True), View(scale=2)
SHARD = 2


def fake_localizer(config: ModelConfig, runtime: Runtime) -> extraction.Extractor:
    """Tokens that encode the box, after a sleep of PAUSE seconds."""

    def tokens(pixels: ImageArray, image: AnnotatedImage) -> dict[str, torch.Tensor]:
        time.sleep(float(os.environ.get("PAUSE", "0")))
        return {"tokens": torch.from_numpy(image.boxes).repeat(1, 64)}

    return tokens


def fake_encoder(config: ModelConfig, runtime: Runtime) -> extraction.Extractor:
    """A map of the first pixel's value, in the shapes of `mini`."""

    def maps(pixels: ImageArray, image: AnnotatedImage) -> dict[str, torch.Tensor]:
        pooled = torch.from_numpy(image.boxes).repeat(1, 320)
        return {"memory": torch.full((226, 1280), float(pixels[0, 0, 0])), "pooled": pooled}

    return maps


# Workers import the program again, so they too have its towers.
PROGRAM = """
import sys
from pathlib import Path
from regionspot.config import preset
from tests.train.features.test_extract import SHARD, extract, fake_encoder, fake_localizer
from train.features import cache as features, extract as extraction
from train.data.registry import open_dataset

features.SHARD = SHARD
extraction._localizer, extraction._encoder = fake_localizer, fake_encoder

if __name__ == "__main__":
    data, cache, workers = sys.argv[1:]
    images = open_dataset(data).images
    extract(preset("mini"), images, Path(cache), int(workers))
"""


def extract(
    config: ModelConfig,
    images: Sequence[AnnotatedImage],
    cache: Path,
    workers: int,
    view: View = IDENTITY,
) -> dict[int, str]:
    """Extract, and the reasons for skipped images."""
    return extraction.extract(FeatureSet.of(config, images, cache, view), workers, NullReporter())


@pytest.fixture(scope="module")
def encoder() -> VisionLanguageEncoder:
    return build_encoder(preset("mini").encoder, torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extraction in this process, which takes no time to start."""
    monkeypatch.setattr(extraction, "_localizer", fake_localizer)
    monkeypatch.setattr(extraction, "_encoder", fake_encoder)
    monkeypatch.setattr(extraction, "_end_with_parent", lambda: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(
        extraction,
        "ProcessPoolExecutor",
        lambda workers, context, **start: ThreadPoolExecutor(1, **start),
    )


def start(
    tmp_path: Path, data: Path, cache: Path, workers: int, pause: float
) -> "subprocess.Popen[str]":
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(program), str(data), str(cache), str(workers)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PAUSE": str(pause)},
        stderr=subprocess.PIPE,
        text=True,
    )


def opened(data: Path) -> list[AnnotatedImage]:
    return list(open_dataset(str(data)).images)


def files(cache: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(cache)): path.read_bytes()
        for path in cache.rglob("*")
        if path.is_file()
    }


@pytest.mark.usefixtures("in_threads")
def test_killed_and_started_again_it_ends_with_the_same_bytes(tmp_path: Path, data: Path) -> None:
    never_stopped, stopped = tmp_path / "never", tmp_path / "stopped"
    extract(preset("mini"), opened(data), never_stopped, 1)
    whole = files(never_stopped)
    process = start(tmp_path, data, stopped, workers=2, pause=0.5)
    end = time.monotonic() + 200
    while not list(stopped.rglob("*.safetensors")) and time.monotonic() < end:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {name: content for name, content in files(stopped).items() if ".part" not in name}
    assert 0 < len(done) < len(whole) == 2 * -(-IMAGES // SHARD)
    # What a worker leaves that is killed too, under the number of a process that is gone.
    folder = next(stopped.iterdir())
    (folder / f".autolabel-{machine_id()}-{process.pid}-00ff.part").write_bytes(b"half")
    again = start(tmp_path, data, stopped, workers=1, pause=0)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert files(stopped) == whole
    assert done.items() <= whole.items()


@pytest.mark.usefixtures("in_threads")
def test_a_view_is_extracted_from_changed_pixels_and_boxes(
    tmp_path: Path, data: Path, encoder: VisionLanguageEncoder
) -> None:
    cache, config, images = tmp_path / "cache", preset("mini"), opened(data)
    cut = FeatureSet.of(config, images, cache, CUT)
    needed = cut.bytes_needed()
    extract(config, images, cache, 2, view=CUT)
    assert cut.bytes_needed() == 0
    assert needed == pytest.approx(sum(map(len, files(cache).values())), rel=0.02)
    with pytest.raises(InputError, match="is missing; run `python -m train extract`"):
        FeatureStore(FeatureSet.of(config, images, cache), encoder)
    store = FeatureStore(cut, encoder)
    # Only the second box lies in the middle, and the last image has none.
    assert len(store) == IMAGES - 1
    assert [each.names for each in store] == [("dog",)] * len(store)
    expected, _ = CUT.boxes(images[3].boxes, WIDTH, HEIGHT)
    assert np.allclose(store[3].tokens[:, :4].numpy(), expected, atol=0.1)
    assert store[3].memory[0, 0] == CUT.pixels(read_image(images[3].path))[0, 0, 0]
    assert store[3].pooled is not None
    assert store[3].verified is None
    assert torch.equal(store[2:4][1].memory, store[3].memory)


@pytest.mark.usefixtures("in_threads")
def test_a_data_set_of_some_classes_shares_the_features_of_all(
    tmp_path: Path, data: Path, encoder: VisionLanguageEncoder
) -> None:
    cache, config = tmp_path / "cache", preset("mini")
    extract(config, opened(data), cache, 1)
    (tmp_path / "dogs.txt").write_text("dog\n")
    dogs = open_dataset(f"coco:{data},words={tmp_path / 'dogs.txt'}")
    features = FeatureSet.of(config, dogs.images, cache)
    assert features.bytes_needed() == 0
    store = FeatureStore(features, encoder, dogs.classes)
    assert [each.names for each in store] == [("dog",)] * (IMAGES - 1)  # the last has a cat only
    assert store.names(3) == ("dog",)
    assert np.allclose(store[3].tokens[:, :4].numpy(), dogs.images[3].boxes[1:], atol=0.1)
    assert store[3].pooled is not None
    assert store[3].pooled.shape == (1, 1280)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.usefixtures("in_threads")
def test_broken_images_are_skipped_and_listed(
    tmp_path: Path, data: Path, encoder: VisionLanguageEncoder
) -> None:
    whole = {path.name: path.read_bytes() for path in (data / "images").iterdir()}
    truncate(data / "images/000004.jpg")
    (data / "images/000005.jpg").unlink()
    write_image(data / "images/000008.jpg", width=WIDTH + 1)
    cache, config, images = tmp_path / "cache", preset("mini"), opened(data)
    reasons = extract(config, images, cache, 1)
    assert sorted(reasons) == [4, 5, 8]
    assert "000004.jpg: " in reasons[4]
    assert "000005.jpg: " in reasons[5]
    assert "000008.jpg: the image has 65 x 48 pixels, and its labels say 64 x 48" in reasons[8]
    store = FeatureStore(FeatureSet.of(config, images, cache), encoder)
    assert store.image_of.tolist() == [0, 1, 2, 3, 6, 7]
    assert np.allclose(store[4].tokens[:, :4].numpy(), images[6].boxes, atol=0.1)
    assert store[4].memory[0, 0] == read_image(images[6].path)[0, 0, 0]

    # They are not tried again, nor forgotten, until they are mended.
    stamps = {path: path.stat().st_mtime_ns for path in cache.rglob("*.*")}
    assert extract(config, images, cache, 1) == reasons
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.*")} == stamps
    (data / "images/000005.jpg").write_bytes(whole["000005.jpg"])
    assert sorted(extract(config, images, cache, 1)) == [4, 8]
    for name, content in whole.items():
        (data / "images" / name).write_bytes(content)
    assert extract(config, images, cache, 1) == {}
    never_broken = tmp_path / "never broken"
    extract(config, images, never_broken, 1)
    assert files(cache) == files(never_broken)


@pytest.mark.usefixtures("in_threads")
def test_without_any_image_left_it_ends(tmp_path: Path, data: Path) -> None:
    (data / "images").rename(data / "moved")
    sets = {"pets": FeatureSet.of(preset("mini"), opened(data), tmp_path / "cache")}
    with pytest.raises(InputError, match=r"pets: none of the 9 images .* as .*0\.jpg"):
        extract_sets(sets, tmp_path / "cache", 1, NullReporter())
    (data / "moved").rename(data / "images")
    truncate(data / "images/000002.jpg")
    reporter = RecordingReporter()
    extract_sets(sets, tmp_path / "cache", 1, reporter)
    assert "pets: 1 of 9 images skipped" in reporter.messages
    assert any("000002.jpg: " in line for line in reporter.messages)
    assert reporter.tasks == {"pets: localizer": 5, "pets: encoder": 5}


@pytest.mark.usefixtures("in_threads")
def test_a_broken_image_of_a_review_is_skipped(
    tmp_path: Path, data: Path, encoder: VisionLanguageEncoder
) -> None:
    truncate(data / "images/000001.jpg")
    drawn = np.array([[2, 2, 9, 9]], np.float32)
    reviewed = [
        ReviewedImage(each.id, each.path, WIDTH, HEIGHT, each.boxes, drawn, ("",) * 3, ("",) * 3)
        for each in opened(data)[:2]
    ]
    reporter = RecordingReporter()
    extractor = FeatureExtractor(encoder, tmp_path, 1, reporter)
    found = review_features(preset("mini"), reviewed, extractor)
    assert list(found) == [0]
    assert found[0].tokens[:, 0].tolist() == [1, 24, 2]
    (reason,) = reporter.messages
    assert "000001.jpg: " in reason


class PoolHere:
    """As `RayPool`, with one actor in this process."""

    def map(self, build, tasks, kept, reporter):
        actor = build(1)
        for index, task in tasks.items():
            yield index, actor(pickle.loads(pickle.dumps(task)))


def test_actors_write_what_processes_do(tmp_path: Path, data: Path, in_threads: None) -> None:
    truncate(data / "images/000001.jpg")
    images, found = opened(data), {}
    for name, pool in (("processes", None), ("actors", PoolHere())):
        found[name] = FeatureSet.of(preset("mini"), images, tmp_path / name)
        extraction.extract(found[name], 1, NullReporter(), pool=pool)
    assert files(tmp_path / "actors") == files(tmp_path / "processes")


def test_a_worker_with_another_runtime_is_refused() -> None:
    with pytest.raises(InputError, match=r"a worker has openvino .*, expected openvino 1\.0"):
        extraction.ShardExtractor(preset("mini"), "encoder", IDENTITY, "openvino 1.0")


def folders(
    config: ModelConfig, images: list[AnnotatedImage], view: View, runtime: str = "torch"
) -> tuple[str, str]:
    found = FeatureSet.of(config, images, Path("cache"), view, runtime).folders
    return found["localizer"].name, found["encoder"].name


def test_every_change_is_another_key(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, config = opened(data), preset("mini")
    moved = [replace(images[0], boxes=images[0].boxes + 1), *images[1:]]
    keys = [
        folders(config, images, IDENTITY),
        folders(config, images, FLIP),
        folders(config, images, View(scale=0.75)),
        folders(config, images, View(flip=True, scale=0.75)),
        folders(config, moved, IDENTITY),
        folders(config, images, IDENTITY, "openvino"),
    ]
    assert len({key for pair in keys for key in pair}) == 2 * len(keys)
    encoder = replace(config.encoder, input_sizes=(480,))
    smaller = folders(replace(config, encoder=encoder), images, IDENTITY)
    assert smaller[0] == keys[0][0]
    assert smaller[1] != keys[0][1]
    with monkeypatch.context() as other:
        other.setitem(POOLING, "octaves", 2.0)
        pooled = folders(config, images, IDENTITY)
    assert pooled[0] == keys[0][0]
    assert pooled[1] != keys[0][1]
    tokens = folders(replace(config, token="prompt"), images, IDENTITY)
    assert tokens[0] != keys[0][0]
    assert tokens[1] == keys[0][1]


def test_a_full_disk_is_refused_beforehand(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [
        FeatureSet.of(preset("mini"), opened(data), tmp_path / "new/cache", view)
        for view in (IDENTITY, FLIP)
    ]
    needed, free = check_space(sets, tmp_path / "new/cache")
    assert 0 < needed < free
    usage = type("Usage", (), {"free": needed - 1})
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"need 0\.0 GB and .* has 0\.0 GB free; make room"):
        check_space(sets, tmp_path / "new/cache")
