"""The file of words that a person writes.

One word a line. `#` starts a comment. `name: synonym, synonym` labels all of these as `name`. Words
are compared as they are written: `Bass` and `bass` are two.

`name: @FOLDER` labels as `name` what looks like the examples in a folder: crops, or images with a
COCO JSON beside them that has boxes of `name`. `name: @RUN#LABEL` takes the labels of a run, and
`name: @fiftyone:DATASET/FIELD=LABEL` those of a FiftyOne dataset.
Several references and synonyms may be mixed; where there is no synonym, the name itself is no text.
Paths are relative to the file's folder, and hold neither comma nor ` #`.

A file `.yaml`, `.yml` or `.json` is a list of names or entries, a mapping of names to synonyms or
entries, or a mapping of prompts to names, `{"a photo of a dog": "dog"}`, of which the prompts alone
are embedded. An entry has

    name        of the word
    synonyms    a list, or one
    threshold   minimum confidence of the word's labels, in place of that of all words
    group       supercategory of COCO and LVIS
    background  true: the word's labels are counted and not written; it has neither of the two above

Words from Python are the same lists and mappings.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from integrations.fiftyone.session import FIFTYONE_PREFIX
from integrations.text import read_json, read_yaml
from regionspot.errors import InputError
from regionspot.files import read_text
from regionspot.names import clean_name, group_prompts

REFERENCE = "@"  # before where examples of a word are
_READERS = {".yaml": read_yaml, ".yml": read_yaml, ".json": read_json}
_KEYS = ("name", "synonyms", "threshold", "group", "background")
_OF_WRITTEN_WORDS = ("threshold", "group")


class WordEntry(TypedDict, total=False):
    """An entry of a vocabulary, as the docstring of this file describes it."""

    name: str
    synonyms: str | Sequence[str]
    threshold: float
    group: str
    background: bool


Words = (
    Sequence[str | WordEntry] | Mapping[str, Sequence[str]] | Mapping[str, str | WordEntry | None]
)


@dataclass(frozen=True)
class WordList:
    """The words of a file, in its order; background words are the last ones.

    Attributes:
        names: K words.
        synonyms: for each name all strings that stand for it: the name itself first, or prompts.
        examples: for each name the references of its examples, without `@`; empty: no word has any.
        groups: for each name its supercategory, or an empty text; empty: no word has any.
        thresholds: for each name the minimum confidence of its labels, or None for that of all
            words; empty: no word has its own.
        background: number of background words, whose labels are not written.
    """

    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    examples: tuple[tuple[str, ...], ...] = ()
    groups: tuple[str, ...] = ()
    thresholds: tuple[float | None, ...] = ()
    background: int = 0

    @property
    def written(self) -> int:
        """Number of the first words, whose labels are written."""
        return len(self.names) - self.background

    @property
    def sha256(self) -> str:
        """Of all that is in the list, in its order; comments and blanks do not count."""
        parts: list[object] = [
            self.names,
            self.synonyms,
            *([self.examples] if self.examples else []),
        ]
        more = {
            "groups": self.groups,
            "thresholds": self.thresholds,
            "background": self.background,
        }
        parts += [{name: value} for name, value in more.items() if value]
        content = json.dumps(parts, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    def references_of(self, name: str) -> tuple[str, ...]:
        """The references of the examples of a word."""
        return self.examples[self.names.index(name)] if self.examples else ()

    def own_thresholds(self) -> dict[str, float]:
        """The minimum confidence of each word that has its own."""
        return own_thresholds(self.names, self.thresholds)

    @property
    def strings(self) -> tuple[str, ...]:
        """The strings of all names, one after another."""
        return tuple(string for strings in self.synonyms for string in strings)

    def as_mapping(self) -> dict[str, list[str]]:
        """Name to its strings, as `RegionSpot.vocabulary` takes them."""
        return {
            name: list(strings) for name, strings in zip(self.names, self.synonyms, strict=True)
        }


def own_thresholds(names: Sequence[str], thresholds: Sequence[float | None]) -> dict[str, float]:
    """The thresholds of the words that have their own; an empty list: no word has."""
    pairs = zip(names, thresholds, strict=True) if thresholds else ()
    return {name: own for name, own in pairs if own is not None}


def read_words(path: Path, known: Collection[str] = ()) -> WordList:
    """Read a file of words.

    Args:
        path: of the file.
        known: clean names; a line that is one of these is that word, whatever `#`, `:` and commas
            it holds.

    Raises:
        InputError: the file is missing, is not UTF-8, holds no word, a line is not understood, or
            a word or synonym is there twice; the message names the file and the line or entry.
    """
    if path.suffix.lower() in _READERS:
        return _structured(_READERS[path.suffix.lower()](path), f"{path}: ")
    groups = list(_groups(path, known))
    words = _checked([(line, strings) for line, strings, _ in groups], f"{path}: ", "line")
    examples = tuple(
        tuple(_absolute(each, path) for each in references) for _, _, references in groups
    )
    return replace(words, examples=examples) if any(examples) else words


def _absolute(reference: str, file: Path) -> str:
    """A reference of examples in a file of words, whose folder paths are relative to."""
    is_dataset = reference.startswith(FIFTYONE_PREFIX)
    return reference if is_dataset else str(file.resolve().parent / reference)


def word_list(words: Words) -> WordList:
    """Words from Python, by the rules of a vocabulary file in YAML or JSON.

    Args:
        words: names or entries; or for each name its synonyms or its entry; or for each prompt the
            name that it stands for.

    Raises:
        InputError: no word, an empty one, no string, or a word or synonym is there twice.
    """
    return _structured(words if isinstance(words, Mapping) else list(words), "", "word")


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


def _groups(
    path: Path, known: Collection[str]
) -> Iterator[tuple[int, tuple[str, ...], tuple[str, ...]]]:
    """Line number, the name with its synonyms, and references, of each line that is not empty."""
    # Lines end with \n or \r\n only: str.splitlines would also split a word at exotic separators.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if (whole := clean_name(line)) in known:
            yield number, (whole,), ()
        elif text := _without_comment(line):
            yield number, *_parse(text, f"{path}: line {number}")


def _without_comment(line: str) -> str:
    """A line up to its first `#`; one within a reference, after no blank, belongs to it."""
    for place, character in enumerate(line):
        if character == "#":
            part = line[:place].replace(":", ",", 1).rpartition(",")[2]
            if not part.lstrip().startswith(REFERENCE) or part[-1:].isspace():
                return line[:place].strip()
    return line.strip()


def _parse(text: str, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The name with its synonyms, and the references, of a line that is not empty."""
    name, colon, rest = text.partition(":")
    strings, references = [clean_name(name)], tuple[str, ...]()
    if colon:
        parts = [part.strip() for part in rest.split(",")]
        references = tuple(part[1:].strip() for part in parts if part.startswith(REFERENCE))
        strings += [clean_name(part) for part in parts if not part.startswith(REFERENCE)]
    if not all(strings) or not all(references):
        raise InputError(f"{where}: expected `name` or `name: synonym, synonym`, got {text!r}")
    return tuple(strings), references


