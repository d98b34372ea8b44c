"""The file of words that a person writes.

One word a line. `#` starts a comment. `name: synonym, synonym` labels all of these as `name`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from regionspot.errors import InputError
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


def read_words(path: Path) -> WordList:
    """Read a file of words.

    Raises:
        InputError: the file is missing, is not UTF-8, holds no word, a line is not understood, or
            a word or synonym is there twice; the message names the file and the line.
    """
    groups: list[tuple[str, ...]] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        strings = _parse(text, f"{path}: line {number}")
        for string in strings:
            before = first_line.setdefault(_key(string), number)
            if before != number or [_key(each) for each in strings].count(_key(string)) > 1:
                where = f"line {before}" if before != number else "the same line"
                raise InputError(
                    f"{path}: line {number}: {string!r} is on {where} already; "
                    "write each word and synonym once"
                )
        groups.append(strings)
    if not groups:
        raise InputError(f"{path}: line 1: there is no word in the file; write one a line")
    return WordList(tuple(group[0] for group in groups), tuple(groups))


def _lines(path: Path) -> list[str]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    lines = []
    # Lines end with \n or \r\n only: str.splitlines would also split a word at exotic separators.
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: line {number}: byte {error.start + 1} of the line is not UTF-8; "
                "save the file as UTF-8"
            ) from error
    return lines


def _parse(text: str, where: str) -> tuple[str, ...]:
    """The name and synonyms of a line that is not empty."""
    name, colon, rest = text.partition(":")
    strings = [clean_name(name)]
    if colon:
        strings += [clean_name(part) for part in rest.split(",")]
    if not all(strings):
        raise InputError(f"{where}: expected `name` or `name: synonym, synonym`, got {text!r}")
    if unprintable := [string for string in strings if not string.isprintable()]:
        raise InputError(f"{where}: {unprintable[0]!r} holds a character that cannot be printed")
    return tuple(strings)


def _key(string: str) -> str:
    return string.casefold()
