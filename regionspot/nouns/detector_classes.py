"""What a detector says of its boxes, pooled with the model's probabilities of the words.

Where a word of the vocabulary is a class of the detector, two opinions on it are pooled by the
weighted geometric mean (logarithmic opinion pool: Genest and Zidek 1986, "Combining probability
distributions"). Of other words the model's probability stays as it is.

Axes: N boxes of one image, K words, E classes of the detector.
"""

from functools import lru_cache

import numpy as np
import torch

from regionspot.names import display_name, name_key
from regionspot.nouns.wordnet import noun_hierarchy
from regionspot.types import Proposals, Vocabulary


def detected_words(proposals: Proposals, vocabulary: Vocabulary) -> torch.Tensor | None:
    """The detector's confidence in each word, as a share of its confidence in the box.

    Args:
        proposals: N boxes, with or without scores of E classes.
        vocabulary: K words.

    Returns:
        (N, K) in [0, 1], NaN where the detector does not name the word; None: it names none.
    """
    if proposals.class_scores is None:
        return None
    columns = classes_of_words(vocabulary.strings, proposals.class_names)
    if not any(columns):
        return None
    share = proposals.class_scores / np.maximum(proposals.score, 1e-6)[:, None]  # (N, E)
    found = np.full((len(proposals), len(columns)), np.nan, np.float32)  # (N, K)
    for word, classes in enumerate(columns):
        if classes:
            found[:, word] = np.fmax.reduce(share[:, classes], axis=1)
    return torch.from_numpy(np.clip(found, 0, 1))


@lru_cache(maxsize=16)
def classes_of_words(
    words: tuple[tuple[str, ...], ...], class_names: tuple[str, ...]
) -> tuple[tuple[int, ...], ...]:
    """Of each word, the detector's classes that are the word, or several that are kinds of it.

    A class is a word that is written like it or means the same, and else a kind of every word that
    is above it in WordNet: "dog" is one of "animal", unless "dog" is a word, too. A word of which
    the detector knows one kind alone, as "fruit" by "apple", is not named by it.

    Args:
        words: the strings of each of K words.
        class_names: of E classes.

    Returns:
        K tuples of indices; an empty one for a word that the detector does not name.
    """
    hierarchy = noun_hierarchy()
    keys = [name_key(display_name(name)) for name in class_names]
    nouns = [hierarchy.rows.get(key) for key in keys]
    relations = [hierarchy.relations(strings) for strings in words]
    spellings = [{name_key(display_name(string)) for string in strings} for strings in words]
    is_word = [
        {e for e, key in enumerate(keys) if key in written or nouns[e] in related.same}
        for written, related in zip(spellings, relations, strict=True)
    ]
    named = set().union(*is_word)
    found = []
    for own, related in zip(is_word, relations, strict=True):
        kinds = {e for e, noun in enumerate(nouns) if noun in related.kinds} - named
        found.append(tuple(sorted(own | kinds if own or len(kinds) > 1 else own)))
    return tuple(found)


def pooled_probabilities(
    probabilities: torch.Tensor, detected: torch.Tensor, weight: float
) -> torch.Tensor:
    """Probabilities (N, K) of the words, pooled with the detector's where it names the word.

    The rows need not sum to 1: a box's score times its row is the confidence in each word.

    Args:
        probabilities: (N, K) of the model.
        detected: (N, K) of `detected_words`.
        weight: of the detector's opinion, in [0, 1].
    """
    pooled = detected.clamp_min(0) ** weight * probabilities ** (1 - weight)
    return torch.where(detected.isnan(), probabilities, pooled)
