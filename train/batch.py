"""Images as padded batches, read ahead of the step that needs them.

Axes: B images, N regions, R regions of all images of a batch, L map tokens, K classes, C map width,
P pooled channels, T token width, D text width.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from regionspot.types import Vocabulary
from train.config import Recipe
from train.features.cache import ImageFeatures
from train.sampler import Sampler, TrainingSet, generator_of


@dataclass(frozen=True)
class LabelSpace:
    """The classes of one data set among the K classes of all data sets.

    Attributes:
        index: column of each of the K classes.
        label_space: (K,) bool, the classes that this data set annotates.
        ancestors: by a class's column, the columns of its ancestors.
    """

    index: Mapping[str, int]
    label_space: torch.Tensor
    ancestors: Mapping[int, torch.Tensor]

    @classmethod
    def of(
        cls,
        classes: Sequence[str],
        ancestors: Mapping[str, frozenset[str]],
        vocabulary: Vocabulary,
    ) -> "LabelSpace":
        """The label space of annotated classes and their ancestors, in a vocabulary of K."""
        index = {name: column for column, name in enumerate(vocabulary.names)}
        columns = {
            index[name]: _columns(others, index)
            for name, others in ancestors.items()
            if name in index
        }
        return cls(index, _one_hot(classes, index), columns)

    def loss_mask(self, image: ImageFeatures, rows: Sequence[int]) -> torch.Tensor:
        """Loss mask (N, K) of these regions of an image.

        False where a class is not annotated in the image or is an ancestor of the target class; the
        target class itself is always True.
        """
        annotated = self.label_space
        if image.verified is not None:
            annotated = annotated & _one_hot(image.verified, self.index)
        mask = annotated.repeat(len(rows), 1)  # (N, K)
        for row, name in zip(mask, (image.names[r] for r in rows), strict=True):
            target = self.index[name]
            if target in self.ancestors:
                row[self.ancestors[target]] = False
            row[target] = True
        return mask


def _columns(names: Sequence[str] | frozenset[str], index: Mapping[str, int]) -> torch.Tensor:
    return torch.tensor(sorted(index[n] for n in names if n in index), dtype=torch.int64)


def _one_hot(names: Sequence[str] | frozenset[str], index: Mapping[str, int]) -> torch.Tensor:
    chosen = torch.zeros(len(index), dtype=torch.bool)
    chosen[_columns(names, index)] = True
    return chosen


@dataclass(frozen=True)
class Batch:
    """Padded features of B images, float32 where they are no bool and no index.

    Attributes:
        tokens: (B, N, T) of the localizer.
        memory: (B, L, C) of the encoder.
        padding: (B, N) True where a row is no region.
        pooled: (B, N, P) box-pooled features, where the encoder pools.
        prior: (B, N, D) embeddings by the encoder's own classes, where the encoder pools.
        teacher_embedding: (B, N, D) for distillation.
        target: (B, N) column of each region's class, -1 where a row is no region.
        loss_mask: (R, K) as `LabelSpace.loss_mask`; None outside training.
    """

    tokens: torch.Tensor
    memory: torch.Tensor
    padding: torch.Tensor
    pooled: torch.Tensor | None
    prior: torch.Tensor | None
    teacher_embedding: torch.Tensor | None
    target: torch.Tensor
    loss_mask: torch.Tensor | None = None

    def embed(self, head: nn.Module) -> torch.Tensor:
        """The head's region embeddings (B, N, D), on the head's device."""
        here = self.to(next(head.parameters()).device)
        result: torch.Tensor = head(here.tokens, here.memory, here.padding, here.pooled, here.prior)
        return result

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        tensors: dict[str, torch.Tensor | None] = vars(self)
        moved: dict[str, Any] = {k: v if v is None else v.to(device) for k, v in tensors.items()}
        return Batch(**moved)


def collate(
    images: Sequence[ImageFeatures], rows: Sequence[torch.Tensor], index: Mapping[str, int]
) -> Batch:
    """Pad images to one batch of B images.

    Args:
        images: B images.
        rows: for each image the regions to take, int64 (N,).
        index: column of each class name.
    """
    pairs = list(zip(images, rows, strict=True))
    target = pad_sequence(
        [torch.tensor([index[image.names[row]] for row in kept.tolist()]) for image, kept in pairs],
        batch_first=True,
        padding_value=-1,
    )  # (B, N)
    return Batch(
        pad_sequence([image.tokens[kept].float() for image, kept in pairs], batch_first=True),
        torch.stack([image.memory for image in images]).float(),
        target < 0,
        _pad([image.pooled[kept] for image, kept in pairs if image.pooled is not None]),
        _pad([image.prior[kept] for image, kept in pairs if image.prior is not None]),
        _pad([i.teacher_embedding[kept] for i, kept in pairs if i.teacher_embedding is not None]),
        target,
    )


def _pad(rows: Sequence[torch.Tensor]) -> torch.Tensor | None:
    return pad_sequence(list(rows), batch_first=True).float() if rows else None  # (B, N, ...)


@dataclass(frozen=True)
class Reader:
    """Reads one process's part of any step.

    Attributes:
        sets: data sets that the sampler draws from.
        label_spaces: of each data set.
        rank: of the process.
        processes: number of processes.
    """

    recipe: Recipe
    sets: Sequence[TrainingSet]
    label_spaces: Sequence[LabelSpace]
    sampler: Sampler
    rank: int
    processes: int

    def read(self, step: int) -> list[Batch]:
        """The step's images in as many batches as the recipe accumulates."""
        positions = self.sampler.step(step, self.recipe.images_per_step, self.rank, self.processes)
        size = len(positions) // self.recipe.accumulate
        return [self._batch(positions[i : i + size]) for i in range(0, len(positions), size)]

    def prefetched(self, first: int, last: int) -> Iterator[list[Batch]]:
        """The batches of steps from the first up to the last, exclusive, one step ahead."""
        with ThreadPoolExecutor(1) as reader:
            pending = reader.submit(self.read, first)
            for step in range(first, last):
                batches = pending.result()
                if step + 1 < last:
                    pending = reader.submit(self.read, step + 1)
                yield batches

    def _batch(self, positions: range) -> Batch:
        images, rows, masks = [], [], []
        for position in positions:
            chosen, number = self.sampler[position]
            image = self.sets[chosen].features[number]
            generator = generator_of(self.recipe.seed, "regions", position)
            kept = _sampled_rows(len(image.names), self.recipe.region_dropout, generator)
            images.append(image)
            rows.append(kept)
            masks.append(self.label_spaces[chosen].loss_mask(image, kept.tolist()))
        batch = collate(images, rows, self.label_spaces[0].index)
        return replace(batch, loss_mask=torch.cat(masks))  # (R, K)


def _sampled_rows(count: int, dropout: float, generator: torch.Generator) -> torch.Tensor:
    fraction = 1 - dropout * torch.rand((), generator=generator).item()
    return torch.randperm(count, generator=generator)[: max(1, round(fraction * count))]
