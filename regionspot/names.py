"""The one normaliser of class names: what a reader sees, and which spellings are one class.

Three forms of a name, each made from the one before:

    clean_name     NFC, one blank between words          "  hot\u00a0 dog" -> "hot dog"
    display_name   as a person would write it            "bus_(vehicle)"   -> "bus"
    name_key       equal for spellings of one class      "Traffic-Lights"  -> "traffic light"

Synonyms are no spellings: "automobile" and "car" have different keys.
"""

import re
import unicodedata

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
    return without_brackets(name.replace("_", " ")) or clean_name(name)


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
