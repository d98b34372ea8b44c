"""Which word of the predictions stands for which word of the truth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from integrations.annotations import Category
from regionspot.names import clean_name, name_key, without_brackets


@dataclass(frozen=True)
class ClassMatch:
    """Words of two vocabularies, brought together.

    Attributes:
        ids: the truth's category id by the predictions' category id.
        by_synonym: pairs (predicted name, true name) that a synonym brought together.
        unmatched_predicted: names of the predictions that the truth has no word for.
        unmatched_true: names of the truth that no prediction can have.
    """

    ids: dict[int, int]
    by_synonym: tuple[tuple[str, str], ...]
    unmatched_predicted: tuple[str, ...]
    unmatched_true: tuple[str, ...]


def match_classes(truth: Sequence[Category], predicted: Sequence[Category]) -> ClassMatch:
    """Bring together by name, then by a synonym that only one word has.

    A name is compared as it is written, then by `name_key`; what LVIS adds in brackets is left off
    a synonym ("bus" is "bus_(vehicle)"). Ids do not count: two files number their words as they
    like.
    """
    by_name = {clean_name(each.name).casefold(): each for each in reversed(truth)}
    by_key = _unique((name_key(each.name), each) for each in truth)
    by_synonym = _unique((text, each) for each in truth for text in _strings(each))
    ids: dict[int, int] = {}
    synonyms, unmatched = [], []
    for category in predicted:
        name = clean_name(category.name).casefold()
        found = by_name.get(name) or by_key.get(name_key(name))
        if found is None:
            candidates = {
                match.id: match for text in _strings(category) if (match := by_synonym.get(text))
            }
            found = next(iter(candidates.values())) if len(candidates) == 1 else None
            if found is not None:
                synonyms.append((category.name, found.name))
        if found is None:
            unmatched.append(category.name)
        else:
            ids[category.id] = found.id
    reached = set(ids.values())
    missing = tuple(category.name for category in truth if category.id not in reached)
    return ClassMatch(ids, tuple(synonyms), tuple(unmatched), missing)


def _strings(category: Category) -> set[str]:
    strings = (category.name, *category.synonyms)
    bare = {without_brackets(text) for text in strings} - {""}
    return {name_key(text) for text in (*strings, *bare)}


def _unique(pairs: Iterable[tuple[str, Category]]) -> dict[str, Category]:
    """By string, but for the strings that several categories have."""
    found: dict[str, dict[int, Category]] = {}
    for text, category in pairs:
        found.setdefault(text, {})[category.id] = category
    return {text: next(iter(each.values())) for text, each in found.items() if len(each) == 1}
