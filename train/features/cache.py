"""Features of the frozen towers, computed once and kept in sharded safetensors.

A cache folder is named by a key over everything the features depend on: the tower and its weights,
the input size, the precision, the boxes and the view. A file next to a shard lists the images that
it lacks, with the reasons.

Axes: M images, N regions of one image, L map tokens, C map width, P pooled channels, D text width.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from integrations.images import UnreadableImage
from regionspot.config import ModelConfig, fast_dtype
from regionspot.devices.runtime import TORCH, build_runtime, resolve_runtime
from regionspot.encoders import VisionLanguageEncoder, encoder_class
from regionspot.errors import InputError
from regionspot.files import atomic_path, atomic_write
from regionspot.types import IntArray
from regionspot.weights import sha256_by_preset
from regionspot.zero_shot import region_features
from train.data.dataset import AnnotatedImage, LazySequence
from train.features.augment import IDENTITY, View

SHARD = 64
OPEN_SHARDS = 64  # of each tower, kept mapped into memory
HALF = 2  # bytes of a stored number
HEADER = 128  # bytes that name a tensor in its file, about
Tower = Literal["localizer", "encoder"]
TOWERS: tuple[Tower, ...] = ("localizer", "encoder")
Features = Callable[[AnnotatedImage], dict[str, torch.Tensor]]  # by name; of one tower


@dataclass(frozen=True)
class ImageFeatures:
    """Inputs of the head for one image, and the classes of its regions.

    Attributes:
        names: class names of the N regions.
        tokens: (N, 256) of the localizer.
        memory: (L, C) of the encoder, the class token first.
        pooled: (N, P) box-pooled features, where the encoder pools.
        prior: (N, D) embeddings by the encoder's own classes, where the encoder pools.
        verified: as `AnnotatedImage.verified`.
        teacher_embedding: (N, D) L2-normalised, for distillation.
    """

    names: tuple[str, ...]
    tokens: torch.Tensor
    memory: torch.Tensor
    pooled: torch.Tensor | None
    prior: torch.Tensor | None
    verified: frozenset[str] | None = None
    teacher_embedding: torch.Tensor | None = None

    @property
    def region_features(self) -> torch.Tensor | None:
        """(N, P + T) inputs of a zero-shot classifier, where the encoder pools."""
        return None if self.pooled is None else region_features(self.pooled, self.tokens)

    def only(self, rows: Sequence[int]) -> "ImageFeatures":
        """The image with some of its regions."""
        chosen = list(rows)
        teacher = self.teacher_embedding
        return replace(
            self,
            names=tuple(self.names[row] for row in chosen),
            tokens=self.tokens[chosen],
            pooled=None if self.pooled is None else self.pooled[chosen],
            prior=None if self.prior is None else self.prior[chosen],
            teacher_embedding=None if teacher is None else teacher[chosen],
        )


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used.

    Attributes:
        row: of the image in its shard.
        reason: one line that names the file.
        state: of the file before it was read, as `file_state` gives it.
    """

    row: int
    reason: str
    state: str


def file_state(path: Path) -> str:
    """Size and modification time of a file; empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def write_shard(path: Path, images: Sequence[AnnotatedImage], features_of: Features) -> None:
    """Write the features of a shard's images, and the list of those that cannot be used."""
    tensors: dict[str, torch.Tensor] = {}
    skipped: list[str] = []
    for row, image in enumerate(images):
        state = file_state(image.path)  # before reading: a file that changes meanwhile is retried
        try:
            found = features_of(image)
        except UnreadableImage as error:
            each = asdict(Skipped(row, str(error), state))
            skipped.append(f"{json.dumps(each, ensure_ascii=False)}\n")
            continue
        for name, tensor in found.items():
            tensors[f"{image.id}.{name}"] = tensor.half().contiguous()
    # In this order, so that no shard ever lacks an image that is not listed as skipped.
    path.unlink(missing_ok=True)
    path.with_suffix(FeatureSet.SKIPPED).unlink(missing_ok=True)
    if skipped:
        with atomic_write(path.with_suffix(FeatureSet.SKIPPED)) as file:
            file.writelines(skipped)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


