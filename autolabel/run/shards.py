"""Region shards: boxes, embeddings and masks of some images, independent of the vocabulary.

A shard is a safetensors file. Axes: R regions of all its images one after another, D text width,
M classes of the encoder's own classifier, Z bytes.

    boxes         (R, 4)  float32  xyxy pixels of the upright image
    score         (R,)    float32  the detector's
    embedding     (R, D)  float16  of the region, L2-normalised
    class_logits  (R, M)  float16  only where the model scores unseen classes by them
    mask_iou      (R,)    float32  the localizer's estimate, or (0,) without masks
    mask_bytes    (Z,)    uint8    COCO's compressed run lengths, one mask after another
    mask_ends     (R,)    int64    where each ends in mask_bytes, or (0,) without masks

Its metadata is one JSON object: `schema_version`, and `images`, a list in the dataset's order: id,
file_name, sample_id, width, height, regions (how many rows are its own) and skipped (why it was
left out, or empty).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from autolabel.run.images import ImageRef
from autolabel.run.manifest import REGIONS, SCHEMA_VERSION, Shard
from regionspot.errors import InputError
from regionspot.files import atomic_write_bytes
from regionspot.types import Proposals, Regions, Rle

METADATA = "shard"


@dataclass(frozen=True)
class ImageRegions:
    """One image's boxes and what the model made of them.

    Attributes:
        width, height: of the upright image, in pixels; 0 where it was skipped.
        skipped: why there are no regions, in one line; empty where there are.
    """

    image: ImageRef
    width: int
    height: int
    proposals: Proposals
    regions: Regions
    skipped: str = ""


def skipped_image(image: ImageRef, reason: str, no_regions: Regions) -> ImageRegions:
    """An image that is left out.

    Args:
        image: that was skipped.
        reason: why, for `skipped.jsonl`.
        no_regions: of the model's shapes, as `RegionScorer.no_regions` gives them.
    """
    nothing = Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    return ImageRegions(image, 0, 0, nothing, no_regions, reason)


def shard_file(index: int) -> str:
    """Where the shard of an index lies in a run folder."""
    return f"{REGIONS}/{index:06d}.safetensors"


def write_shard(folder: Path, index: int, images: Sequence[ImageRegions]) -> Shard:
    """Write a shard under a temporary name and rename it. The same content gives the same bytes."""
    masks = [mask["counts"].encode("ascii") for each in images for mask in each.regions.masks]
    tensors = {
        "boxes": np.concatenate([each.proposals.boxes for each in images]),
        "score": np.concatenate([each.proposals.score for each in images]),
        "embedding": np.concatenate([each.regions.embedding.half().numpy() for each in images]),
        "mask_iou": np.concatenate([each.regions.mask_iou for each in images]),
        "mask_bytes": np.frombuffer(b"".join(masks), np.uint8),
        "mask_ends": np.cumsum([len(mask) for mask in masks], dtype=np.int64),
    }
    logits = [each.regions.class_logits for each in images]
    if known := [each.half().numpy() for each in logits if each is not None]:
        tensors["class_logits"] = np.concatenate(known)
    described = {"schema_version": SCHEMA_VERSION, "images": [_describe(each) for each in images]}
    # One key: safetensors writes several in no fixed order.
    content = save(tensors, {METADATA: json.dumps(described)})
    path = folder / shard_file(index)
    with atomic_write_bytes(path) as out:
        out.write(content)
    return Shard(
        file=shard_file(index),
        images=len(images),
        skipped=sum(bool(each.skipped) for each in images),
        regions=len(tensors["boxes"]),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _describe(each: ImageRegions) -> dict[str, str | int]:
    return {
        "id": each.image.id,
        "file_name": each.image.file_name,
        "sample_id": each.image.sample_id,
        "width": each.width,
        "height": each.height,
        "regions": len(each.proposals),
        "skipped": each.skipped,
    }


def read_shards(folder: Path, shards: Sequence[Shard]) -> Iterator[ImageRegions]:
    """The images of some shards in order, one shard in memory at a time.

    Raises:
        InputError: a shard is missing, is no shard, or is of another schema version.
    """
    for shard in shards:
        path = folder / shard.file
        try:
            with safe_open(path, "np") as file:
                metadata = json.loads((file.metadata() or {}).get(METADATA, "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(
                f"{path} cannot be read: {error}; run the same command again"
            ) from error
        version = metadata.get("schema_version", 1)
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} must be of schema version {SCHEMA_VERSION}, got {version}; run the images "
                "again with --overwrite"
            )
        start = 0
        for described in metadata["images"]:
            stop = start + described["regions"]
            yield _image_regions(described, tensors, slice(start, stop))
            start = stop


def _image_regions(
    described: dict[str, int | str], tensors: dict[str, np.ndarray], rows: slice
) -> ImageRegions:
    width, height = int(described["width"]), int(described["height"])
    ends = tensors["mask_ends"]
    starts = np.concatenate([np.zeros(1, np.int64), ends])
    masks = tuple(
        Rle(size=[height, width], counts=tensors["mask_bytes"][first:last].tobytes().decode())
        for first, last in zip(starts[rows], ends[rows], strict=False)
    )
    logits = None
    if "class_logits" in tensors:
        logits = torch.from_numpy(tensors["class_logits"][rows])
    return ImageRegions(
        ImageRef(int(described["id"]), str(described["file_name"]), str(described["sample_id"])),
        width,
        height,
        Proposals(tensors["boxes"][rows], tensors["score"][rows]),
        Regions(
            torch.from_numpy(tensors["embedding"][rows]), masks, tensors["mask_iou"][rows], logits
        ),
        str(described["skipped"]),
    )
