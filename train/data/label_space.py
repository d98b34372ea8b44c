"""Names of categories as words, and label spaces made one by name.

A word is the same as another if they agree after case, spaces and a plain plural are taken away.
Ids say nothing: 1 is a person in COCO and an acorn in LVIS.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from regionspot.names import name_key
from train.data.lazy import Lazy
from train.data.types import AnnotatedImage, Dataset, Words


def with_synonyms(pairs: Iterable[tuple[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """Words, each with the strings that stand for it; those of a word named twice are joined."""
    words: dict[str, tuple[str, ...]] = {}
    for word, strings in pairs:
        words[word] = tuple(dict.fromkeys((*words.get(word, ()), word, *strings)))
    return words


def merge_words(datasets: Sequence[Dataset]) -> tuple[dict[str, tuple[str, ...]], list[Dataset]]:
    """One list of words for several data sets, and the data sets in those words.

    The first data set that has a word spells it. Synonyms are joined; they do not make two words
    one, for LVIS lists "woman" under person, and Open Images has it as a word of its own.

    Returns:
        The words with their synonyms, in the order of the data sets; and the data sets, with
        names, `verified`, `words` and `broader` in that spelling. Where an image's `verified` is
        None, that still means the words of its own data set.
    """
    spelling: dict[str, str] = {}
    for dataset in datasets:
        for word in dataset.words:
            spelling.setdefault(name_key(word), word)
    respelt = [
        _renamed(dataset, {word: spelling[name_key(word)] for word in dataset.words})
        for dataset in datasets
    ]
    pairs = (pair for dataset in respelt for pair in dataset.words.items())
    return with_synonyms(pairs), respelt


def _renamed(dataset: Dataset, new: Mapping[str, str]) -> Dataset:
    if all(word == other for word, other in new.items()):
        return dataset
    broader: dict[str, frozenset[str]] = {}
    for word, others in dataset.broader.items():
        known = broader.get(new[word], frozenset())
        broader[new[word]] = known | {new[other] for other in others} - {new[word]}
    return replace(
        dataset,
        words=with_synonyms((new[word], strings) for word, strings in dataset.words.items()),
        images=RenamedImages(dataset.images, new, _parts(dataset.words, new)),
        broader=broader,
    )


def _parts(words: Words, new: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """For each new word that several old ones have become, those."""
    olds: dict[str, set[str]] = {}
    for word in words:
        olds.setdefault(new[word], set()).add(word)
    return {word: frozenset(each) for word, each in olds.items() if len(each) > 1}


@dataclass(frozen=True)
class RenamedImages(Lazy[AnnotatedImage]):
    """Images whose words are spelt otherwise when they are asked for.

    Attributes:
        new: the new word of each old one; any other becomes "", which no data set has.
        parts: of a new word that stands for several old ones, those: it is verified where all
            of them are.
    """

    images: Sequence[AnnotatedImage]
    new: Mapping[str, str]
    parts: Mapping[str, frozenset[str]]

    def __len__(self) -> int:
        return len(self.images)

    def _at(self, row: int) -> AnnotatedImage:
        image = self.images[row]
        verified = image.verified
        if verified is not None:
            olds: frozenset[str] = verified
            renamed = {self.new[word] for word in olds if word in self.new}
            verified = frozenset(w for w in renamed if self.parts.get(w, frozenset()) <= olds)
        return replace(
            image, names=tuple(self.new.get(name, "") for name in image.names), verified=verified
        )