def _structured(content: object, prefix: str, unit: str = "entry") -> WordList:
    """Words of a list or mapping, as the file's docstring describes them."""
    listed: list[Mapping[object, object]]
    if isinstance(content, list):
        listed = [each if isinstance(each, Mapping) else {"name": each} for each in content]
    elif isinstance(content, Mapping):
        texts = [value for value in content.values() if isinstance(value, str) and value.strip()]
        if texts and len(texts) == len(content):
            return _prompts(content, prefix, unit)
        if texts:
            raise InputError(
                f"{prefix}expected either names with lists of synonyms or prompts with a name, "
                f"got both; {texts[0]!r} is no list"
            )
        listed = [
            {"name": key, **(value if isinstance(value, Mapping) else {"synonyms": value or []})}
            for key, value in content.items()
        ]
    else:
        raise InputError(f"{prefix}expected a list of words, or a mapping")
    entries = [_entry(each, f"{prefix}{unit} {n}") for n, each in enumerate(listed, start=1)]
    _checked([(n, each.strings) for n, each in enumerate(entries, start=1)], prefix, unit)
    background = sum(each.background for each in entries)
    if background == len(entries):
        raise InputError(
            f"{prefix}every word is a background word; write at least one that is labelled"
        )
    entries.sort(key=lambda each: each.background)  # keeps the order otherwise
    groups = tuple(each.group for each in entries)
    thresholds = tuple(each.threshold for each in entries)
    return WordList(
        tuple(each.strings[0] for each in entries),
        tuple(each.strings for each in entries),
        groups=groups if any(groups) else (),
        thresholds=thresholds if any(each is not None for each in thresholds) else (),
        background=background,
    )


