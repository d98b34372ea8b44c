"""Features of the frozen towers, computed once and kept in sharded safetensors.

A cache folder is named by a key over everything the features depend on: the tower and its weights,
the input size, the precision and the boxes. Another key is another folder, so that features of an
old setting are never taken for new ones. A shard is renamed into place when it is whole, so an
extraction that was killed goes on where it stopped.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from integrations.images import read_image
from regionspot.device import fast_dtype
from regionspot.errors import InputError
from regionspot.localizers.sam import ImageArray, SamLocalizer, build_sam
from regionspot.model import build_encoder
from regionspot.presets import EncoderConfig, ModelConfig
from regionspot.weights import sha256_by_preset
from train.datasets import AnnotatedImage

SHARD = 64
Tower = Literal["localizer", "encoder"]
Extractor = Callable[[ImageArray, AnnotatedImage], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class ImageFeatures:
    """What the head learns from, for one image.

    Attributes:
        names: N words, one a region.
        tokens: (N, 256) of the localizer.
        memory: (L, C) of the encoder, the class token first.
        pooled: (N, P) box-pooled features, where the encoder has them.
        prior: (N, D) what the encoder's own classes say of the boxes, likewise.
    """

    names: tuple[str, ...]
    tokens: torch.Tensor
    memory: torch.Tensor
    pooled: torch.Tensor | None
    prior: torch.Tensor | None


def extract(
    config: ModelConfig,
    images: Sequence[AnnotatedImage],
    cache: Path,
    workers: int,
    on_shard: Callable[[Tower, int, int], None] = lambda tower, done, total: None,
) -> None:
    """Run both towers over all images, leaving out the shards that the cache holds.

    Args:
        workers: processes, each with one thread.
        on_shard: told the tower, shards done and shards in all.

    Raises:
        InputError: an image cannot be read or has another size than its annotation says.
    """
    torch_threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the workers when they import torch
    try:
        for tower in ("localizer", "encoder"):
            _extract_tower(config, tower, images, cache, workers, on_shard)
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if torch_threads is not None:
            os.environ["OMP_NUM_THREADS"] = torch_threads


def _extract_tower(
    config: ModelConfig,
    tower: Tower,
    images: Sequence[AnnotatedImage],
    cache: Path,
    workers: int,
    on_shard: Callable[[Tower, int, int], None],
) -> None:
    folder = feature_folder(config, tower, images, cache)
    folder.mkdir(parents=True, exist_ok=True)
    shards = list(_shards(images))
    missing = [i for i in range(len(shards)) if not _shard_path(folder, i).exists()]
    done = len(shards) - len(missing)
    on_shard(tower, done, len(shards))
    if not missing:
        return
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_start_worker, initargs=(config, tower)
    ) as pool:
        tasks = [pool.submit(_extract_shard, shards[i], _shard_path(folder, i)) for i in missing]
        for task in as_completed(tasks):
            task.result()
            done += 1
            on_shard(tower, done, len(shards))


def load_features(
    config: ModelConfig, images: Sequence[AnnotatedImage], cache: Path
) -> list[ImageFeatures]:
    """The features of all images, in their order.

    Raises:
        InputError: a shard was not extracted.
    """
    encoder = build_encoder(config.encoder, torch.device("cpu"), torch.float32)
    tokens = _load_tower(config, "localizer", images, cache)
    maps = _load_tower(config, "encoder", images, cache)
    return [
        ImageFeatures(
            image.names,
            t["tokens"],
            m["memory"],
            m.get("pooled"),
            encoder.prior(m["pooled"].float()) if "pooled" in m else None,
        )
        for image, t, m in zip(images, tokens, maps, strict=True)
    ]


def _load_tower(
    config: ModelConfig, tower: Tower, images: Sequence[AnnotatedImage], cache: Path
) -> Iterator[dict[str, torch.Tensor]]:
    folder = feature_folder(config, tower, images, cache)
    for number, shard in enumerate(_shards(images)):
        path = _shard_path(folder, number)
        if not path.exists():
            raise InputError(f"{path} is missing; run `python -m train extract` first")
        tensors = load_file(path)
        for image in shard:
            prefix = f"{image.id}."
            yield {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }


def feature_folder(
    config: ModelConfig, tower: Tower, images: Sequence[AnnotatedImage], cache: Path
) -> Path:
    """The cache folder of one tower over these images and boxes."""
    boxes = hashlib.sha256()
    for image in images:
        boxes.update(f"{image.id} {image.path.name} {image.width} {image.height}".encode())
        boxes.update(np.ascontiguousarray(image.boxes).tobytes())
    key = {
        "tower": tower,
        "config": config.localizer if tower == "localizer" else _image_side(config.encoder),
        "weights": sha256_by_preset(config.name),
        "precision": str(fast_dtype(torch.device("cpu"))),
        "boxes": boxes.hexdigest(),
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return cache / f"{tower}-{name}"


def _image_side(encoder: EncoderConfig) -> dict[str, object]:
    """What the image features depend on; the text side may change without a new extraction."""
    settings = asdict(encoder)
    del settings["templates"]
    return settings


def _shards(images: Sequence[AnnotatedImage]) -> Iterator[Sequence[AnnotatedImage]]:
    for start in range(0, len(images), SHARD):
        yield images[start : start + SHARD]


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.safetensors"


_extractor: Extractor


def _start_worker(config: ModelConfig, tower: Tower) -> None:
    global _extractor  # a worker process has one tower for its whole life
    torch.set_num_threads(1)
    _extractor = _localizer(config) if tower == "localizer" else _encoder(config)


def _localizer(config: ModelConfig) -> Extractor:
    device = torch.device("cpu")
    localizer = SamLocalizer(build_sam(config.localizer), fast_dtype(device))

    def tokens(pixels: ImageArray, image: AnnotatedImage) -> dict[str, torch.Tensor]:
        return {"tokens": localizer.tokens(localizer.encode(pixels), image.boxes).tokens}

    return tokens


def _encoder(config: ModelConfig) -> Extractor:
    device = torch.device("cpu")
    encoder = build_encoder(config.encoder, device, fast_dtype(device))

    def maps(pixels: ImageArray, image: AnnotatedImage) -> dict[str, torch.Tensor]:
        (seen,) = encoder.image_tokens([pixels])
        regions = encoder.pool(seen, image.boxes, image.width, image.height)
        memory = {"memory": seen.sequence()}
        return memory if regions is None else memory | {"pooled": regions.pooled}

    return maps


def _extract_shard(images: Sequence[AnnotatedImage], path: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for image in images:
        pixels = read_image(image.path)
        if pixels.shape[:2] != (image.height, image.width):
            raise InputError(
                f"{image.path} must be {image.width} x {image.height} as annotated, "
                f"got {pixels.shape[1]} x {pixels.shape[0]}"
            )
        for name, tensor in _extractor(pixels, image).items():
            tensors[f"{image.id}.{name}"] = tensor.half().contiguous()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    save_file(tensors, temporary)
    temporary.replace(path)
