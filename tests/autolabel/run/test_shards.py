"""Region shards: what goes in comes out, and the same content is the same bytes."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from autolabel.run.images import ImageRef
from autolabel.run.shards import (
    ImageRegions,
    read_shards,
    shard_file,
    skipped_image,
    write_shard,
)
from regionspot.errors import InputError
from regionspot.types import Proposals, Regions, encode_mask

WIDTH, HEIGHT, TEXT_WIDTH, CLASSES = 17, 11, 4, 6
DETECTOR_CLASSES = ("person", "bicycle")


def make_image(
    number: int, regions: int, masks: bool = True, classes: int = CLASSES
) -> ImageRegions:
    random = np.random.default_rng(number)
    boxes = random.random((regions, 4), np.float32)
    scores = random.random((regions, len(DETECTOR_CLASSES))).astype(np.float16)
    scores[::2, 1] = np.nan  # of a detector that does not name it
    bitmaps = random.random((regions, HEIGHT, WIDTH)) > 0.5
    return ImageRegions(
        ImageRef(number, f"Füße {number}.jpg", f"sample{number}"),
        WIDTH,
        HEIGHT,
        Proposals(
            boxes,
            random.random(regions, np.float32),
            class_names=DETECTOR_CLASSES if classes else (),
            class_scores=scores.astype(np.float32) if classes else None,
        ),
        Regions(
            torch.from_numpy(random.standard_normal((regions, TEXT_WIDTH), np.float32)),
            tuple(map(encode_mask, bitmaps)) if masks else (),
            random.random(regions, np.float32) if masks else np.zeros(0, np.float32),
            torch.from_numpy(random.random((regions, classes), np.float32)) if classes else None,
        ),
    )


def assert_same(got: ImageRegions, put: ImageRegions) -> None:
    assert (got.image, got.width, got.height) == (put.image, put.width, put.height)
    assert got.skipped == put.skipped
    np.testing.assert_array_equal(got.proposals.boxes, put.proposals.boxes)
    np.testing.assert_array_equal(got.proposals.score, put.proposals.score)
    if len(put.proposals):
        assert got.proposals.class_names == put.proposals.class_names
        assert (got.proposals.class_scores is None) == (put.proposals.class_scores is None)
    if len(put.proposals) and put.proposals.class_scores is not None:
        scores = put.proposals.class_scores
        np.testing.assert_array_equal(got.proposals.class_scores, scores)
    assert torch.equal(got.regions.embedding, put.regions.embedding.half())
    logits = put.regions.class_logits
    assert (got.regions.class_logits is None) == (logits is None)
    if logits is not None:
        assert torch.equal(got.regions.class_logits, logits.half())
    assert got.regions.masks == put.regions.masks
    np.testing.assert_array_equal(got.regions.mask_iou, put.regions.mask_iou)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    counts=st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=6),
    masks=st.booleans(),
    classes=st.sampled_from([0, CLASSES]),
)
def test_images_come_back_as_they_were(
    tmp_path: Path, counts: list[int | None], masks: bool, classes: int
) -> None:
    nothing = Regions(
        torch.zeros(0, TEXT_WIDTH), class_logits=torch.zeros(0, classes) if classes else None
    )
    images = [
        skipped_image(ImageRef(number, "broken.jpg"), "not an image", nothing)
        if count is None
        else make_image(number, count, masks, classes)
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


@pytest.mark.parametrize(
    ("metadata", "version"),
    [({"images": "[]"}, 1), ({"shard": '{"schema_version": 4, "images": []}'}, 4)],
)
def test_a_shard_of_another_schema_version_is_refused(
    tmp_path: Path, metadata: dict[str, str], version: int
) -> None:
    shard = write_shard(tmp_path, 0, [make_image(1, 3)])
    path = tmp_path / shard.file
    save_file({"boxes": np.zeros((0, 4), np.float32)}, path, metadata)
    expected = rf"{path.name} must be of schema version 3, got {version}; .* with --overwrite$"
    with pytest.raises(InputError, match=expected):
        list(read_shards(tmp_path, [shard]))


def test_a_shard_that_was_cut_is_one_line(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, 0, [make_image(1, 3)])
    os.truncate(tmp_path / shard.file, 100)
    with pytest.raises(InputError, match=r"000000\.safetensors cannot be read"):
        list(read_shards(tmp_path, [shard]))


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_shard(tmp_path, 0, [make_image(1, 3)])
    assert list((tmp_path / shard_file(0)).parent.iterdir()) == []
