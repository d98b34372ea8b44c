"""WordNet's hierarchy over the nouns of the bank: what is above, below or the same as a word.

`nouns.txt.gz` is made by `python -m train noun-bank`; NOTICE has the licence of WordNet.

Axes: B nouns of the bank.
"""

import gzip
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

from regionspot.names import display_name, name_key

NOUNS = Path(__file__).parent / "nouns.txt.gz"
SECTIONS = ("synsets", "lemmas", "nouns")
Node = TypeVar("Node", bound=Hashable)

MAIN_SENSES = 2  # of a word, the most frequent ones, whose kinds count as the word


@dataclass(frozen=True)
class Relations:
    """How a word stands to the nouns of the bank.

    Attributes:
        known: whether WordNet's part that is kept has the word, or its last part.
        kinds: rows of the nouns that are a kind of it, or itself, in one of its main senses.
        same: those of `kinds` that mean the same.
        others: rows of all other nouns that are above it or, in any sense, below it.
    """

    known: bool
    kinds: frozenset[int]
    same: frozenset[int]
    others: frozenset[int]


@dataclass(frozen=True)
class NounHierarchy:
    """The bank's nouns in WordNet.

    Attributes:
        names: of the B nouns.
        parents: of each synset, rows of its hypernyms.
        senses: of a lemma's key, rows of its synsets, the most frequent one first.
        kinds: of a synset, rows of the nouns whose main meaning is a kind of it, or itself.
        below: as `kinds`, for any meaning of the nouns.
        at: of a synset, rows of the nouns that it is the meaning of.
    """

    names: tuple[str, ...]
    parents: Sequence[Sequence[int]]
    senses: Mapping[str, Sequence[int]]
    kinds: Mapping[int, Collection[int]]
    below: Mapping[int, Collection[int]]
    at: Mapping[int, Collection[int]]

    def relations(self, strings: Sequence[str]) -> Relations:
        """How a word that is written in these ways stands to the bank.

        A phrase that WordNet lacks is a kind of what its last part names: "red car" of "car".
        """
        known = False
        kinds, same, related = set[int](), set[int](), set[int]()
        for string in strings:
            senses, whole = self._senses_of(string)
            known |= bool(senses)
            kinds |= self._named(string)
            same |= self._named(string)
            if whole:
                main = senses[:MAIN_SENSES]
                kinds |= _union(self.kinds, main)
                same |= _union(self.kinds, main) & _union(self.at, main)
            related |= _union(self.below, senses)
            related |= _union(self.at, reached(senses, self.parents.__getitem__))
        return Relations(known, frozenset(kinds), frozenset(same), frozenset(related - kinds))

    def _named(self, string: str) -> set[int]:
        """The row of the noun that is written like a string."""
        row = self.rows.get(name_key(display_name(string)))
        return set() if row is None else {row}

    def _senses_of(self, string: str) -> tuple[Sequence[int], bool]:
        """Rows of the synsets of a string, and whether it is a lemma as a whole."""
        parts = name_key(display_name(string)).split()
        for start in range(len(parts)):
            for blank in (" ", "", "-"):
                found = self.senses.get(blank.join(parts[start:]))
                if found:
                    return found, start == 0
        return (), False

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Of a noun's key, its row."""
        return {name_key(name): row for row, name in enumerate(self.names)}


def _union(rows_of: Mapping[int, Collection[int]], synsets: Iterable[int]) -> set[int]:
    return {row for synset in synsets for row in rows_of.get(synset, ())}


@cache
def noun_hierarchy() -> NounHierarchy:
    """The hierarchy that ships with the package."""
    sections: dict[str, list[str]] = {}
    for line in gzip.decompress(NOUNS.read_bytes()).decode("utf-8").splitlines():
        if line.startswith("# "):
            rows = sections.setdefault(line[2:], [])
        else:
            rows.append(line)
    parents, lemmas, nouns = (sections[title] for title in SECTIONS)
    return _hierarchy(
        [tuple(map(int, line.split())) for line in parents],
        dict(_named(line) for line in lemmas),
        [_named(line) for line in nouns],
    )


def _named(line: str) -> tuple[str, tuple[int, ...]]:
    name, _, rows = line.partition("\t")
    return name, tuple(map(int, rows.split()))


def _hierarchy(
    parents: Sequence[Sequence[int]],
    lemmas: Mapping[str, Sequence[int]],
    nouns: Sequence[tuple[str, Sequence[int]]],
) -> NounHierarchy:
    senses: dict[str, Sequence[int]] = {}
    for lemma, rows in lemmas.items():
        # "glasses" and "glass" have one key; what is written like the key comes first
        key = name_key(lemma)
        senses[key] = (
            (*rows, *senses.get(key, ())) if lemma == key else (*senses.get(key, ()), *rows)
        )
    kinds, below, at = (defaultdict[int, set[int]](set) for _ in range(3))
    for noun, (_, synsets) in enumerate(nouns):
        for synset in synsets:
            at[synset].add(noun)
        for synset in reached(synsets, parents.__getitem__):
            below[synset].add(noun)
        for synset in reached(synsets[:1], parents.__getitem__):
            kinds[synset].add(noun)
    return NounHierarchy(tuple(name for name, _ in nouns), parents, senses, kinds, below, at)


def reached(start: Iterable[Node], following: Callable[[Node], Iterable[Node]]) -> set[Node]:
    """Nodes of a graph and all that follow them, such as synsets and all above or below them."""
    found, todo = set[Node](), list(start)
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += following(node)
    return found
