"""Stored regions of many images: other words for them, and their labels in FiftyOne.

make bench-stored IMAGES=200000

The regions are those of a run over a few photos, again and again under other file names, which no
file needs to have.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from autolabel.api import label
from autolabel.run.images import ImageRef
from autolabel.run.manifest import LVIS, FiftyOneTarget, RunFolder, count_images
from autolabel.run.outputs import Outputs, categories_of
from autolabel.run.postprocess import Labeller
from autolabel.run.shards import ImageRegions, read_shards, write_shard
from integrations.fiftyone.session import connect
from integrations.formats.lvis import stream_lvis
from integrations.formats.parquet import IMAGES_PER_GROUP, write_parquet
from regionspot import RegionSpot, load_model
from regionspot.nouns.wordnet import noun_hierarchy
from tests.benchmarks.measure import PeakMemory
from tests.conftest import PHOTOS, photo_path

SHARD = 1000
RELABELLED = 1000  # images
MOST_OF_RUN = {"FiftyOne": 1 / 10, 80: 1 / 200, 1203: 1 / 50}  # of the run's seconds an image
MOST_GROWTH = 1.2  # of the peak of all images over that of a tenth of them


@dataclass(frozen=True)
class Used:
    """Seconds that work took: of the clock, of this process's processor, of MongoDB's."""

    wall: float
    here: float
    mongod: float

    @classmethod
    def by(cls, work: Callable[[], object]) -> "Used":
        clock, here, server = time.perf_counter(), time.process_time(), mongod_seconds()
        work()
        return cls(
            time.perf_counter() - clock,
            time.process_time() - here,
            mongod_seconds() - server,
        )


def mongod_seconds() -> float:
    """Processor seconds of the MongoDB of these tests."""
    import fiftyone as fo

    folder = fo.config.database_dir
    found = psutil.process_iter(["name", "cmdline", "cpu_times"])
    return sum(
        each.info["cpu_times"].user + each.info["cpu_times"].system
        for each in found
        if each.info["name"] == "mongod" and folder in each.info["cmdline"]
    )


@dataclass(frozen=True)
class Measured:
    """A run over photos: its folder and its processor seconds an image."""

    run: RunFolder
    model: RegionSpot
    seconds: float

    def repeated(self, images: int, folder: Path, words: list[str]) -> Outputs:
        """The outputs of a run of so many images and some words."""
        manifest = self.run.manifest
        stored = list(read_shards(self.run.folder, manifest.shards))
        options = replace(manifest.options, conf_threshold=0.05, presence_threshold=0.0)
        (folder / "regions").mkdir(parents=True)
        numbered: Iterator[ImageRegions] = (
            replace(each, image=ImageRef(number, f"{number:07}.jpg"))
            for number, each in zip(range(1, images + 1), itertools.cycle(stored), strict=False)
        )
        parts = (list(itertools.islice(numbered, SHARD)) for _ in range(-(-images // SHARD)))
        shards = tuple(write_shard(folder, i, part) for i, part in enumerate(parts))
        vocabulary = {"words": words, "synonyms": [[each] for each in words], "sha256": "0"}
        copy = replace(
            manifest,
            name=folder.name,
            shards=shards,
            options=options,
            vocabulary=vocabulary,
            fiftyone=FiftyOneTarget(
                dataset=f"bench {folder.name}", label_field="predictions", run_key="bench"
            ),
        )
        assert count_images(shards) == images
        labeller = Labeller(self.model, self.model.vocabulary(words), options)
        return Outputs(RunFolder(folder, copy), labeller)


def measured_run(folder: Path) -> Measured:
    """A run over the photos, its towers in the caches."""
    model = load_model("mini", "cpu")
    paths = [photo_path(name) for name in PHOTOS]
    words = ["person", "cat", "cup"]
    label(paths[:1], words, out=folder / "warm", fiftyone=False)
    start = time.process_time()
    run = label(paths, words, out=folder / "run", fiftyone=False)
    seconds = (time.process_time() - start) / len(paths)
    return Measured(RunFolder(run.folder, run.manifest), model, seconds)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measured_run(tmp_path_factory.mktemp("stored"))


def nouns(count: int) -> list[str]:
    return list(noun_hierarchy().names[:count])


def words_share(measured: Measured, folder: Path, count: int) -> float:
    """Processor seconds of an image with so many other words, over those of its run."""
    outputs = measured.repeated(RELABELLED, folder, nouns(count))
    used = Used.by(outputs.write_label_files)
    share = used.here / RELABELLED / measured.seconds
    print(
        f"\n{count} words: {1e3 * used.here / RELABELLED:.2f} ms of the processor an image, "
        f"{share:.4f} of a run's {measured.seconds:.2f} s (at most {MOST_OF_RUN[count]:.4f})"
    )
    return share


def fiftyone_share(measured: Measured, folder: Path, images: int) -> tuple[float, float]:
    """Processor seconds of an image into FiftyOne over those of its run; peak of memory in MB."""
    import fiftyone as fo

    outputs = measured.repeated(images, folder, nouns(25))
    peak = PeakMemory()
    used = Used.by(lambda: outputs.write_fiftyone(new_samples=True))
    megabytes = peak.megabytes()
    dataset = fo.load_dataset(f"bench {folder.name}")
    labels = dataset.count("predictions.detections")
    stored = dataset.stats()["samples_bytes"]
    assert len(dataset) == images
    dataset.delete()
    share = (used.here + used.mongod) / images / measured.seconds
    print(
        f"\n{images} images, {labels} labels into FiftyOne: {images / used.wall:.0f} images a "
        f"second; processor {1e3 * used.here / images:.2f} ms here and "
        f"{1e3 * used.mongod / images:.2f} ms of MongoDB an image, {share:.4f} of a run's; peak "
        f"{megabytes:.0f} MB; {stored / images / 1e3:.1f} kB an image in MongoDB"
    )
    return share, megabytes


@pytest.mark.parametrize("count", [80, 1203])
def test_other_words(measured: Measured, tmp_path: Path, count: int) -> None:
    assert words_share(measured, tmp_path / "run", count) <= MOST_OF_RUN[count]


def test_into_fiftyone(measured: Measured, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    connect()
    total = int(request.config.getoption("--images"))
    (_, before), (share, peak) = (
        fiftyone_share(measured, tmp_path / f"run {images}", images)
        for images in (total // 10, total)
    )
    assert share <= MOST_OF_RUN["FiftyOne"]
    assert peak <= MOST_GROWTH * before


def test_as_parquet(measured: Measured, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    peaks = []
    for images in (2 * IMAGES_PER_GROUP, int(request.config.getoption("--images"))):
        outputs = measured.repeated(images, tmp_path / f"run {images}", nouns(80))
        outputs.write_label_files()
        file, out = outputs.run.folder / LVIS, tmp_path / f"parquet {images}"
        categories = categories_of(outputs.run.manifest)
        peak = PeakMemory()
        used = Used.by(lambda i=file, o=out, c=categories: write_parquet(o, c, stream_lvis(i)))
        peaks.append(peak.megabytes())
        print(
            f"\n{images} images as Parquet: {1e3 * used.here / images:.2f} ms of the processor an "
            f"image; peak {peaks[-1]:.0f} MB"
        )
    assert peaks[1] <= MOST_GROWTH * peaks[0]
