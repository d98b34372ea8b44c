"""Fits what the image tower's classifier has to be told of boxes, for words unseen in training.

The trained words are scored as if they were new, by rows that are made up for them, and a linear
map of what a region looks like is fitted that makes these scores right. As it leads to the space
of the rows, it moves the scores of other words along (a bilinear compatibility of looks and rows,
as in Romera-Paredes & Torr 2015, "An embarrassingly simple approach to zero-shot learning").

Axes: N regions, S trained words, P pooled channels, T token width, R directions.
"""

from collections.abc import Callable, Sequence

import torch

from regionspot.types import Vocabulary
from regionspot.zero_shot import Adaptation, UnseenWords
from train.losses import Words, softmax_loss, word_weights
from train.sampler import TrainingSet

MOST_IMAGES = 6000  # of many images so many are read, spread over all data sets
LOGIT_SCALE = 30.0
SHRINK = 0.03  # weight of the squares of the map
TOKEN_LENGTH = 0.5  # of a usual token; a pooled feature has length 1
ITERATIONS = 40

EPSILON = 1e-6  # of a token channel's deviation


def fit_adaptation(
    sets: Sequence[TrainingSet], vocabulary: Vocabulary, unseen: UnseenWords
) -> Adaptation:
    """Softmax regression on the looks of regions, in which all words weigh the same.

    The loss is convex, and the result does not hang on a seed.

    Args:
        sets: of an encoder that pools.
        vocabulary: the trained words, of all data sets.
        unseen: of the same words, without an adaptation.
    """
    looks, target, counted = _regions(sets, vocabulary)
    rows = unseen.word_rows(vocabulary.embedding)
    start = _nothing_told(looks, rows.shape[1])
    directions = torch.linalg.svd(rows, full_matrices=False).Vh  # no other can change the loss
    plain, along, read = start(looks) @ rows.T, directions @ rows.T, start.scaled(looks)
    weights = word_weights(sets, vocabulary, balance=1.0)
    total = weights[target].sum()

    def loss(reading: torch.Tensor) -> torch.Tensor:
        logits = LOGIT_SCALE * (plain + read @ reading @ along)
        return softmax_loss(logits, target, counted, weights, smoothing=0.0).sum() / total

    return start.told_more(fit_reading(looks.shape[1], directions, loss), directions)


def fit_reading(
    width: int, directions: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The reading (P + T, R) of the least loss and squares, for directions (R, P)."""
    reading = torch.zeros(width, len(directions), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [reading], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(reading) + SHRINK * reading.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return reading.detach()


def _nothing_told(looks: torch.Tensor, channels: int) -> Adaptation:
    """The mean and the sizes of looks (N, P + T) alone."""
    deviation = looks[:, channels:].std(0, correction=0).clamp_min(EPSILON)
    of_tokens = TOKEN_LENGTH / (len(deviation) ** 0.5 * deviation)
    return Adaptation(
        looks.mean(0),
        torch.cat([torch.ones(channels), of_tokens]),
        torch.zeros(looks.shape[1], 0),
        torch.zeros(0, channels),
    )


def _regions(
    sets: Sequence[TrainingSet], vocabulary: Vocabulary
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Looks (N, P + T), words (N,), and which words count (N, S), as in the head's own loss."""
    apart = -(-sum(map(len, sets)) // MOST_IMAGES)
    looks, counted = [], []
    target: list[int] = []
    for data in sets:
        words = Words.of(data, vocabulary)
        for image in data.features[::apart]:
            assert image.looks is not None
            looks.append(image.looks)
            target.extend(words.index[name] for name in image.names)
            counted.append(words.counted(image, range(len(image.names))))
    return torch.cat(looks), torch.tensor(target), torch.cat(counted)
