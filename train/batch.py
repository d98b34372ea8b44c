"""Images as padded batches, read ahead of the step that needs them.

Axes: B images, N regions, L map tokens, K words, C map width, D text width.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from train.config import Recipe
from train.features.cache import ImageFeatures
from train.losses import Words
from train.sampler import Sampler, TrainingSet, generator_of


@dataclass(frozen=True)
class Batch:
    """Padded features of B images.

    Attributes:
        tokens, memory, pooled, prior, taught: (B, ...) float32, of `ImageFeatures`.
        padding: (B, N) True where a row is no region.
        target: (B, N) each region's word, -1 where a row is no region.
        counted: (R, K) of the R regions, which words count in the loss; None where unasked.
    """

    tokens: torch.Tensor
    memory: torch.Tensor
    padding: torch.Tensor
    pooled: torch.Tensor | None
    prior: torch.Tensor | None
    taught: torch.Tensor | None
    target: torch.Tensor
    counted: torch.Tensor | None = None

    def embed(self, head: nn.Module) -> torch.Tensor:
        """The head's region embeddings (B, N, D), on the head's device."""
        here = self.to(next(head.parameters()).device)
        result: torch.Tensor = head(here.tokens, here.memory, here.padding, here.pooled, here.prior)
        return result

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        held: dict[str, torch.Tensor | None] = vars(self)
        moved: dict[str, Any] = {k: v if v is None else v.to(device) for k, v in held.items()}
        return Batch(**moved)


def collate(
    images: Sequence[ImageFeatures], rows: Sequence[torch.Tensor], words: dict[str, int]
) -> Batch:
    """Pad images to one batch, taking the given rows of each image's regions."""
    tokens = [image.tokens[kept].float() for image, kept in zip(images, rows, strict=True)]
    target = pad_sequence(
        [
            torch.tensor([words[image.names[row]] for row in kept.tolist()])
            for image, kept in zip(images, rows, strict=True)
        ],
        batch_first=True,
        padding_value=-1,
    )
    return Batch(
        pad_sequence(tokens, batch_first=True),
        torch.stack([image.memory for image in images]).float(),
        target < 0,
        _pad([i.pooled[r] for i, r in zip(images, rows, strict=True) if i.pooled is not None]),
        _pad([i.prior[r] for i, r in zip(images, rows, strict=True) if i.prior is not None]),
        _pad([i.taught[r] for i, r in zip(images, rows, strict=True) if i.taught is not None]),
        target,
    )


def _pad(rows: Sequence[torch.Tensor]) -> torch.Tensor | None:
    return pad_sequence(list(rows), batch_first=True).float() if rows else None


@dataclass(frozen=True)
class Reader:
    """Reads one process's part of any step.

    Attributes:
        sets: what the sampler draws from.
        words: of each of them.
        rank, processes: whose part.
    """

    recipe: Recipe
    sets: Sequence[TrainingSet]
    words: Sequence[Words]
    sampler: Sampler
    rank: int
    processes: int

    def read(self, step: int) -> list[Batch]:
        """The step's images in as many batches as the recipe accumulates."""
        positions = self.sampler.step(step, self.recipe.images_per_step, self.rank, self.processes)
        size = len(positions) // self.recipe.accumulate
        return [self._batch(positions[i : i + size]) for i in range(0, len(positions), size)]

    def ahead(self, first: int, last: int) -> Iterator[tuple[int, list[Batch]]]:
        """Steps from the first up to, not with, the last; the next is read during each."""
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.read, first)
            for step in range(first, last):
                batches = coming.result()
                if step + 1 < last:
                    coming = reader.submit(self.read, step + 1)
                yield step, batches

    def _batch(self, positions: range) -> Batch:
        images, rows, counted = [], [], []
        for position in positions:
            chosen, number = self.sampler[position]
            image = self.sets[chosen].features[number]
            generator = generator_of(self.recipe.seed, "regions", position)
            kept = _some_rows(len(image.names), self.recipe.region_dropout, generator)
            images.append(image)
            rows.append(kept)
            counted.append(self.words[chosen].counted(image, kept.tolist()))
        batch = collate(images, rows, dict(self.words[0].index))
        return replace(batch, counted=torch.cat(counted))


def _some_rows(count: int, dropout: float, generator: torch.Generator) -> torch.Tensor:
    share = 1 - dropout * torch.rand((), generator=generator).item()
    return torch.randperm(count, generator=generator)[: max(1, round(share * count))]
