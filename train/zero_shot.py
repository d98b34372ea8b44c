"""Fits the adapter of the image tower's classifier to boxes, for classes unseen in training.

The seen classes are scored as if they were unseen, by synthesized rows of the classifier, and a
linear map of region features is fitted that makes these scores right. As it maps to the space of
the rows, it also moves the scores of unseen classes (a bilinear compatibility of features and rows,
as in Romera-Paredes & Torr 2015, "An embarrassingly simple approach to zero-shot learning").

Axes: N regions, S seen classes, P pooled channels, T token width, R rank of the adapter.
"""

from collections.abc import Callable, Sequence

import torch

from regionspot.types import Vocabulary
from regionspot.zero_shot import FeatureAdapter, ZeroShotClassifier
from train.losses import Words, softmax_loss, word_weights
from train.sampler import TrainingSet

MOST_IMAGES = 6000  # of many images so many are read, spread over all data sets
LOGIT_SCALE = 30.0
L2_WEIGHT = 0.03  # of the squares of the projection `down`
TOKEN_LENGTH = 0.5  # root mean square length of scaled tokens; a pooled feature has length 1
ITERATIONS = 40

EPSILON = 1e-6  # of a token channel's deviation


def fit_adapter(
    sets: Sequence[TrainingSet], vocabulary: Vocabulary, zero_shot: ZeroShotClassifier
) -> FeatureAdapter:
    """Softmax regression on region features, in which all classes weigh the same.

    The loss is convex, and the result does not depend on a seed.

    Args:
        sets: of an encoder that pools.
        vocabulary: the seen classes, of all data sets.
        zero_shot: of the same classes, without an adapter.
    """
    features, target, counted = _regions(sets, vocabulary)
    rows = zero_shot.synthesized_rows(vocabulary.embedding)  # (S, P)
    start = identity_adapter(features, rows.shape[1])
    up = torch.linalg.svd(rows, full_matrices=False).Vh  # (R, P); no other can change the loss
    plain, along, scaled = start(features) @ rows.T, up @ rows.T, start.scaled(features)
    weights = word_weights(sets, vocabulary, balance=1.0)
    total = weights[target].sum()

    def loss(down: torch.Tensor) -> torch.Tensor:
        logits = LOGIT_SCALE * (plain + scaled @ down @ along)  # (N, S)
        return softmax_loss(logits, target, counted, weights, smoothing=0.0).sum() / total

    return start.extended(fit_projection(features.shape[1], up, loss), up)


def fit_projection(
    width: int, up: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The projection `down` (P + T, R) of the least loss and squares, for `up` (R, P)."""
    down = torch.zeros(width, len(up), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [down], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(down) + L2_WEIGHT * down.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return down.detach()


def identity_adapter(features: torch.Tensor, channels: int) -> FeatureAdapter:
    """An adapter of rank 0 with the mean and the scales of region features (N, P + T)."""
    deviation = features[:, channels:].std(0, correction=0).clamp_min(EPSILON)
    of_tokens = TOKEN_LENGTH / (len(deviation) ** 0.5 * deviation)
    return FeatureAdapter(
        features.mean(0),
        torch.cat([torch.ones(channels), of_tokens]),
        torch.zeros(features.shape[1], 0),
        torch.zeros(0, channels),
    )


def _regions(
    sets: Sequence[TrainingSet], vocabulary: Vocabulary
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Region features (N, P + T), classes (N,), and the loss mask (N, S) as of the head's loss."""
    stride = -(-sum(map(len, sets)) // MOST_IMAGES)
    features, counted = [], []
    target: list[int] = []
    for data in sets:
        words = Words.of(data, vocabulary)
        for image in data.features[::stride]:
            assert image.region_features is not None
            features.append(image.region_features)
            target.extend(words.index[name] for name in image.names)
            counted.append(words.counted(image, range(len(image.names))))
    return torch.cat(features), torch.tensor(target), torch.cat(counted)
