"""The one normaliser of class names: what a reader sees, and which spellings are one class.

Within one data set, names are compared as they are written: "A" and "a" are two classes, and so are
"cup" and "cups". Only across data sets are spellings of one class brought together, by `name_key`,
and never two classes of one set: see `contested_keys`.

Three forms of a name, each made from the one before:

    clean_name     NFC, one blank between words          "  hot\u00a0 dog" -> "hot dog"
    display_name   as a person would write it            "bus_(vehicle)"   -> "bus"
    name_key       equal for spellings of one class      "Traffic-Lights"  -> "traffic light"

Synonyms are no spellings: "automobile" and "car" have different keys.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

_BRACKETS = re.compile(r"\([^)]*\)")
_SEPARATORS = re.compile(r"[_\-\s]+")
_SINGULAR = ("ss", "us", "is")  # glass, bus, tennis
_PLURAL_ES = ("ches", "shes", "xes")  # watches, brushes, boxes; "glasses" is no plural of "glass"


def clean_name(text: str) -> str:
    """NFC, with one blank between words; nothing else changes."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def display_name(name: str) -> str:
    """A category's name as a person would write it: no underscores, nothing in brackets.

    LVIS adds in brackets what tells two senses of a word apart: `bus_(vehicle)` is "bus".
    """
    return without_brackets(without_underscores(name)) or clean_name(name)


def without_underscores(name: str) -> str:
    """A clean name with blanks for underscores, as a prompt has it."""
    return clean_name(name.replace("_", " "))


def without_brackets(name: str) -> str:
    """A clean name less its parts in brackets; empty where there is nothing else."""
    return clean_name(_BRACKETS.sub(" ", name))


def name_key(name: str) -> str:
    """What all spellings of one class have in common.

    Case, accents' code points, and `_`, `-` and blanks make no difference; the last word loses a
    plain plural. Brackets stay: `mouse_(animal)` is not `mouse_(computer)`.
    """
    folded = clean_name(name).casefold()
    key = _SEPARATORS.sub(" ", folded).strip() or folded
    if key.endswith(_PLURAL_ES):
        return key[:-2]
    if key.endswith("s") and len(key) > 3 and not key.endswith(_SINGULAR):
        key = key[:-1]
    return key[:-2] + "y" if key.endswith("ie") else key  # cherries, cookies


def contested_keys(sets: Iterable[Iterable[str]]) -> frozenset[str]:
    """Keys that two different names of one set have, so that only equal names are one class.

    Args:
        sets: class names of each data set.
    """
    return frozenset(
        key
        for names in sets
        for key, count in Counter(map(name_key, set(names))).items()
        if count > 1
    )


def distinct_names(names: Sequence[str], *forms: Callable[[str], str]) -> tuple[str, ...]:
    """Each name in the first form that no other of the names has; where there is none, as it is.

    Args:
        names: of one data set; those that are equal stay equal.
        forms: each gives a name in another form, whose own form is itself. An empty form counts as
            none.
    """
    found: dict[str, str] = {}
    for form in forms:
        formed = {name: form(name) for name in names}
        counts = Counter(formed.values())
        for name, text in formed.items():
            if text and counts[text] == 1:
                found.setdefault(name, text)
    return tuple(found.get(name, name) for name in names)


def group_prompts(prompts: Mapping[str, str]) -> dict[str, list[str]]:
    """The prompts of each class, from the class of each prompt; both in the order of the prompts.

    Example:
        >>> group_prompts({"a dog": "dog", "a cat": "cat", "a puppy": "dog"})
        {'dog': ['a dog', 'a puppy'], 'cat': ['a cat']}
    """
    found: dict[str, list[str]] = {}
    for prompt, name in prompts.items():
        found.setdefault(name, []).append(prompt)
    return found
