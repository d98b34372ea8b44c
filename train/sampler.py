"""Which images a step sees: several data sets in their ratios, images of rare classes more often.

The sampler is a function of the seed and of a position in one endless stream, so that a resumed
run needs to know its step alone, and processes divide a step by taking parts of it.

Axes: M images of a data set.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from regionspot.errors import InputError
from regionspot.types import IntArray
from train.data.dataset import Subset
from train.features.cache import ImageFeatures

BLOCK = 10_000  # positions over which the ratios of several data sets are kept


@dataclass(frozen=True)
class TrainingSet:
    """One data set to train on.

    Attributes:
        features: of M images with at least one region each; may be read lazily.
        names: for each image the class name of each region, known without reading features.
        classes: label space of the data set.
        ancestors: of a class, the classes that hold for its regions too.
        ratio: images of this data set in a step, relative to the other data sets' ratios.
    """

    name: str
    features: Sequence[ImageFeatures]
    names: Sequence[tuple[str, ...]]
    classes: tuple[str, ...]
    ancestors: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ratio: float = 1.0

    def __post_init__(self) -> None:
        if len(self.features) != len(self.names):
            raise InputError(
                f"{self.name}: features of {len(self.features)} images, "
                f"class names of {len(self.names)}"
            )
        if not 0 < self.ratio < math.inf:
            raise InputError(f"the ratio of {self.name} must be above 0, got {self.ratio}")

    def __len__(self) -> int:
        return len(self.names)

    def only(self, rows: Sequence[int]) -> "TrainingSet":
        """The images of these rows, in that order."""
        names = [self.names[row] for row in rows]
        return replace(self, features=Subset(self.features, rows), names=names)


def fingerprint(sets: Sequence[TrainingSet]) -> str:
    """SHA-256 of what is trained on: data sets, ratios, images in order and their classes."""
    digest = hashlib.sha256()
    for data in sets:
        ancestors = {name: sorted(others) for name, others in data.ancestors.items()}
        content = [data.name, data.ratio, sorted(data.classes), ancestors, list(data.names)]
        digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()


def hold_out(data: TrainingSet, fraction: float, seed: int) -> tuple[TrainingSet, TrainingSet]:
    """Split into images to train on and held-out images, leaving out images without a region."""
    held_out = held_out_images(len(data), fraction, seed, data.name)
    used = [row for row in range(len(data)) if data.names[row]]
    return (
        data.only([row for row in used if row not in held_out]),
        data.only([row for row in used if row in held_out]),
    )


def held_out_images(count: int, fraction: float, seed: int, name: str) -> set[int]:
    """Rows of the images that a training holds out.

    Args:
        count: of the data set's images.
        fraction: that is held out.
        seed: of the training.
        name: of the data set, as `short_name` gives it.
    """
    return held_out_rows([list(range(count))], fraction, generator_of(seed, "held out", name))


def held_out_rows(
    groups: Sequence[Sequence[int]], fraction: float, generator: torch.Generator
) -> set[int]:
    """Rows of a stratified hold-out: the same fraction of each group, drawn at random."""
    held_out: set[int] = set()
    for rows in groups:
        order = torch.randperm(len(rows), generator=generator).tolist()
        held_out |= {rows[place] for place in order[: round(fraction * len(rows))]}
    return held_out


def batch_rows(count: int, size: int, step: int, *seed: int | str) -> list[int]:
    """Rows of one step's batch out of a small set: each row once a pass, shuffled in each pass.

    The last batch of a pass may be smaller.

    Args:
        count: images of the set.
        size: of a batch.
        step: from 0.
        seed: what the order of a pass is drawn from.
    """
    number, place = divmod(step, -(-count // size))
    order = torch.randperm(count, generator=generator_of(*seed, number)).tolist()
    return order[place * size : (place + 1) * size]


def repeat_factors(names: Sequence[tuple[str, ...]], threshold: float) -> npt.NDArray[np.float64]:
    """How often each image is shown in a pass: the largest repeat factor of its classes.

    The repeat factor of a class that occurs in the fraction f of the images is
    max(1, sqrt(threshold / f)) (Gupta et al. 2019, LVIS, section 4).

    Returns:
        (M,), each at least 1.
    """
    images_with = Counter(name for image in names for name in set(image))
    factors = {
        name: max(1.0, math.sqrt(threshold * len(names) / count))
        for name, count in images_with.items()
    }
    return np.array([max((factors[name] for name in image), default=1.0) for image in names])


def seed_of(*parts: int | str) -> int:
    """A seed hashed from all parts."""
    digest = hashlib.blake2b("\0".join(map(repr, parts)).encode(), digest_size=8)
    return int.from_bytes(digest.digest()) >> 1


def generator_of(*parts: int | str) -> torch.Generator:
    """A generator seeded with `seed_of` of the parts."""
    return torch.Generator().manual_seed(seed_of(*parts))


class Sampler:
    """The endless stream of (data set, image) that training reads.

    Each data set goes through its images pass after pass, reshuffled in each.
    """

    def __init__(self, sets: Sequence[TrainingSet], seed: int, repeat_threshold: float = 0) -> None:
        if not sets or not all(len(data) for data in sets):
            raise InputError("there is no image with a box to train on")
        self.seed = seed
        self._ends = [repeat_factors(d.names, repeat_threshold).cumsum() for d in sets]
        self._lengths = [round(float(ends[-1])) for ends in self._ends]
        self._quotas = _quotas([data.ratio for data in sets])
        self._starts = np.concatenate([[0], np.cumsum(self._quotas)])
        self._passes: dict[int, tuple[int, IntArray]] = {}
        self._block: tuple[int, IntArray] | None = None

    @property
    def images_a_pass(self) -> int:
        """Images of a step stream, repeats counted, that show each data set at least once."""
        a_block = int(self._starts[-1])
        passes = zip(self._lengths, self._quotas, strict=True)
        return max(math.ceil(length * a_block / quota) for length, quota in passes)

    def __getitem__(self, position: int) -> tuple[int, int]:
        """The index of a data set, and the row of an image in it."""
        block, place = divmod(position, int(self._starts[-1]))
        row = int(self._layout(block)[place])
        chosen = int(np.searchsorted(self._starts, row, "right")) - 1
        seen = block * self._quotas[chosen] + row - int(self._starts[chosen])
        number, place = divmod(seen, self._lengths[chosen])
        return chosen, int(self._order(chosen, number)[place])

    def step(self, step: int, images: int, rank: int = 0, processes: int = 1) -> range:
        """The positions of one process's part of a step of `images` images."""
        part = images // processes
        start = step * images + rank * part
        return range(start, start + part)

    def _layout(self, block: int) -> IntArray:
        """The rows of a block, shuffled; consecutive rows belong to one data set, by its quota."""
        if self._block is None or self._block[0] != block:
            random = np.random.default_rng(seed_of(self.seed, "block", block))
            self._block = block, random.permutation(int(self._starts[-1]))
        return self._block[1]

    def _order(self, chosen: int, number: int) -> IntArray:
        """The images of one pass over a data set.

        An image of repeat factor r occurs floor(r) or ceil(r) times, r on average. One random
        shift rounds all of them, so that every pass has the same length.
        """
        kept = self._passes.get(chosen)
        if kept is None or kept[0] != number:
            random = np.random.default_rng(seed_of(self.seed, "pass", chosen, number))
            ends, length = self._ends[chosen], self._lengths[chosen]
            marks = np.floor(ends * (length / ends[-1]) + random.random()).astype(np.int64)
            marks[-1] = length  # exactly, despite rounding of the sum
            counts = np.diff(marks, prepend=0)
            kept = number, random.permutation(np.repeat(np.arange(len(ends)), counts))
            self._passes[chosen] = kept
        return kept[1]


def _quotas(ratios: Sequence[float]) -> list[int]:
    """Images of each data set in a block; one data set needs no blocks."""
    if len(ratios) == 1:
        return [1]
    return [max(1, round(BLOCK * ratio / sum(ratios))) for ratio in ratios]
