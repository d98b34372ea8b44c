"""From cosines between regions and words to scores."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from regionspot.types import Vocabulary


@dataclass(frozen=True)
class Scoring:
    """How cosines become scores.

    Attributes:
        logit_scale: of the softmax over the vocabulary (paper, equation 3).
        presence_scale, presence_bias: of the sigmoid that judges each word for itself.
    """

    logit_scale: float
    presence_scale: float
    presence_bias: float

    @classmethod
    def of_encoder(cls, logit_scale: float) -> "Scoring":
        """The paper's: the encoder's logit scale, also in the sigmoid of the focal loss."""
        return cls(logit_scale, logit_scale, 0.0)


def cosines(embedding: torch.Tensor, vocabulary: Vocabulary) -> torch.Tensor:
    """Cosines (N, K) of region embeddings (N, D) with the words, in float32."""
    words = vocabulary.embedding.to(embedding.device)
    return F.normalize(embedding.float(), dim=-1) @ words.T


def word_shares(cosine: torch.Tensor, scoring: Scoring) -> torch.Tensor:
    """Softmax over the vocabulary: rows of (N, K) that add up to 1."""
    return (cosine * scoring.logit_scale).softmax(-1)


def presence(cosine: torch.Tensor, vocabulary: Vocabulary, scoring: Scoring) -> torch.Tensor:
    """Sigmoid of each cosine (N, K) alone, which does not depend on the other words asked for."""
    if vocabulary.head_start is not None:
        cosine = cosine - vocabulary.head_start.to(cosine.device)
    return torch.sigmoid(cosine * scoring.presence_scale + scoring.presence_bias)