@dataclass(frozen=True)
class FeatureSet:
    """Images in one view, and where their features are kept.

    Attributes:
        images: M annotated images.
        folders: of each tower.
        regions: (M,) number of boxes that the view keeps of each image.
        runtime: what computes the towers, by its name with the version.
    """

    SKIPPED = ".skipped.jsonl"  # of 00012.skipped.jsonl, beside 00012.safetensors

    config: ModelConfig
    images: Sequence[AnnotatedImage]
    view: View
    folders: Mapping[Tower, Path]
    regions: IntArray
    runtime: str = TORCH.name

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        images: Sequence[AnnotatedImage],
        cache: Path,
        view: View = IDENTITY,
        runtime: str = TORCH.name,
    ) -> "FeatureSet":
        """Reads all images' annotations once, for the cache key and the number of regions.

        Args:
            config: whose towers are run.
            images: M annotated images.
            cache: folder of features.
            view: of the images.
            runtime: what computes the towers, as of `load_model`.

        Raises:
            InputError: an image's path or size, or the runtime, cannot be used.
        """
        name = build_runtime(resolve_runtime(runtime, torch.device("cpu"), config.name)).name
        boxes = hashlib.sha256()
        regions = np.zeros(len(images), np.int64)
        for row, image in enumerate(images):
            boxes.update(f"{image.id} {image.path.name} {image.width} {image.height}".encode())
            boxes.update(np.ascontiguousarray(image.boxes).tobytes())
            regions[row] = len(view.boxes(image.boxes, image.width, image.height)[1])
        digest = boxes.hexdigest()
        folders = {
            tower: cache / _folder_name(config, tower, digest, view, name) for tower in TOWERS
        }
        return cls(config, images, view, folders, regions, name)

    def shard_count(self) -> int:
        """Number of files of each tower."""
        return -(-len(self.images) // SHARD)

    def shard_path(self, tower: Tower, number: int) -> Path:
        """The file of a shard, which may be missing."""
        return self.folders[tower] / f"{number:05d}.safetensors"

    def shard_images(self, number: int) -> list[AnnotatedImage]:
        """The images of a shard."""
        return list(self.images[number * SHARD : (number + 1) * SHARD])

    def skipped_by(self, tower: Tower) -> dict[int, Skipped]:
        """The images that a tower could not use, by their row."""
        skipped = {}
        for path in sorted(self.folders[tower].glob(f"*{self.SKIPPED}")):
            start = int(path.name.removesuffix(self.SKIPPED)) * SHARD
            for line in path.read_text("utf-8").splitlines():
                each = Skipped(**json.loads(line))
                skipped[start + each.row] = each
        return skipped

    def skipped(self) -> dict[int, str]:
        """Why images were skipped by either tower, by their row; the reason names the file."""
        return {
            row: each.reason for tower in TOWERS for row, each in self.skipped_by(tower).items()
        }

    def missing(self, tower: Tower) -> list[int]:
        """Shards that do not exist, or that skipped an image whose file has changed since."""
        skipped = self.skipped_by(tower).items()
        changed = {
            row // SHARD for row, each in skipped if file_state(self.images[row].path) != each.state
        }
        return [
            number
            for number in range(self.shard_count())
            if number in changed or not self.shard_path(tower, number).exists()
        ]

    def bytes_needed(self) -> int:
        """Upper bound of the size of the missing shards, from their shapes."""
        config = self.config
        width, encoder = config.head.map_width, encoder_class(config.encoder)
        pooled = width if encoder.pools else 0
        of_image = {"localizer": 0, "encoder": encoder.map_length(config.encoder) * width}
        of_region = {"localizer": config.head.token_width, "encoder": pooled}
        tensors = {"localizer": 1, "encoder": 2 if pooled else 1}
        total = 0
        for tower in TOWERS:
            for number in self.missing(tower):
                regions = self.regions[number * SHARD : (number + 1) * SHARD]
                numbers = len(regions) * of_image[tower] + int(regions.sum()) * of_region[tower]
                total += HALF * numbers + HEADER * tensors[tower] * len(regions)
        return total


def _folder_name(config: ModelConfig, tower: Tower, boxes: str, view: View, runtime: str) -> str:
    encoder = config.encoder
    settings = encoder_class(encoder).feature_settings(encoder)
    key: dict[str, object] = {
        "tower": tower,
        "config": config.localizer if tower == "localizer" else settings,
        "weights": sha256_by_preset(config.name),
        "precision": str(fast_dtype(torch.device("cpu"))),
        "boxes": boxes,
    }
    # Defaults have no key, so that folders of before there was a choice stay valid.
    if tower == "localizer" and config.token != "transformer":
        key["token"] = config.token
    if view != IDENTITY:
        key["view"] = asdict(view)
    if runtime != TORCH.name:
        key["runtime"] = runtime
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return f"{tower}-{name}"


class FeatureStore(LazySequence[ImageFeatures]):
    """Features of images, read from memory-mapped files when they are asked for.

    Images without a region, and those that extraction skipped, are left out.

    Attributes:
        image_of: the row in the set's images of each entry.

    Args:
        encoder: computes the priors of pooled features.
        classes: regions of other classes are left out; None: of none.

    Raises:
        InputError: a shard was not extracted.
    """

    def __init__(
        self,
        features: FeatureSet,
        encoder: VisionLanguageEncoder,
        classes: Collection[str] | None = None,
    ) -> None:
        for tower in TOWERS:
            for number in range(features.shard_count()):
                path = features.shard_path(tower, number)
                if not path.exists():
                    raise InputError(f"{path} is missing; run `python -m train extract` first")
        self.features, self._pooler = features, encoder.pooler
        self._classes = None if classes is None else frozenset(classes)
        there = np.setdiff1d(np.arange(len(features.images)), list(features.skipped()))
        self.image_of: IntArray = there[features.regions[there] > 0]
        if classes is not None:
            is_used = [bool(self._named(features.images[row])[1]) for row in self.image_of.tolist()]
            self.image_of = self.image_of[is_used]
        self._open: Callable[[Tower, int], Any] = lru_cache(OPEN_SHARDS)(self._open_shard)

    def __len__(self) -> int:
        return len(self.image_of)

    def _at(self, row: int) -> ImageFeatures:
        row = int(self.image_of[row])
        image = self.features.images[row]
        names, kept = self._named(image)
        maps = self._open("encoder", row // SHARD)
        pooled = prior = None
        if self._pooler:
            pooled = maps.get_tensor(f"{image.id}.pooled")
            prior = self._pooler.prior(pooled.float())
        found = ImageFeatures(
            names=names,
            tokens=self._open("localizer", row // SHARD).get_tensor(f"{image.id}.tokens"),
            memory=maps.get_tensor(f"{image.id}.memory"),
            pooled=pooled,
            prior=prior,
            verified=image.verified,
        )
        return found if len(kept) == len(names) else found.only(kept)

    def names(self, index: int) -> tuple[str, ...]:
        """The class name of each region of an entry, without reading its features."""
        names, kept = self._named(self.features.images[int(self.image_of[index])])
        return tuple(names[i] for i in kept)

    def _named(self, image: AnnotatedImage) -> tuple[tuple[str, ...], list[int]]:
        """Class names of the regions that the view keeps, and the rows that are not left out."""
        kept = self.features.view.boxes(image.boxes, image.width, image.height)[1]
        names = tuple(image.names[i] for i in kept)
        classes = self._classes
        return names, [i for i, name in enumerate(names) if classes is None or name in classes]

    def _open_shard(self, tower: Tower, number: int) -> Any:
        path = self.features.shard_path(tower, number)
        try:
            return safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path} is no whole file of features ({error}); delete it, and give the command "
                "again"
            ) from error
