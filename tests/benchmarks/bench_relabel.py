"""Relabelling the 1,000 images of a run with 20 words that examples stand for.

The regions are those of a few real photos, repeated. No image goes through a tower.
"""

import dataclasses
import os
import time
from pathlib import Path

import pytest

import autolabel
from autolabel.demo import write_photos
from autolabel.run.manifest import RunFolder, read_manifest
from autolabel.run.shards import ImageRegions, read_shards, write_shard
from regionspot.localizers.sam import SamLocalizer
from regionspot.model import RegionSpot
from tests.autolabel.helpers import PHOTOS, WORDS

IMAGES, WORDS_BY_EXAMPLE, SHARD = 1000, 20, 100
MOST_SECONDS = 10.0


def no_tower(*_: object) -> None:
    raise AssertionError("no image goes through a tower")


def repeated(run: Path, photos: Path) -> int:
    """Let a run have `IMAGES` images, links to those it has; returns the number of boxes."""
    manifest = read_manifest(run)
    few = [each for each in read_shards(run, manifest.shards) if not each.skipped]
    many: list[ImageRegions] = []
    for number in range(1, IMAGES + 1):
        one = few[number % len(few)]
        ref = dataclasses.replace(one.image, id=number, file_name=f"{number}-{one.image.file_name}")
        os.link(photos / one.image.file_name, photos / ref.file_name)
        many.append(dataclasses.replace(one, image=ref))
    shards = [
        write_shard(run, index, many[start : start + SHARD])
        for index, start in enumerate(range(0, IMAGES, SHARD))
    ]
    RunFolder(run, manifest).update(
        shards=tuple(shards), dataset={**manifest.dataset, "images": IMAGES}
    )
    return sum(shard.regions for shard in shards)


def test_words_by_example_label_a_thousand_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos", PHOTOS)
    words = tmp_path / "words.txt"
    words.write_text(WORDS)
    small, run = tmp_path / "small", tmp_path / "run"
    for folder in (small, run):
        autolabel.label(photos, words, out=folder, fiftyone=False, conf_threshold=0.05)
    boxes = repeated(run, photos)
    found = [word for word, count in read_manifest(small).counts["by_word"].items() if count]
    lines = [
        f"word {number}: @{small}#{found[number % len(found)]}"
        for number in range(WORDS_BY_EXAMPLE)
    ]
    words.write_text("\n".join(lines))
    monkeypatch.setattr(RegionSpot, "regions", no_tower)
    monkeypatch.setattr(RegionSpot, "embed", no_tower)
    monkeypatch.setattr(SamLocalizer, "encode", no_tower)
    started, cpu = time.perf_counter(), time.process_time()
    done = autolabel.relabel(run, words, out=tmp_path / "by example")
    seconds, processor = time.perf_counter() - started, time.process_time() - cpu
    labels = done.manifest.counts["labels"]
    print(
        f"\n{IMAGES} images, {boxes} boxes, {WORDS_BY_EXAMPLE} words by example, {labels} labels: "
        f"{seconds:.1f} s, of which a processor {processor:.1f} s (at most {MOST_SECONDS:.0f} s)"
    )
    assert labels
    assert seconds < MOST_SECONDS
