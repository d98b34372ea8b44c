"""Which images a step sees: several data sets in their ratios, images of rare words more often.

All is a function of the seed and of a position in one endless stream, so that a run that goes on
needs to know nothing but its step, and so that processes share a step by taking parts of it.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import torch

from regionspot.errors import InputError
from train.features import ImageFeatures

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
        return replace(self, features=Rows(self.features, rows), names=names)


class Rows(Sequence[ImageFeatures]):
    """Some images of a sequence, read when they are asked for."""

    def __init__(self, features: Sequence[ImageFeatures], rows: Sequence[int]) -> None:
        self.features, self.rows = features, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> ImageFeatures: ...

    @overload
    def __getitem__(self, index: slice) -> "Rows": ...

    def __getitem__(self, index: int | slice) -> "ImageFeatures | Rows":
        if isinstance(index, slice):
            return Rows(self.features, self.rows[index])
        return self.features[self.rows[index]]


def hold_out(data: TrainingSet, share: float, seed: int) -> tuple[TrainingSet, TrainingSet]:
    """Images to train on, and a share of them to measure and calibrate on; no image is empty."""
    order = torch.randperm(len(data), generator=generator_of(seed, "held out", data.name))
    held_out = set(order[: round(share * len(data))].tolist())
    used = [row for row in range(len(data)) if data.names[row]]
    return (
        data.only([row for row in used if row not in held_out]),
        data.only([row for row in used if row in held_out]),
    )


def repeat_factors(names: Sequence[tuple[str, ...]], threshold: float) -> torch.Tensor:
    """How often each image is shown in a pass: the most that one of its words asks for.

    A word of which the share f of the images has one asks for max(1, sqrt(threshold / f)) (Gupta
    et al. 2019, LVIS, section 4).

    Returns:
        (M,) float64, each at least 1.
    """
    images_with = Counter(word for image in names for word in set(image))
    wanted = {
        word: max(1.0, math.sqrt(threshold * len(names) / count))
        for word, count in images_with.items()
    }
    each = [max((wanted[word] for word in image), default=1.0) for image in names]
    return torch.tensor(each, dtype=torch.float64)


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
        self._ends = [repeat_factors(d.names, repeat_threshold).cumsum(0) for d in sets]
        self._quota = _quotas([data.ratio for data in sets])
        self._passes: dict[int, tuple[int, torch.Tensor]] = {}
        self._block: tuple[int, torch.Tensor] | None = None

    @property
    def images_a_pass(self) -> int:
        """Images, repeats counted, in which every set of data was shown once at least."""
        lengths = [round(ends[-1].item()) for ends in self._ends]
        share = sum(self._quota)
        return max(math.ceil(n * share / q) for n, q in zip(lengths, self._quota, strict=True))

    def __getitem__(self, position: int) -> tuple[int, int]:
        """The number of a data set, and of an image in it."""
        block, place = divmod(position, sum(self._quota))
        row = int(self._layout(block)[place])
        chosen = next(d for d in range(len(self._quota)) if row < sum(self._quota[: d + 1]))
        seen = block * self._quota[chosen] + row - sum(self._quota[:chosen])
        number, place = divmod(seen, round(self._ends[chosen][-1].item()))
        return chosen, int(self._order(chosen, number)[place])

    def step(self, step: int, images: int, rank: int = 0, processes: int = 1) -> range:
        """The positions of one process's part of a step of so many images in all."""
        part = images // processes
        start = step * images + rank * part
        return range(start, start + part)

    def _layout(self, block: int) -> torch.Tensor:
        """Where in a block which data set stands: a permutation of the sum of the quotas."""
        if len(self._quota) == 1:
            return torch.zeros(1, dtype=torch.int64)
        if self._block is None or self._block[0] != block:
            generator = generator_of(self.seed, "block", block)
            self._block = block, torch.randperm(sum(self._quota), generator=generator)
        return self._block[1]

    def _order(self, chosen: int, number: int) -> torch.Tensor:
        """The images of one pass over a data set.

        An image whose factor is r is there floor(r) or ceil(r) times, r on average. The counts are
        drawn by one shift for all, so that every pass is of the same length.
        """
        kept = self._passes.get(chosen)
        if kept is None or kept[0] != number:
            generator = generator_of(self.seed, "pass", chosen, number)
            ends = self._ends[chosen]
            length = round(ends[-1].item())
            shift = torch.rand((), generator=generator, dtype=torch.float64)
            marks = (ends * (length / ends[-1]) + shift).floor().long()
            marks[-1] = length  # whatever the rounding of the sum
            counts = marks.diff(prepend=torch.zeros(1, dtype=torch.int64))
            rows = torch.arange(len(ends)).repeat_interleave(counts)
            kept = number, rows[torch.randperm(length, generator=generator)]
            self._passes[chosen] = kept
        return kept[1]


def _quotas(ratios: Sequence[float]) -> list[int]:
    """Images of each data set in a block; one data set needs no blocks."""
    if len(ratios) == 1:
        return [1]
    return [max(1, round(BLOCK * ratio / sum(ratios))) for ratio in ratios]
