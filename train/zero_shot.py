"""Fits the low-rank adapter from region features to the image tower's classifier.

The training classes are scored as if they were unseen, by rows that are synthesized for them, and a
linear map of the region features is fitted to classify the training regions by these scores. Since
it maps to the inputs of all rows, it improves the scores of other classes too (a bilinear
compatibility function, as in Romera-Paredes & Torr 2015, "An embarrassingly simple approach to
zero-shot learning").

Axes: N regions, S seen classes, P pooled channels, T token width, R ranks.
"""

from collections.abc import Callable, Sequence

import torch

from regionspot.encoders import VisionLanguageEncoder
from regionspot.types import Vocabulary
from regionspot.zero_shot import FeatureAdapter, ZeroShotClassifier
from train.batch import LabelSpace
from train.losses import class_frequency, class_weights, softmax_loss
from train.sampler import TrainingSet

MAX_IMAGES = 6000  # of more images so many are read, evenly spread over all data sets
LOGIT_SCALE = 30.0
RIDGE = 0.03  # weight of the squared norm of the map
TOKEN_LENGTH = 0.5  # of a token of average length; a pooled feature has length 1
ITERATIONS = 40

EPSILON = 1e-6  # of a token channel's standard deviation


def fit_encoder_adapter(
    sets: Sequence[TrainingSet], vocabulary: Vocabulary, encoder: VisionLanguageEncoder
) -> FeatureAdapter | None:
    """The adapter of an encoder's own classifier; None for an encoder without one."""
    if encoder.pooler is None:
        return None
    classifier = encoder.pooler.zero_shot(vocabulary.embedding, None)
    return fit_adapter(sets, vocabulary, classifier)


def fit_adapter(
    sets: Sequence[TrainingSet], vocabulary: Vocabulary, classifier: ZeroShotClassifier
) -> FeatureAdapter:
    """Softmax regression on region features, with the same weight for each class.

    The loss is convex, so the result does not depend on a seed.

    Args:
        sets: with the features of an encoder that pools.
        vocabulary: the training classes, of all data sets.
        classifier: without an adapter.
    """
    features, target, loss_mask = _regions(sets, vocabulary)
    rows = classifier.synthesized_rows(vocabulary.embedding)  # (S, P)
    identity = identity_adapter(features, rows.shape[1])
    up = torch.linalg.svd(rows, full_matrices=False).Vh  # (R, P); no other can change the loss
    scores, up_to_scores, inputs = (
        identity(features) @ rows.T,
        up @ rows.T,
        identity.scaled(features),
    )
    weights = class_weights(class_frequency(sets, vocabulary), balance=1.0)
    total = weights[target].sum()

    def loss(down: torch.Tensor) -> torch.Tensor:
        logits = LOGIT_SCALE * (scores + inputs @ down @ up_to_scores)  # (N, S)
        return softmax_loss(logits, target, loss_mask, weights, smoothing=0.0).sum() / total

    return identity.extended(fit_down(features.shape[1], up, loss), up)


def fit_down(
    width: int, up: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The projection `down` (P + T, R) of minimal loss and squared norm, for `up` (R, P)."""
    down = torch.zeros(width, len(up), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [down], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(down) + RIDGE * down.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return down.detach()


def identity_adapter(features: torch.Tensor, channels: int) -> FeatureAdapter:
    """An adapter of rank 0 with mean and scale of region features (N, P + T)."""
    deviation = features[:, channels:].std(0, correction=0).clamp_min(EPSILON)  # (T,)
    token_scale = TOKEN_LENGTH / (len(deviation) ** 0.5 * deviation)
    return FeatureAdapter(
        features.mean(0),
        torch.cat([torch.ones(channels), token_scale]),
        torch.zeros(features.shape[1], 0),
        torch.zeros(0, channels),
    )


def _regions(
    sets: Sequence[TrainingSet], vocabulary: Vocabulary
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Region features (N, P + T), targets (N,) and loss mask (N, S), as in the head's loss."""
    stride = -(-sum(map(len, sets)) // MAX_IMAGES)
    features, masks = [], []
    target: list[int] = []
    for data in sets:
        space = LabelSpace.of(data.classes, data.ancestors, vocabulary)
        for image in data.features[::stride]:
            assert image.region_features is not None
            features.append(image.region_features)
            target.extend(space.index[name] for name in image.names)
            masks.append(space.loss_mask(image, range(len(image.names))))
    return torch.cat(features), torch.tensor(target), torch.cat(masks)
