"""Region shards: what goes in comes out, and the same content is the same bytes."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autolabel.run.images import ImageRef
from autolabel.run.shards import (
    ImageRegions,
    is_whole,
    read_shards,
    shard_file,
    skipped_image,
    write_shard,
)
from regionspot.errors import InputError
from regionspot.types import Proposals, Regions, encode_mask

WIDTH, HEIGHT, TEXT_WIDTH = 17, 11, 4


def make_image(number: int, regions: int, masks: bool = True) -> ImageRegions:
    random = np.random.default_rng(number)
    boxes = random.random((regions, 4), np.float32)
    bitmaps = random.random((regions, HEIGHT, WIDTH)) > 0.5
    return ImageRegions(
        ImageRef(number, f"Füße {number}.jpg", f"sample{number}"),
        WIDTH,
        HEIGHT,
        Proposals(boxes, random.random(regions, np.float32)),
        Regions(
            torch.from_numpy(random.standard_normal((regions, TEXT_WIDTH), np.float32)),
            tuple(map(encode_mask, bitmaps)) if masks else (),
            random.random(regions, np.float32) if masks else np.zeros(0, np.float32),
        ),
    )


def assert_same(got: ImageRegions, put: ImageRegions) -> None:
    assert (got.image, got.width, got.height) == (put.image, put.width, put.height)
    assert got.skipped == put.skipped
    np.testing.assert_array_equal(got.proposals.boxes, put.proposals.boxes)
    np.testing.assert_array_equal(got.proposals.score, put.proposals.score)
    assert torch.equal(got.regions.embedding, put.regions.embedding.half())
    assert got.regions.masks == put.regions.masks
    np.testing.assert_array_equal(got.regions.mask_iou, put.regions.mask_iou)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    counts=st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=6),
    masks=st.booleans(),
)
def test_images_come_back_as_they_were(
    tmp_path: Path, counts: list[int | None], masks: bool
) -> None:
    images = [
        skipped_image(ImageRef(number, "broken.jpg"), "not an image", TEXT_WIDTH)
        if count is None
        else make_image(number, count, masks)
        for number, count in enumerate(counts)
    ]
    shard = write_shard(tmp_path, 0, images)
    assert shard.images == len(images)
    assert shard.skipped == counts.count(None)
    assert shard.regions == sum(count or 0 for count in counts)
    for got, put in zip(read_shards(tmp_path, [shard]), images, strict=True):
        assert_same(got, put)


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    images = [make_image(number, 3) for number in range(4)]
    first, second = (write_shard(tmp_path, index, images) for index in (0, 1))
    assert first.sha256 == second.sha256
    assert (tmp_path / first.file).read_bytes() == (tmp_path / second.file).read_bytes()


def test_a_shard_that_was_cut_is_not_whole(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, 0, [make_image(1, 3)])
    assert is_whole(tmp_path, shard)
    os.truncate(tmp_path / shard.file, 100)
    assert not is_whole(tmp_path, shard)
    with pytest.raises(InputError, match=r"000000\.safetensors cannot be read"):
        list(read_shards(tmp_path, [shard]))
    (tmp_path / shard.file).unlink()
    assert not is_whole(tmp_path, shard)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_shard(tmp_path, 0, [make_image(1, 3)])
    assert list((tmp_path / shard_file(0)).parent.iterdir()) == []
