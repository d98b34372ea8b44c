"""Region shards: boxes, embeddings and masks of some images, independent of the vocabulary.

A shard is a safetensors file. Axes: R regions of all its images one after another, D text width,
M classes of the encoder's own classifier, E classes of the detector, Z bytes.

    boxes         (R, 4)  float32  xyxy pixels of the upright image
    score         (R,)    float32  the detector's
    embedding     (R, D)  float16  of the region, L2-normalised
    class_logits  (R, M)  float16  only where the model scores unseen classes by them
    class_scores  (R, E)  float16  the detector's of its E classes or NaN; only where it names some
    mask_iou      (R,)    float32  the localizer's estimate, or (0,) without masks
    mask_bytes    (Z,)    uint8    COCO's compressed run lengths, one mask after another
    mask_ends     (R,)    int64    where each ends in mask_bytes, or (0,) without masks

Its metadata is one JSON object: `schema_version`, `class_names` (of the E classes) and `images`, a
list in the dataset's order: id, file_name, sample_id, width, height, regions (how many rows are its
own), skipped (why it was left out, or empty), box_ids (of each row, where the boxes were given;
else empty) and content (what the image file and the boxes that were given for it are known by, a
space, and the sha256 of the file).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from autolabel.options import Natural, validated
from autolabel.run.images import ImageRef
from autolabel.run.manifest import REGIONS, SCHEMA_VERSION, Shard
from regionspot.errors import InputError
from regionspot.files import atomic_write_bytes
from regionspot.tensor_files.safetensors_file import read_metadata, read_safetensors
from regionspot.types import Proposals, Regions, Rle
from regionspot.weights import sha256_of

METADATA = "shard"
MOST_HEADER = 100_000_000  # bytes, which some 100,000 images in one shard have
AGAIN = "give the command of its run again"
NO_BOXES = Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
# Type and number of axes of each tensor.
_TENSORS = {
    "boxes": ("float32", 2),
    "score": ("float32", 1),
    "embedding": ("float16", 2),
    "class_logits": ("float16", 2),
    "class_scores": ("float16", 2),
    "mask_iou": ("float32", 1),
    "mask_bytes": ("uint8", 1),
    "mask_ends": ("int64", 1),
}
_OPTIONAL = ("class_logits", "class_scores")


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """What a shard's metadata says of an image; see the top of this file."""

    id: int
    file_name: str
    sample_id: str
    width: Natural
    height: Natural
    regions: Natural
    skipped: str
    box_ids: tuple[str, ...] = ()
    content: str = ""


@dataclass(frozen=True, kw_only=True)
class ShardHeader:
    """A shard's metadata.

    Attributes:
        schema_version: version of the layout of the run folder.
        images: in the dataset's order.
        class_names: of the detector's classes, the columns of the tensor `class_scores`.
    """

    schema_version: int
    images: tuple[StoredImage, ...]
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageRegions:
    """One image's boxes and what the model made of them.

    Attributes:
        width, height: of the upright image, in pixels; 0 where it was skipped.
        skipped: why there are no regions, in one line; empty where there are.
        content: what the image file and the boxes that were given for it are known by.
    """

    image: ImageRef
    width: int
    height: int
    proposals: Proposals
    regions: Regions
    skipped: str = ""
    content: str = ""


def skipped_image(
    image: ImageRef, reason: str, no_regions: Regions, content: str = ""
) -> ImageRegions:
    """An image that is left out.

    Args:
        image: that was skipped.
        reason: why, for `skipped.jsonl`.
        no_regions: of the model's shapes, as `RegionSpot.no_regions` gives them.
        content: what its file is known by.
    """
    return ImageRegions(image, 0, 0, NO_BOXES, no_regions, reason, content)


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
    proposals = Proposals.joined([each.proposals for each in images])
    if proposals.class_scores is not None:
        tensors["class_scores"] = proposals.class_scores.astype(np.float16)
    header = ShardHeader(
        schema_version=SCHEMA_VERSION,
        images=tuple(map(_describe, images)),
        class_names=proposals.class_names,
    )
    # One key: safetensors writes several in no fixed order.
    content = save(tensors, {METADATA: json.dumps(asdict(header))})
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


def _describe(each: ImageRegions) -> StoredImage:
    return StoredImage(
        id=each.image.id,
        file_name=each.image.file_name,
        sample_id=each.image.sample_id,
        width=each.width,
        height=each.height,
        regions=len(each.proposals),
        skipped=each.skipped,
        box_ids=each.proposals.ids,
        content=each.content,
    )


def read_shards(folder: Path, shards: Sequence[Shard]) -> Iterator[ImageRegions]:
    """The images of some shards in order, one shard in memory at a time.

    Raises:
        InputError: a shard is missing, is no shard, does not hold together, or is of another schema
            version.
    """
    for shard in shards:
        header, tensors = _read_shard(folder / shard.file, shard.sha256)
        start = 0
        for described in header.images:
            stop = start + described.regions
            rows = slice(start, stop)
            yield _image_regions(described, tensors, rows, header.class_names)
            start = stop


