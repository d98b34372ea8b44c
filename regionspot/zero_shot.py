"""Words that the head was not trained on, scored by the classes that the image tower knows.

A head that was trained on few words answers with those. For other words, the classes of a frozen
tower that saw many more say more: a word's row of the tower's classifier is made up as a mixture of
the rows of classes whose meanings are near to it (Changpinyo et al. 2016, "Synthesized classifiers
for zero-shot learning", arXiv 1603.00550), and a region's pooled feature is compared with that row.
F-VLM (Kuo et al. 2023, arXiv 2209.15639, section 3.3) keeps a frozen classifier beside a trained
one in like manner.

Axes: N regions, K words, S trained words, D text width, M the tower's classes, P pooled channels,
T token width, R directions.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn
from torch.nn import functional as F

from regionspot.scoring import cosines
from regionspot.types import Vocabulary

SHARPNESS = 12.0  # of the mixture of classes, on the cosine between word and class
WEIGHT = 1.1  # of the cosine with the made-up row, beside the cosine with the word
HEAD_START = 0.18  # of a new word, since a trained head leans to the words it was trained on
DOUBT = 0.57  # share of a new word's own cosine that is not believed
SAME_WORD = 1.0
OTHER_WORD = 0.4  # at this cosine with the nearest trained word and below, a word is another one
SHARE = 1 / 64  # of what is added to a region's embedding: too small to count in its length

EPSILON = 1e-6  # of a row's length, for a word that is as near to one class as to any other


@dataclass(frozen=True)
class Adaptation:
    """What the classifier has to be told of boxes; it was trained on pictures of one thing each.

    Attributes:
        usual: (P + T,) the mean look of the regions that a head was trained on. What regions have
            in common says nothing of their words.
        scale: (P + T,) what a look, less that mean, is multiplied with before it is read.
        reading: (P + T, R), how far that moves a region in some
        directions: (R, P) of the pooled features.
    """

    usual: torch.Tensor
    scale: torch.Tensor
    reading: torch.Tensor
    directions: torch.Tensor

    def __call__(self, looks: torch.Tensor) -> torch.Tensor:
        """What the classifier reads (N, P), of looks (N, P + T)."""
        told = self.scaled(looks) @ self.reading.to(looks.device)
        apart = (looks - self.usual.to(looks.device))[:, : self.directions.shape[1]]
        return apart + told @ self.directions.to(looks.device)

    def scaled(self, looks: torch.Tensor) -> torch.Tensor:
        """What is read (N, P + T) of looks of the same shape."""
        return (looks - self.usual.to(looks.device)) * self.scale.to(looks.device)

    def told_more(self, reading: torch.Tensor, directions: torch.Tensor) -> "Adaptation":
        """With what is read in some directions more."""
        return replace(
            self,
            reading=torch.cat([self.reading, reading], dim=1),
            directions=torch.cat([self.directions, directions]),
        )


@dataclass(frozen=True)
class UnseenWords:
    """Widens embeddings of words and regions by M + 1, so that one product still compares them.

    Attributes:
        classifier: the image tower's, of M classes on pooled features (N, P).
        classes: (M, D) unit embeddings of what these classes mean.
        trained: (S, D) unit embeddings of the words that the head was trained on.
        adaptation: of the classifier to boxes; None: it reads their pooled features as they are.
    """

    classifier: nn.Linear
    classes: torch.Tensor
    trained: torch.Tensor
    adaptation: Adaptation | None = None

    @property
    def width(self) -> int:
        """M + 1, by which embeddings are widened."""
        return len(self.classes) + 1

    def novelty(self, words: torch.Tensor) -> torch.Tensor:
        """(K,) from 0, a trained word, to 1, for unit embeddings (K, D)."""
        nearest = (words @ self.trained.T).amax(1)
        return ((SAME_WORD - nearest) / (SAME_WORD - OTHER_WORD)).clamp(0, 1)

    @torch.no_grad()
    def widen_words(self, vocabulary: Vocabulary) -> Vocabulary:
        """Words (K, D + M + 1): as far as they are new, less of their embedding, and their mixture
        of classes and head start beside it."""
        words = vocabulary.embedding
        scaled = WEIGHT * self._mixtures(words)
        novelty = self.novelty(words)[:, None]
        head_start = HEAD_START * novelty
        added = torch.cat([novelty * scaled, head_start], dim=1) / SHARE
        believed = (1 - DOUBT * novelty) * words
        embedding = torch.cat([believed, added], dim=1)
        return replace(vocabulary, embedding=embedding, head_start=head_start[:, 0])

    def widen_regions(self, embedding: torch.Tensor, looks: torch.Tensor) -> torch.Tensor:
        """Regions (N, D + M + 1), for embeddings (N, D) and looks (N, P + T).

        Gradients reach the embeddings.
        """
        read = self.adaptation(looks) if self.adaptation else looks[:, : self._rows.shape[1]]
        added = SHARE * F.pad(read @ self._rows.T, (0, 1), value=1.0)
        return torch.cat([F.normalize(embedding.float(), dim=-1), added], dim=1)

    def scored_rows(self, vocabulary: Vocabulary) -> torch.Tensor:
        """Rows (K, P) that a region's features are multiplied with, for widened words; of a trained
        word, zeros."""
        return SHARE * vocabulary.embedding[:, -self.width : -1] @ self._rows

    def word_rows(self, words: torch.Tensor) -> torch.Tensor:
        """Made-up rows (K, P) of the classifier, of length 1, for unit embeddings (K, D)."""
        return self._mixtures(words) @ self._rows.to(words.device)

    def _mixtures(self, words: torch.Tensor) -> torch.Tensor:
        """Weights (K, M) of the classes, with which the mixtures of their rows have length 1."""
        mixture = (SHARPNESS * words @ self.classes.T).softmax(1)
        length = (mixture @ self._rows.to(words.device)).norm(dim=1, keepdim=True)
        return torch.as_tensor(mixture / length.clamp_min(EPSILON))

    @cached_property
    def _rows(self) -> torch.Tensor:
        """The classifier (M, P), without what all classes share."""
        weight = self.classifier.weight.detach().float()
        return weight - weight.mean(0)


def looks_of(pooled: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Looks (N, P + T): pooled features (N, P), each normalised, and the localizer's tokens (N, T),
    which know a box's shape and its place."""
    return torch.cat([F.normalize(pooled.float(), dim=-1), tokens.float()], dim=1)


def widened(vocabulary: Vocabulary, unseen: UnseenWords | None) -> Vocabulary:
    """The words as a model compares them; as they are where it scores all words alike."""
    return unseen.widen_words(vocabulary) if unseen else vocabulary


def word_cosines(
    embedding: torch.Tensor,
    looks: torch.Tensor | None,
    vocabulary: Vocabulary,
    unseen: UnseenWords | None,
) -> torch.Tensor:
    """Cosines (N, K) of embeddings (N, D) with the words, as a model compares them.

    Args:
        looks: (N, P + T), where the encoder pools.
        vocabulary: as `widened` gives it.
    """
    if unseen and looks is not None:
        embedding = unseen.widen_regions(embedding, looks)
    return cosines(embedding, vocabulary)
