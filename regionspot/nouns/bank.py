"""The presence of words: the evidence for each, compared with that for common nouns.

A softmax over the asked words cannot tell that a box shows none of them. So the evidence for a word
is compared with that for a fixed bank of about 2,000 common nouns. Nouns that mean the same as the
word, or something above or below it in WordNet's hierarchy, are no evidence against it, and those
that are a kind of it are evidence for it: of "animal" each dog, cat and bird (as hierarchical
classifiers sum up probabilities: Deng et al. 2012, "Hedging your bets").

Axes: N regions, K words, B nouns of the bank, D text width.
"""

from dataclasses import dataclass

import torch

from regionspot.nouns.wordnet import noun_hierarchy
from regionspot.types import NounBank, Vocabulary

NEAR = 0.6  # cosine of texts from which a noun is no evidence against a word

TINY = 1e-30  # of a sum of probabilities, so that its logarithm is finite


@dataclass(frozen=True)
class PresenceConstants:
    """Log odds of presence: (slope + novelty_slope * n) * evidence + bias + novelty_bias * n, where
    n is the novelty of the word: evidence counts less for one far from the training."""

    slope: float
    bias: float
    novelty_bias: float
    novelty_slope: float


FITTED = PresenceConstants(  # by `train fit-presence`
    slope=0.95, bias=2.43, novelty_bias=-2.80, novelty_slope=-0.38
)


def noun_bank(nouns: Vocabulary, words: Vocabulary) -> NounBank:
    """The bank of nouns (B) as words (K) are compared with it.

    Args:
        nouns: embedded by the same model, in the order of `noun_hierarchy().names`.
        words: of the model.
    """
    kinds = torch.zeros(len(words), len(nouns))
    against = (words.embedding @ nouns.embedding.T < NEAR).float()  # (K, B)
    for row, strings in enumerate(words.strings):
        relations = noun_hierarchy().relations(strings)
        kinds[row, list(relations.kinds)] = 1
        against[row, list(relations.kinds | relations.others)] = 0
    return NounBank(nouns, kinds, against)


def evidence(logits: torch.Tensor, noun_logits: torch.Tensor, bank: NounBank) -> torch.Tensor:
    """Log odds (N, K) of each word, or a kind of it, and the nouns that speak against it.

    Args:
        logits: (N, K) of the words, on the scale of a softmax.
        noun_logits: (N, B) of the bank's nouns, likewise.
        bank: as the words are compared with it.
    """
    highest = noun_logits.detach().amax(1, keepdim=True)  # (N, 1)
    weights = (noun_logits - highest).exp()  # (N, B)
    kinds, against = (
        (weights @ mask.to(logits.device).T).clamp_min(TINY).log()
        for mask in (bank.kinds, bank.against)
    )  # (N, K) each
    return torch.logaddexp(logits - highest, kinds) - against


def bank_presence(
    evidence: torch.Tensor, novelty: torch.Tensor, constants: PresenceConstants = FITTED
) -> torch.Tensor:
    """Presence (N, K) of words, from the evidence (N, K) for them and their novelty (K,)."""
    novelty = novelty.to(evidence.device)
    slope = constants.slope + constants.novelty_slope * novelty
    return torch.sigmoid(slope * evidence + constants.bias + constants.novelty_bias * novelty)
