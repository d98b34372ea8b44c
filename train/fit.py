"""The training loop over cached features.

Axes: B images, N regions, L map tokens, K words.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from regionspot.device import fast_dtype
from regionspot.head import RegionHead
from regionspot.types import Vocabulary
from train.features import ImageFeatures
from train.recipes import Recipe

OnEpoch = Callable[[int, float, RegionHead], None]


@dataclass(frozen=True)
class Batch:
    """Padded features of B images; `target` is -1 where a row is no region."""

    tokens: torch.Tensor
    memory: torch.Tensor
    padding: torch.Tensor
    pooled: torch.Tensor | None
    prior: torch.Tensor | None
    target: torch.Tensor

    def embed(self, head: RegionHead) -> torch.Tensor:
        """The head's region embeddings (B, N, D)."""
        result: torch.Tensor = head(self.tokens, self.memory, self.padding, self.pooled, self.prior)
        return result


def fit(
    recipe: Recipe,
    images: Sequence[ImageFeatures],
    vocabulary: Vocabulary,
    on_epoch: OnEpoch = lambda epoch, loss, head: None,
) -> RegionHead:
    """Train a head from seeded weights.

    Args:
        vocabulary: the words of the data set; every region's name is one of them.
        on_epoch: told the epoch from 1, its mean loss and the head in evaluation mode.

    Raises:
        FloatingPointError: the loss is not finite; nothing was stepped.
    """
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    head = RegionHead(recipe.model.head)
    weights = word_weights(images, vocabulary, recipe.balance)
    optimizer = torch.optim.AdamW(
        head.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * math.ceil(len(images) / recipe.images_per_step)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, steps, pct_start=recipe.warmup
    )
    for epoch in range(1, recipe.epochs + 1):
        head.train()
        losses = []
        for batch in _shuffled(images, vocabulary, recipe, generator):
            loss = contrastive_loss(batch, head, vocabulary, weights, recipe)
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is {loss.item()} in epoch {epoch}; lower the learning rate "
                    f"({recipe.learning_rate}) or look for broken features"
                )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(head.parameters(), recipe.gradient_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        on_epoch(epoch, sum(losses) / len(losses), head.eval())
    return head.eval().requires_grad_(False)


def contrastive_loss(
    batch: Batch,
    head: RegionHead,
    vocabulary: Vocabulary,
    weights: torch.Tensor,
    recipe: Recipe,
) -> torch.Tensor:
    """Cross-entropy of the regions' softmax over the vocabulary."""
    device = batch.tokens.device
    precision = fast_dtype(device)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        embedding = batch.embed(head)
    regions = F.normalize(embedding[batch.target >= 0].float(), dim=-1)
    logits = recipe.logit_scale * regions @ vocabulary.embedding.T
    return F.cross_entropy(
        logits,
        batch.target[batch.target >= 0],
        weights,
        label_smoothing=recipe.label_smoothing,
    )


def word_weights(
    images: Sequence[ImageFeatures], vocabulary: Vocabulary, balance: float
) -> torch.Tensor:
    """A weight (K,) for each word, 1 on average over the regions."""
    counts = Counter(name for image in images for name in image.names)
    frequency = torch.tensor([counts[name] for name in vocabulary.names], dtype=torch.float32)
    weights = frequency.clamp(min=1) ** -balance
    return weights * frequency.sum() / (weights * frequency).sum()


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
        target,
    )


def _pad(rows: Sequence[torch.Tensor]) -> torch.Tensor | None:
    return pad_sequence(list(rows), batch_first=True).float() if rows else None


def _shuffled(
    images: Sequence[ImageFeatures],
    vocabulary: Vocabulary,
    recipe: Recipe,
    generator: torch.Generator,
) -> Iterator[Batch]:
    words = {name: i for i, name in enumerate(vocabulary.names)}
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, len(images), recipe.images_per_step):
        chosen = order[start : start + recipe.images_per_step]
        batch = [images[i] for i in chosen.tolist()]
        rows = [_some_rows(len(i.names), recipe.region_dropout, generator) for i in batch]
        yield collate(batch, rows, words)


def _some_rows(count: int, dropout: float, generator: torch.Generator) -> torch.Tensor:
    share = 1 - dropout * torch.rand((), generator=generator).item()
    return torch.randperm(count, generator=generator)[: max(1, round(share * count))]
