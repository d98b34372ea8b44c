"""The file of words that a person writes.

One word a line. `#` starts a comment. `name: synonym, synonym` labels all of these as `name`. Words
are compared as they are written: `Bass` and `bass` are two.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regionspot.errors import InputError
from regionspot.files import read_text
from regionspot.names import clean_name


@dataclass(frozen=True)
class WordList:
    """The words of a file, in its order.

    Attributes:
        names: K words.
        synonyms: for each name all strings that stand for it, the name itself first.
    """

    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]

    @property
    def sha256(self) -> str:
        """Of the words and synonyms in their order; comments and blanks do not count."""
        content = json.dumps([self.names, self.synonyms], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    def as_mapping(self) -> dict[str, list[str]]:
        """Name to its strings, as `RegionSpot.vocabulary` takes them."""
        return {
            name: list(strings) for name, strings in zip(self.names, self.synonyms, strict=True)
        }


def read_words(path: Path, known: Collection[str] = ()) -> WordList:
    """Read a file of words.

    Args:
        path: of the file.
        known: clean names; a line that is one of these is that word, whatever `#`, `:` and commas
            it holds.

    Raises:
        InputError: the file is missing, is not UTF-8, holds no word, a line is not understood, or
            a word or synonym is there twice; the message names the file and the line.
    """
    return _checked(_groups(path, known), f"{path}: ", "line")


def word_list(words: Sequence[str] | Mapping[str, Sequence[str]]) -> WordList:
    """Words from Python, by the rules of a vocabulary file.

    Args:
        words: names, or for each name its synonyms, itself among them or not.

    Raises:
        InputError: no word, an empty one, no string, or a word or synonym is there twice.
    """
    pairs = words.items() if isinstance(words, Mapping) else ((word, ()) for word in words)
    groups = []
    for number, (name, synonyms) in enumerate(pairs, start=1):
        synonyms = (synonyms,) if isinstance(synonyms, str) else synonyms
        strings = (name, *(string for string in synonyms if string != name))
        if not all(isinstance(string, str) and clean_name(string) for string in strings):
            raise InputError(f"word {number}: expected names that are not empty, got {strings!r}")
        groups.append((number, tuple(clean_name(string) for string in strings)))
    return _checked(groups, "", "word")


def _checked(groups: Iterable[tuple[int, tuple[str, ...]]], prefix: str, unit: str) -> WordList:
    """Words from numbered groups of a name and its synonyms; `unit` is what the numbers count."""
    checked: list[tuple[str, ...]] = []
    first: dict[str, int] = {}
    for number, strings in groups:
        for string in strings:
            if not string.isprintable():
                raise InputError(
                    f"{prefix}{unit} {number}: {string!r} holds a character that cannot be printed"
                )
        for string in strings:
            before = first.setdefault(string, number)
            if before != number or strings.count(string) > 1:
                where = f"{unit} {before}" if before != number else f"the same {unit}"
                raise InputError(
                    f"{prefix}{unit} {number}: {string!r} is on {where} already; "
                    "write each word and synonym once"
                )
        checked.append(strings)
    if not checked:
        raise InputError(f"{prefix}{unit} 1: there is no word; write at least one")
    return WordList(tuple(strings[0] for strings in checked), tuple(checked))


def _groups(path: Path, known: Collection[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line number, and the name with its synonyms, of each line that is not empty."""
    # Lines end with \n or \r\n only: str.splitlines would also split a word at exotic separators.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if (whole := clean_name(line)) in known:
            yield number, (whole,)
        elif text := line.split("#", 1)[0].strip():
            yield number, _parse(text, f"{path}: line {number}")


def _parse(text: str, where: str) -> tuple[str, ...]:
    """The name and synonyms of a line that is not empty."""
    name, colon, rest = text.partition(":")
    strings = [clean_name(name)]
    if colon:
        strings += [clean_name(part) for part in rest.split(",")]
    if not all(strings):
        raise InputError(f"{where}: expected `name` or `name: synonym, synonym`, got {text!r}")
    return tuple(strings)
