"""Words that the head was not trained on, scored by the classes that the image tower knows.

A head that was trained on few words answers with those. For other words, the classes of a frozen
tower that saw many more say more: a word is written as a mixture of classes whose names are near to
it, and a region gets the mixture's probability. Zhang et al. 2013 ("ConSE") and F-VLM (Kuo et al.
2023, arXiv 2209.15639, section 3.3) keep a frozen classifier beside a trained one in like manner.

Axes: N regions, K words, S trained words, D text width, M the tower's classes, P pooled channels.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from regionspot.types import Vocabulary

SHARPNESS = 12.0  # of the mixture of classes, on the cosine between word and class name
WEIGHT = 8.0  # of a word's mixture beside its cosine
SAME_WORD = 1.0
OTHER_WORD = 0.7  # at this cosine with the nearest trained word and below, a word is another one
SHARE = 1 / 64  # of the classes in a region's embedding: too small to count in its length


@dataclass(frozen=True)
class UnseenWords:
    """Widens embeddings of words and regions by M, so that one product still compares them.

    Attributes:
        classifier: from pooled features (N, P) to logits (N, M) of the image tower's classes.
        classes: (M, D) unit embeddings of the names of these classes.
        trained: (S, D) unit embeddings of the words that the head was trained on.
    """

    classifier: nn.Module
    classes: torch.Tensor
    trained: torch.Tensor

    def novelty(self, words: torch.Tensor) -> torch.Tensor:
        """(K,) from 0, a trained word, to 1, for unit embeddings (K, D)."""
        nearest = (words @ self.trained.T).amax(1)
        return ((SAME_WORD - nearest) / (SAME_WORD - OTHER_WORD)).clamp(0, 1)

    def widen_words(self, vocabulary: Vocabulary) -> Vocabulary:
        """Words (K, D + M): their embedding, and their mixture of classes if they are new."""
        words = vocabulary.embedding
        mixture = (SHARPNESS * words @ self.classes.T).softmax(1)
        added = WEIGHT / SHARE * self.novelty(words)[:, None] * mixture
        return replace(vocabulary, embedding=torch.cat([words, added], dim=1))

    @torch.inference_mode()
    def widen_regions(self, embedding: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """Regions (N, D + M), for embeddings (N, D) and pooled features (N, P)."""
        probabilities = self.classifier(pooled.float()).softmax(1)
        return torch.cat([F.normalize(embedding.float(), dim=-1), SHARE * probabilities], dim=1)
