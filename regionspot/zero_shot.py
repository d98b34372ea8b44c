"""Classes that the head was not trained on, scored by the classifier of a frozen image tower.

A head that was trained on few classes prefers these. For an unseen class, a row is synthesized for
the classifier of a tower that was trained on many more classes, as a mixture of the rows of classes
of near meaning (Changpinyo et al. 2016, "Synthesized classifiers for zero-shot learning", arXiv
1603.00550), and multiplied with a region's pooled feature. F-VLM (Kuo et al. 2023, arXiv
2209.15639, section 3.3) combines a frozen and a trained classifier likewise.

`regionspot.scoring.class_scores` adds up the terms.

Axes: N regions, K classes of a vocabulary, S seen classes (those of the training), D text width,
M classes of the tower, P pooled channels, T token channels, R rank of the adapter.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn
from torch.nn import functional as F

from regionspot.types import Vocabulary, ZeroShotClasses

CLASSIFIER_WEIGHT = 1.1  # of the tower's classifier in an unseen class's score
SEEN_DISCOUNT = 0.57  # by which an unseen class's cosine counts less: the head prefers seen ones
UNSEEN_BIAS = 0.18  # added to unseen classes (calibrated stacking, Chao et al. 2016)

SHARPNESS = 12.0  # of the softmax over the tower's classes, on the cosine of meanings
SEEN_COSINE = 1.0  # with the nearest seen class, at which a class has novelty 0
UNSEEN_COSINE = 0.4  # likewise, at which it has novelty 1

EPSILON = 1e-6  # of a row's length, for a class as near to one of the tower's as to any other


@dataclass(frozen=True)
class FeatureAdapter:
    """Low-rank linear adapter from region features to the inputs of the image tower's classifier,
    which was trained on object-centred images.

    Attributes:
        mean: (P + T,) of the region features that the head was trained on.
        scale: (P + T,) by which centred features are multiplied before the projection `down`.
        down: (P + T, R) projection of the scaled features to the adapter's rank.
        up: (R, P) projection back to pooled channels, added to the centred pooled features.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    down: torch.Tensor
    up: torch.Tensor

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Inputs of the classifier (N, P), from region features (N, P + T)."""
        device = features.device
        centred = (features - self.mean.to(device))[:, : self.up.shape[1]]  # (N, P)
        return centred + self.scaled(features) @ self.down.to(device) @ self.up.to(device)

    def scaled(self, features: torch.Tensor) -> torch.Tensor:
        """Region features (N, P + T), centred and scaled as `down` takes them."""
        return (features - self.mean.to(features.device)) * self.scale.to(features.device)

    def extended(self, down: torch.Tensor, up: torch.Tensor) -> "FeatureAdapter":
        """With more ranks: `down` (P + T, R'), `up` (R', P)."""
        return replace(self, down=torch.cat([self.down, down], dim=1), up=torch.cat([self.up, up]))


@dataclass(frozen=True)
class ZeroShotClassifier:
    """The frozen image tower's classifier, for classes that the head was not trained on.

    Attributes:
        classifier: linear, from pooled features (N, P) to M classes.
        meanings: (M, D) L2-normalised embeddings of these classes.
        seen: (S, D) L2-normalised embeddings of the classes that the head was trained on.
        adapter: of region features to the classifier; None: it takes pooled features as they are.
    """

    classifier: nn.Linear
    meanings: torch.Tensor
    seen: torch.Tensor
    adapter: FeatureAdapter | None = None

    def extend(self, vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary with its zero-shot part."""
        words = vocabulary.embedding
        classes = ZeroShotClasses(self.novelty(words), self._mixture(words), self.seen)
        return replace(vocabulary, zero_shot=classes)

    def novelty(self, words: torch.Tensor) -> torch.Tensor:
        """(K,) in [0, 1] for unit embeddings (K, D): 0 for a seen class, 1 for one far from all."""
        nearest = (words @ self.seen.T).amax(1)
        return ((SEEN_COSINE - nearest) / (SEEN_COSINE - UNSEEN_COSINE)).clamp(0, 1)

    def class_logits(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, M) of the tower's classes, without bias, for region features (N, P + T)."""
        adapted = self.adapter(features) if self.adapter else features[:, : self._rows.shape[1]]
        return adapted @ self._rows.T

    def synthesized_rows(self, words: torch.Tensor) -> torch.Tensor:
        """Unit rows (K, P) of a classifier, for unit embeddings (K, D) of its classes."""
        return self._mixture(words) @ self._rows.to(words.device)

    def weighted_rows(self, classes: ZeroShotClasses) -> torch.Tensor:
        """Rows (K, P) whose product with adapted features is the zero-shot term of the scores."""
        return CLASSIFIER_WEIGHT * classes.novelty[:, None] * classes.mixture @ self._rows

    @torch.no_grad()
    def _mixture(self, words: torch.Tensor) -> torch.Tensor:
        """(K, M) weights of the tower's classes, scaled so that the mixed rows have length 1."""
        mixture = (SHARPNESS * words @ self.meanings.T).softmax(1)
        length = (mixture @ self._rows.to(words.device)).norm(dim=1, keepdim=True)
        return torch.as_tensor(mixture / length.clamp_min(EPSILON))

    @cached_property
    def _rows(self) -> torch.Tensor:
        """(M, P) the classifier's weight, less the mean over its classes."""
        weight = self.classifier.weight.detach().float()
        return weight - weight.mean(0)


def region_features(pooled: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(N, P + T): L2-normalised pooled features (N, P), concatenated with the localizer's tokens
    (N, T), which encode a box's size and position."""
    return torch.cat([F.normalize(pooled.float(), dim=-1), tokens.float()], dim=1)