@dataclass(frozen=True)
class _Entry:
    """An entry that was checked; `strings` are the name and its synonyms."""

    strings: tuple[str, ...]
    group: str
    threshold: float | None
    background: bool


def _entry(entry: Mapping[object, object], where: str) -> _Entry:
    """Check an entry."""
    if other := [key for key in entry if key not in _KEYS]:
        raise InputError(f"{where}: expected the keys {', '.join(_KEYS)}, got {other[0]!r}")
    synonyms = entry.get("synonyms", [])
    listed = synonyms if isinstance(synonyms, list | tuple) else [synonyms]
    name = _text(entry.get("name"), f"{where}: name")
    where = f"{where} ({name})"
    strings = [_text(each, f"{where}: synonym") for each in listed]
    background = _truth(entry.get("background", False), f"{where}: background")
    if background and (useless := [key for key in _OF_WRITTEN_WORDS if key in entry]):
        raise InputError(f"{where}: a background word is not written; leave out {useless[0]}")
    return _Entry(
        (name, *(each for each in strings if each != name)),
        _text(entry["group"], f"{where}: group") if "group" in entry else "",
        _probability(entry["threshold"], f"{where}: threshold") if "threshold" in entry else None,
        background,
    )


def _truth(value: object, what: str) -> bool:
    """True or false; YAML has them as text here."""
    found = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise InputError(f"{what} must be true or false, got {value!r}")
    return found


def _probability(value: object, what: str) -> float:
    """A number from 0 to 1; YAML has it as text here."""
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError):
            number = float(value)
    if not 0 <= number <= 1:
        raise InputError(f"{what} must be from 0 to 1, got {value!r}")
    return number


def _prompts(content: Mapping[object, object], prefix: str, unit: str) -> WordList:
    """Words of a mapping of prompts to names; prompts of one name stand for it together."""
    pairs: dict[str, str] = {}
    for number, (prompt, name) in enumerate(content.items(), start=1):
        where = f"{prefix}{unit} {number}"
        text = _text(prompt, f"{where}: prompt")
        if text in pairs:
            raise InputError(f"{where}: the prompt {text!r} is there already; write it once")
        pairs[text] = _text(name, f"{where}: name")
    prompts = group_prompts(pairs)
    _checked([(n, (name,)) for n, name in enumerate(prompts, start=1)], prefix, "name")
    groups = [(n, tuple(strings)) for n, strings in enumerate(prompts.values(), start=1)]
    return replace(_checked(groups, prefix, "prompts of name"), names=tuple(prompts))


def _text(value: object, what: str) -> str:
    """A text that is not empty and no reference of examples."""
    text = clean_name(value) if isinstance(value, str) else ""
    if not text:
        raise InputError(f"{what}: expected a text that is not empty, got {value!r}")
    if text.startswith(REFERENCE):
        raise InputError(f"{what}: {text!r} names examples, which go into a text file of words")
    return text
