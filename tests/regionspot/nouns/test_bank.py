"""Presence: the evidence for words compared with that for nouns."""

import pytest
import torch

from regionspot.nouns.bank import bank_presence, evidence
from regionspot.types import NounBank, Vocabulary

NOUNS = Vocabulary(("dog", "cat", "chair"), torch.eye(3))
# words: "animal", "dog", "car"
BANK = NounBank(
    NOUNS,
    kinds=torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    against=torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]),
)


def test_evidence_is_the_log_odds_of_a_word_and_its_kinds() -> None:
    word, noun = torch.randn(4, 3), torch.randn(4, 3)
    found = evidence(word, noun, BANK)
    animal, dog, car = word.exp().unbind(1)
    nouns = noun.exp()
    expected = [
        (animal + nouns[:, 0] + nouns[:, 1]) / nouns[:, 2],
        (dog + nouns[:, 0]) / nouns[:, 1:].sum(1),
        car / nouns.sum(1),
    ]
    torch.testing.assert_close(found, torch.stack(expected, 1).log())


def test_evidence_is_finite_where_one_noun_is_all() -> None:
    noun = torch.tensor([[400.0, -400.0, -400.0]])
    found = evidence(torch.zeros(1, 3), noun, BANK)
    assert found.isfinite().all()
    assert found[0, 0] > 0 > found[0, 2]


def test_a_coarse_word_is_present_where_a_kind_of_it_is() -> None:
    noun = torch.tensor([[0.0, 8.0, 0.0]])  # a cat
    animal, dog, car = bank_presence(evidence(torch.zeros(1, 3), noun, BANK), torch.ones(3))[0]
    assert animal > 0.5 > max(dog, car)


def test_an_unfamiliar_word_needs_more_evidence() -> None:
    found = bank_presence(torch.zeros(1, 2), torch.tensor([0.0, 1.0]))
    assert found[0, 0] > found[0, 1]


def test_gradients_reach_words_and_nouns() -> None:
    word, noun = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    torch.autograd.backward(bank_presence(evidence(word, noun, BANK), torch.ones(3)).sum())
    for each in (word, noun):
        assert each.grad is not None
        assert each.grad.abs().sum() > 0


def test_some_words_keep_their_nouns() -> None:
    vocabulary = Vocabulary(("animal", "dog", "car"), torch.eye(3), bank=BANK)
    kept = vocabulary.only(["car", "animal"]).bank
    assert kept is not None
    assert torch.equal(kept.kinds, BANK.kinds[[2, 0]])
    assert torch.equal(kept.against, BANK.against[[2, 0]])
    assert kept.nouns is NOUNS


@pytest.mark.parametrize("words", [1, 3])
def test_no_region_has_no_presence(words: int) -> None:
    rows = list(range(words))
    found = evidence(torch.zeros(0, words), torch.zeros(0, 3), BANK.only(rows))
    assert found.shape == (0, words)
