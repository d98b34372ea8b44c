"""Which images a step sees: several data sets in their ratios, images of rare words more often.

All is a function of the seed and of a position in one endless stream, so that a run that goes on
needs to know nothing but its step, and so that processes share a step by taking parts of it.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from regionspot.errors import InputError
from regionspot.types import IntArray
from train.data import Subset
from train.features.cache import ImageFeatures

BLOCK = 10_000  # positions over which the ratios of several data sets are kept


@dataclass(frozen=True)
class TrainingSet:
    """One data set to train on.

    Attributes:
        features: of M images, each with one region or more; may be read lazily.
        names: for each image the word of each region, known without reading features.
        words: all that the data set distinguishes.
        broader: for a word, the words that are true of its regions too.
        ratio: its share of the images of a step, against the other data sets' ratios.
    """

    name: str
    features: Sequence[ImageFeatures]
    names: Sequence[tuple[str, ...]]
    words: tuple[str, ...]
    broader: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ratio: float = 1.0

    def __post_init__(self) -> None:
        if len(self.features) != len(self.names):
            raise InputError(
                f"{self.name}: features of {len(self.features)} images, words of {len(self.names)}"
            )
        if not 0 < self.ratio < math.inf:
            raise InputError(f"the ratio of {self.name} must be above 0, got {self.ratio}")

    def __len__(self) -> int:
        return len(self.names)

    def only(self, rows: Sequence[int]) -> "TrainingSet":
        """The set of some of its images, in that order."""
        names = [self.names[row] for row in rows]
        return replace(self, features=Subset(self.features, rows), names=names)


def hold_out(data: TrainingSet, share: float, seed: int) -> tuple[TrainingSet, TrainingSet]:
    """Images to train on, and a share of them to measure and calibrate on; no image is empty."""
    order = torch.randperm(len(data), generator=generator_of(seed, "held out", data.name))
    held_out = set(order[: round(share * len(data))].tolist())
    used = [row for row in range(len(data)) if data.names[row]]
    return (
        data.only([row for row in used if row not in held_out]),
        data.only([row for row in used if row in held_out]),
    )


def repeat_factors(names: Sequence[tuple[str, ...]], threshold: float) -> npt.NDArray[np.float64]:
    """How often each image is shown in a pass: the most that one of its words asks for.

    A word of which the share f of the images has one asks for max(1, sqrt(threshold / f)) (Gupta
    et al. 2019, LVIS, section 4).

    Returns:
        (M,), each at least 1.
    """
    images_with = Counter(word for image in names for word in set(image))
    wanted = {
        word: max(1.0, math.sqrt(threshold * len(names) / count))
        for word, count in images_with.items()
    }
    return np.array([max((wanted[word] for word in image), default=1.0) for image in names])


def seed_of(*parts: int | str) -> int:
    """A seed that every part changes; no two runs of parts share one but by chance."""
    digest = hashlib.blake2b("\0".join(map(repr, parts)).encode(), digest_size=8)
    return int.from_bytes(digest.digest()) >> 1


def generator_of(*parts: int | str) -> torch.Generator:
    """Random numbers of their own for these parts."""
    return torch.Generator().manual_seed(seed_of(*parts))


class Sampler:
    """The endless stream of (data set, image) that training reads.

    Each data set goes through its images pass after pass, each pass in an order of its own.
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
        """Images, repeats counted, in which all of every data set was shown once at least."""
        a_block = int(self._starts[-1])
        passes = zip(self._lengths, self._quotas, strict=True)
        return max(math.ceil(length * a_block / quota) for length, quota in passes)

    def __getitem__(self, position: int) -> tuple[int, int]:
        """The number of a data set, and of an image in it."""
        block, place = divmod(position, int(self._starts[-1]))
        row = int(self._layout(block)[place])
        chosen = int(np.searchsorted(self._starts, row, "right")) - 1
        seen = block * self._quotas[chosen] + row - int(self._starts[chosen])
        number, place = divmod(seen, self._lengths[chosen])
        return chosen, int(self._order(chosen, number)[place])

    def step(self, step: int, images: int, rank: int = 0, processes: int = 1) -> range:
        """The positions of one process's part of a step of so many images in all."""
        part = images // processes
        start = step * images + rank * part
        return range(start, start + part)

    def _layout(self, block: int) -> IntArray:
        """The rows of a block, mixed: each data set has as many, side by side, as its quota."""
        if self._block is None or self._block[0] != block:
            random = np.random.default_rng(seed_of(self.seed, "block", block))
            self._block = block, random.permutation(int(self._starts[-1]))
        return self._block[1]

    def _order(self, chosen: int, number: int) -> IntArray:
        """The images of one pass over a data set.

        An image whose factor is r is there floor(r) or ceil(r) times, r on average. The counts are
        drawn by one shift for all, so that every pass is of the same length.
        """
        kept = self._passes.get(chosen)
        if kept is None or kept[0] != number:
            random = np.random.default_rng(seed_of(self.seed, "pass", chosen, number))
            ends, length = self._ends[chosen], self._lengths[chosen]
            marks = np.floor(ends * (length / ends[-1]) + random.random()).astype(np.int64)
            marks[-1] = length  # whatever the rounding of the sum
            counts = np.diff(marks, prepend=0)
            kept = number, random.permutation(np.repeat(np.arange(len(ends)), counts))
            self._passes[chosen] = kept
        return kept[1]


def _quotas(ratios: Sequence[float]) -> list[int]:
    """Images of each data set in a block; one data set needs no blocks."""
    if len(ratios) == 1:
        return [1]
    return [max(1, round(BLOCK * ratio / sum(ratios))) for ratio in ratios]