def read_descriptions(folder: Path, shards: Iterable[Shard]) -> Iterator[StoredImage]:
    """What the metadata of some shards say of their images, in order, without their regions.

    Raises:
        InputError: a shard is missing, is no shard, or is of another schema version.
    """
    for shard in shards:
        path = folder / shard.file
        try:
            metadata = read_metadata(path, MOST_HEADER)
        except InputError as error:
            raise InputError(f"{error}; {AGAIN}") from error
        yield from _header(path, metadata).images


def _read_shard(path: Path, sha256: str) -> tuple[ShardHeader, dict[str, np.ndarray]]:
    try:
        metadata, tensors = read_safetensors(path, "np", MOST_HEADER)
    except InputError as error:
        raise InputError(f"{error}; {AGAIN}") from error
    header = _header(path, metadata)
    if problem := _problem(header, tensors):
        raise InputError(f"{path}: {problem}; {AGAIN}")
    if sha256_of(path) != sha256:
        raise InputError(f"{path} was changed after it was written; {AGAIN}")
    return header, tensors


def _header(path: Path, metadata: Mapping[str, str]) -> ShardHeader:
    text = metadata.get(METADATA, "{}")
    try:
        version = _version(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}; {AGAIN}") from error
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path} must be of schema version {SCHEMA_VERSION}, got {version}; run the images "
            "again with --overwrite"
        )
    return validated(ShardHeader, text, lambda name: f"{path}: {name}")


def _version(metadata: str) -> object:
    content = json.loads(metadata)
    if not isinstance(content, dict):
        raise ValueError("its metadata is no JSON object")
    return content.get("schema_version", 1)


def _problem(header: ShardHeader, tensors: Mapping[str, np.ndarray]) -> str:
    """Why a shard does not hold together, or an empty text."""
    for name, (dtype, axes) in _TENSORS.items():
        tensor = tensors.get(name)
        if tensor is None and name not in _OPTIONAL:
            return f"the tensor {name} is missing"
        if tensor is not None and (tensor.dtype != dtype or tensor.ndim != axes):
            return f"the tensor {name} must be {dtype} of {axes} axes"
    rows = sum(each.regions for each in header.images)
    for each in header.images:
        if len(each.box_ids) not in (0, each.regions):
            return f"expected {each.regions} box_ids of {each.file_name}, got {len(each.box_ids)}"
    with_masks = bool(len(tensors["mask_ends"]))
    for name in ("boxes", "score", "embedding", *_OPTIONAL):
        if name in tensors and len(tensors[name]) != rows:
            return f"the tensor {name} must have {rows} rows, got {len(tensors[name])}"
    for name in ("mask_iou", "mask_ends"):
        if len(tensors[name]) not in (rows, 0) or bool(len(tensors[name])) != with_masks:
            return f"the tensor {name} must have {rows} rows or none, got {len(tensors[name])}"
    scores = tensors.get("class_scores", np.zeros((0, 0), np.float16))
    if scores.shape[1] != len(header.class_names):
        expected = len(header.class_names)
        return f"the tensor class_scores must have {expected} columns, got {scores.shape[1]}"
    if ((scores < 0) | (scores > 1)).any():
        return "class_scores must be from 0 to 1"
    if tensors["boxes"].shape[1] != len("xyxy"):
        return f"the tensor boxes must have 4 columns, got {tensors['boxes'].shape[1]}"
    ends = np.concatenate([np.zeros(1, np.int64), tensors["mask_ends"]])
    if (np.diff(ends) < 0).any() or ends[-1] != len(tensors["mask_bytes"]):
        return "mask_ends does not fit mask_bytes"
    if (tensors["mask_bytes"] > 127).any():
        return "mask_bytes are no run lengths"
    return ""


def _image_regions(
    described: StoredImage,
    tensors: Mapping[str, np.ndarray],
    rows: slice,
    class_names: tuple[str, ...],
) -> ImageRegions:
    ends = tensors["mask_ends"]
    starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(ends)]
    size = [described.height, described.width]
    masks = tuple(
        Rle(size=size, counts=tensors["mask_bytes"][first:last].tobytes().decode("ascii"))
        for first, last in zip(starts[rows], ends[rows], strict=True)
    )
    logits = None
    if "class_logits" in tensors:
        logits = torch.from_numpy(tensors["class_logits"][rows])
    return ImageRegions(
        ImageRef(described.id, described.file_name, described.sample_id),
        described.width,
        described.height,
        Proposals(
            tensors["boxes"][rows],
            tensors["score"][rows],
            ids=described.box_ids,
            class_names=class_names,
            class_scores=tensors["class_scores"][rows] if class_names else None,
        ),
        Regions(
            torch.from_numpy(tensors["embedding"][rows]), masks, tensors["mask_iou"][rows], logits
        ),
        described.skipped,
        described.content,
    )
