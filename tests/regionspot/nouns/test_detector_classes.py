"""Class scores of a detector, pooled with the model's probabilities of the words."""

import numpy as np
import torch

from regionspot.nouns.detector_classes import classes_of_words, detected_words, pooled_probabilities
from regionspot.types import Proposals, Vocabulary

WORDS = Vocabulary(("cars", "helmet"), torch.eye(2), (("car", "automobile"), ("helmet",)))


def test_a_word_is_a_class_by_its_spelling_a_synonym_or_wordnet() -> None:
    words = (("Traffic-Lights",), ("settee", "couch"), ("sofa",), ("helmet",))
    assert classes_of_words(words, ("couch", "traffic light")) == ((1,), (0,), (0,), ())


def test_a_coarse_word_has_the_classes_below_it_that_are_no_words_themselves() -> None:
    classes = ("dog", "car", "bird", "apple", "horse")
    assert classes_of_words((("animal",), ("fruit",)), classes) == ((0, 2, 4), ())
    assert classes_of_words((("animal",), ("dog",)), classes) == ((2, 4), (0,))


def test_detected_words_are_shares_of_the_score_of_a_box() -> None:
    scores = np.array([[0.6, 0.3], [0.2, np.nan]], np.float32)
    boxes = np.array([[0, 0, 9, 9], [0, 0, 5, 5]], np.float32)
    proposals = Proposals(boxes, np.array([0.6, 0.4]), (), ("person", "car"), scores)
    found = detected_words(proposals, WORDS)
    assert found is not None
    expected = torch.tensor([[0.5, torch.nan], [torch.nan, torch.nan]])
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_a_detector_without_the_words_changes_nothing() -> None:
    boxes = np.array([[0, 0, 9, 9]], np.float32)
    score = np.array([0.6], np.float32)
    assert detected_words(Proposals(boxes, score), WORDS) is None
    named = Proposals(boxes, score, (), ("person",), score[:, None])
    assert detected_words(named, WORDS) is None


def test_pooling_is_a_weighted_geometric_mean_of_the_words_that_the_detector_names() -> None:
    probabilities = torch.tensor([[0.25, 0.5]])
    detected = torch.tensor([[1.0, torch.nan]])
    pooled = pooled_probabilities(probabilities, detected, weight=0.5)
    torch.testing.assert_close(pooled, torch.tensor([[0.5, 0.5]]))
    assert torch.equal(pooled_probabilities(probabilities, detected, weight=0.0), probabilities)
