"""Reads the lists of a large JSON file record by record, in one pass and in bounded memory.

Files of millions of annotations take tens of gigabytes once they are Python objects. The standard
library's decoder, given one record after the other, is as fast as on the whole file.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from integrations.formats.record import Record
from regionspot.errors import InputError

CHUNK = 1 << 18  # characters read at once
LONGEST = 1 << 26  # characters of one record; what is longer is no annotation
_BLANK = re.compile(r"[ \t\r\n]*")


def stream_records(path: Path, lists: frozenset[str]) -> Iterator[Record]:
    """The objects of some of the top-level lists, in the order of the file.

    Args:
        lists: keys of the top-level object; what stands under other keys is passed over.

    Raises:
        InputError: the file cannot be read, is not JSON, or a list holds something else.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _Reader(path, file).records(lists)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason}; save it as UTF-8") from error


def load_json(path: Path) -> Any:
    """All of a small JSON file.

    Raises:
        InputError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}; is the file complete?") from error


class _Reader:
    """A window on a file of JSON; `_position` is where the next token starts."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._buffer, self._position, self._before = "", 0, 0
        self._ended = False
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def records(self, lists: frozenset[str]) -> Iterator[Record]:
        self._expect("{")
        if self._next() == "}":
            return
        while True:
            key = self._value()
            self._expect(":")
            if self._next() == "[":
                yield from self._items(str(key), key in lists)
            elif key in lists:
                self._refuse(f'expected a list under "{key}"')
            else:
                self._value()
            if self._separator("}"):
                return

    def _items(self, group: str, wanted: bool) -> Iterator[Record]:
        self._expect("[")
        if self._next() == "]":
            self._position += 1
            return
        index = 0
        while True:
            value = self._value()
            if wanted:
                if not isinstance(value, dict):
                    raise InputError(
                        f"{self._path}: {group}[{index}] must be an object, got {value!r:.40}"
                    )
                yield Record(self._path, group, index, value)
            index += 1
            if self._separator("]"):
                return

    def _value(self) -> object:
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                # Only more of the file tells a broken value from one that is not read yet.
                if self._ended or len(self._buffer) - self._position > LONGEST:
                    self._refuse(error.msg, error.pos)
            except (ValueError, RecursionError) as error:
                self._refuse(str(error))
            else:
                # A number that ends with the buffer may go on after it.
                if self._ended or end < len(self._buffer):
                    self._position = end
                    return value
            self._read()

    def _separator(self, closing: str) -> bool:
        """Step over a comma, or over the closing bracket, and say whether it was the latter."""
        mark = self._next()
        if mark not in (",", closing):
            self._refuse(f"expected ',' or '{closing}'")
        self._position += 1
        return mark == closing

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            self._refuse(f"expected '{mark}'")
        self._position += 1

    def _next(self) -> str:
        """The next character that is no blank; "" at the end."""
        while True:
            found = _BLANK.match(self._buffer, self._position)
            assert found is not None, "nothing at all matches too"
            self._position = found.end()
            if self._position < len(self._buffer) or self._ended:
                return self._buffer[self._position : self._position + 1]
            self._read()

    def _read(self) -> None:
        """Drop what is behind; read as much again as is left, so that long values stay cheap."""
        self._before += self._position
        rest = self._buffer[self._position :]
        more = self._file.read(max(CHUNK, len(rest)))
        self._ended = not more
        self._buffer, self._position = rest + more, 0

    def _refuse(self, problem: str, position: int | None = None) -> NoReturn:
        place = self._before + (self._position if position is None else position)
        raise InputError(
            f"{self._path} is not a JSON object of lists: {problem} at character {place}; "
            "is the file complete?"
        )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
