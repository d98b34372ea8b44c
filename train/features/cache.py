"""Features of the frozen towers, computed once and kept in sharded safetensors.

A cache folder is named by a key over everything the features depend on: the tower and its weights,
the input size, the precision, the boxes and the view. Another key is another folder, so that
features of an old setting are never taken for new ones. `train.features.extract` fills the folders.

Axes: M images, N regions of one image.
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
from safetensors import safe_open

from regionspot.config import ModelConfig, fast_dtype
from regionspot.encoders import RegionPooler, encoder_class
from regionspot.errors import InputError
from regionspot.types import IntArray
from regionspot.weights import sha256_by_preset
from regionspot.zero_shot import region_features
from train.data import AnnotatedImage, LazySequence
from train.features.augment import AS_IT_IS, View
from train.features.skipped import Skipped, read_skipped

SHARD = 64
OPEN_SHARDS = 64  # of each tower, kept mapped into memory
Tower = Literal["localizer", "encoder"]
TOWERS: tuple[Tower, ...] = ("localizer", "encoder")


@dataclass(frozen=True)
class ImageFeatures:
    """What the head learns from, for one image.

    Attributes:
        names: N words, one a region.
        tokens: (N, 256) of the localizer.
        memory: (L, C) of the encoder, the class token first.
        pooled: (N, P) box-pooled features, where the encoder has them.
        prior: (N, D) what the encoder's own classes say of the boxes, likewise.
        verified: as `AnnotatedImage.verified`.
        taught: (N, D) what other heads say of the regions, normalised, where there are such.
    """

    names: tuple[str, ...]
    tokens: torch.Tensor
    memory: torch.Tensor
    pooled: torch.Tensor | None
    prior: torch.Tensor | None
    verified: frozenset[str] | None = None
    taught: torch.Tensor | None = None

    @property
    def region_features(self) -> torch.Tensor | None:
        """(N, P + T) of the pooled features and the tokens, as the zero-shot classifier takes."""
        return None if self.pooled is None else region_features(self.pooled, self.tokens)

    def only(self, rows: Sequence[int]) -> "ImageFeatures":
        """The image with some of its regions."""
        chosen = list(rows)
        return replace(
            self,
            names=tuple(self.names[row] for row in chosen),
            tokens=self.tokens[chosen],
            pooled=None if self.pooled is None else self.pooled[chosen],
            prior=None if self.prior is None else self.prior[chosen],
            taught=None if self.taught is None else self.taught[chosen],
        )


@dataclass(frozen=True)
class FeatureSet:
    """Images in one view, and where their features are kept.

    Attributes:
        folders: of each tower.
        regions: (M,) how many boxes the view keeps of each image.
    """

    config: ModelConfig
    images: Sequence[AnnotatedImage]
    view: View
    folders: Mapping[Tower, Path]
    regions: IntArray

    def shard_count(self) -> int:
        """How many files each tower's features are spread over."""
        return -(-len(self.images) // SHARD)

    def shard_path(self, tower: Tower, number: int) -> Path:
        """The file of a shard, there or not."""
        return self.folders[tower] / f"{number:05d}.safetensors"

    def skipped_by(self, tower: Tower) -> dict[int, Skipped]:
        """The images that a tower could not use, by their row."""
        found = read_skipped(self.folders[tower])
        return {number * SHARD + each.row: each for number in found for each in found[number]}

    def skipped(self) -> dict[int, str]:
        """Why images were left out by either tower, by their row; the reason names the file."""
        return {
            row: each.reason for tower in TOWERS for row, each in self.skipped_by(tower).items()
        }


def feature_set(
    config: ModelConfig, images: Sequence[AnnotatedImage], cache: Path, view: View = AS_IT_IS
) -> FeatureSet:
    """Look through all images once, for the key of their features and what the view keeps.

    Raises:
        InputError: an image's path or size cannot be used.
    """
    boxes = hashlib.sha256()
    regions = np.zeros(len(images), np.int64)
    for row, image in enumerate(images):
        boxes.update(f"{image.id} {image.path.name} {image.width} {image.height}".encode())
        boxes.update(np.ascontiguousarray(image.boxes).tobytes())
        regions[row] = len(view.boxes(image.boxes, image.width, image.height)[1])
    digest = boxes.hexdigest()
    folders = {tower: cache / _folder_name(config, tower, digest, view) for tower in TOWERS}
    return FeatureSet(config, images, view, folders, regions)


def _folder_name(config: ModelConfig, tower: Tower, boxes: str, view: View) -> str:
    key: dict[str, object] = {
        "tower": tower,
        "config": config.localizer
        if tower == "localizer"
        else encoder_class(config.encoder).feature_settings(config.encoder),
        "weights": sha256_by_preset(config.name),
        "precision": str(fast_dtype(torch.device("cpu"))),
        "boxes": boxes,
    }
    # Keys of what is usual stay what they were before there was a choice.
    if tower == "localizer" and config.token != "transformer":
        key["token"] = config.token
    if view != AS_IT_IS:
        key["view"] = asdict(view)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return f"{tower}-{name}"


class FeatureStore(LazySequence[ImageFeatures]):
    """Features of images, read when they are asked for.

    Images without a region, and those that extraction skipped, are left out. Files are mapped into
    memory, so that what is not used for a while need not stay there.

    Args:
        pooler: of the encoder that was extracted with; it gives the priors.
        words: regions of other words are left out; None: of none.

    Raises:
        InputError: a shard was not extracted.
    """

    def __init__(
        self,
        features: FeatureSet,
        pooler: RegionPooler | None,
        words: Collection[str] | None = None,
    ) -> None:
        for tower in TOWERS:
            for number in range(features.shard_count()):
                path = features.shard_path(tower, number)
                if not path.exists():
                    raise InputError(f"{path} is missing; run `python -m train extract` first")
        self.features, self.pooler = features, pooler
        self._words = None if words is None else frozenset(words)
        there = np.setdiff1d(np.arange(len(features.images)), list(features.skipped()))
        self._rows: IntArray = there[features.regions[there] > 0]
        if words is not None:
            is_used = [bool(self._named(features.images[row])[1]) for row in self._rows.tolist()]
            self._rows = self._rows[is_used]
        self._open: Callable[[Tower, int], Any] = lru_cache(OPEN_SHARDS)(self._open_shard)

    def __len__(self) -> int:
        return len(self._rows)

    def _at(self, row: int) -> ImageFeatures:
        row = int(self._rows[row])
        image = self.features.images[row]
        names, kept = self._named(image)
        maps = self._open("encoder", row // SHARD)
        pooled = maps.get_tensor(f"{image.id}.pooled") if self.pooler else None
        found = ImageFeatures(
            names=names,
            tokens=self._open("localizer", row // SHARD).get_tensor(f"{image.id}.tokens"),
            memory=maps.get_tensor(f"{image.id}.memory"),
            pooled=pooled,
            prior=self.pooler.prior(pooled.float()) if self.pooler and pooled is not None else None,
            verified=image.verified,
        )
        return found if len(kept) == len(names) else found.only(kept)

    @property
    def image_of(self) -> IntArray:
        """Which image of the set each entry is of."""
        return self._rows

    def names(self, index: int) -> tuple[str, ...]:
        """The word of each region of an entry, without reading its features."""
        names, kept = self._named(self.features.images[int(self._rows[index])])
        return tuple(names[i] for i in kept)

    def _named(self, image: AnnotatedImage) -> tuple[tuple[str, ...], list[int]]:
        """The words of the regions that the view keeps of an image, and which are not left out."""
        kept = self.features.view.boxes(image.boxes, image.width, image.height)[1]
        names = tuple(image.names[i] for i in kept)
        words = self._words
        return names, [i for i, name in enumerate(names) if words is None or name in words]

    def _open_shard(self, tower: Tower, number: int) -> Any:
        return safe_open(self.features.shard_path(tower, number), framework="pt")


def load_features(
    config: ModelConfig,
    images: Sequence[AnnotatedImage],
    cache: Path,
    pooler: RegionPooler | None,
    view: View = AS_IT_IS,
) -> list[ImageFeatures]:
    """The features of all images, in their order; as `FeatureStore`, without some.

    Raises:
        InputError: a shard was not extracted.
    """
    return list(FeatureStore(feature_set(config, images, cache, view), pooler))
