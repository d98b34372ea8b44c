"""Reads the records of a JSON file one after the other, in one pass and in bounded memory.

Files of millions of annotations take tens of gigabytes once they are Python objects. The standard
library's decoder is given one record after the other. On a file like Objects365's of 349 MB it
takes 17 s; ijson 3.6 with yajl2_c takes 20 to 25 s, since it builds one list's records a pass.
"""

import json
import re
from collections.abc import Callable, Collection, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from integrations.formats.record import Record
from regionspot.errors import InputError

CHUNK = 1 << 18  # characters read at once
LONGEST = 1 << 26  # characters of one record; what is longer is no annotation
_BLANK = re.compile(r"[ \t\r\n]*")


def stream_records(
    path: Path,
    groups: Collection[str],
    required: str = "",
    on_other: Callable[[str, object], None] = lambda *_: None,
) -> Iterator[Record]:
    """The objects of some lists of the file's top-level object, in the order of the file.

    Args:
        path: of the JSON file.
        groups: keys of the lists.
        required: a key that the file must have.
        on_other: is shown every other key with its value; of a list, with its length.

    Raises:
        InputError: the file cannot be read, is not JSON, or a list is none or holds something
            else than objects.
    """
    with _Reader(path) as reader:
        yield from reader.groups(groups, required, on_other)


def stream_list(path: Path, group: str) -> Iterator[Record]:
    """The objects of a file that is a list.

    Args:
        path: of the JSON file.
        group: what the list holds, for messages.

    Raises:
        InputError: the file cannot be read, is not JSON, or is no list of objects.
    """
    with _Reader(path) as reader:
        yield from reader.top_list(group)


def is_list(path: Path) -> bool:
    """Whether a JSON file is a list.

    Raises:
        InputError: the file cannot be read.
    """
    with _Reader(path) as reader:
        return reader.next_mark() == "["


def load_json(path: Path) -> Any:
    """All of a small JSON file.

    Raises:
        InputError: the file cannot be read or is not JSON.
    """
    with _Reader(path) as reader:
        return reader.value()


class _Reader:
    """A window on a file of JSON; a context manager.

    `_buffer` holds the window, in which the next token starts at `_position`; `_lines` and
    `_before` count the lines and characters in front of the window.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer, self._position, self._lines, self._before = "", 0, 0, 0
        self._ended = False
        self._expected = "a JSON object of lists"
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def __enter__(self) -> "_Reader":
        try:
            with self._path.open("rb") as file:
                encoding = json.detect_encoding(file.read(4))
            # As json.loads: a lone surrogate is for the readers of names to refuse.
            self._file: TextIO = self._path.open(encoding=encoding, errors="surrogatepass")
        except OSError as error:
            raise InputError(f"{self._path} cannot be read: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def groups(
        self, wanted: Collection[str], required: str, on_other: Callable[[str, object], None]
    ) -> Iterator[Record]:
        """See `stream_records`."""
        if self.next_mark() != "{":
            self.value()  # says what is wrong where it is not JSON
            raise InputError(f"{self._path} is no label file: expected a JSON object of lists")
        self._position += 1
        keys: set[object] = set()
        is_last = self.next_mark() == "}"
        self._position += is_last
        while not is_last:
            key = self.value()
            if not isinstance(key, str):
                self._refuse("expected a key in double quotes")
            keys.add(key)
            self._expect(":")
            if self.next_mark() == "[":
                length = yield from self._items(key, key in wanted)
                if key not in wanted:
                    on_other(key, length)
            else:
                value = self.value()
                if key in wanted:
                    raise InputError(
                        f'{self._path}: "{key}" must be a list, got {type(value).__name__}'
                    )
                on_other(key, value)
            is_last = self._separator("}")
        self._end()
        if required and required not in keys:
            raise InputError(f'{self._path} is no label file: expected an object with "{required}"')

    def top_list(self, group: str) -> Iterator[Record]:
        """See `stream_list`."""
        self._expected = f"a JSON list of {group}"
        if self.next_mark() != "[":
            self.value()
            raise InputError(f"{self._path} is no list of {group}")
        yield from self._items(group, wanted=True)
        self._end()

    def next_mark(self) -> str:
        """The next character that is no blank; "" at the end."""
        while True:
            found = _BLANK.match(self._buffer, self._position)
            assert found is not None, "nothing at all matches too"
            self._position = found.end()
            if self._position < len(self._buffer) or self._ended:
                return self._buffer[self._position : self._position + 1]
            self._read()

    def _items(self, group: str, wanted: bool) -> Generator[Record, None, int]:
        self._expect("[")
        if self.next_mark() == "]":
            self._position += 1
            return 0
        index = 0
        while True:
            value = self.value()
            if wanted:
                if not isinstance(value, dict):
                    raise InputError(
                        f"{self._path}: {group}[{index}] must be an object, got {value!r:.40}"
                    )
                yield Record(self._path, group, index, value)
            index += 1
            if self._separator("]"):
                return index

    def value(self) -> object:
        """The next value, whole."""
        self.next_mark()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                # Only more of the file tells a broken value from one that is not read yet.
                if self._ended or len(self._buffer) - self._position > LONGEST:
                    self._refuse(f"{error.msg}; is the file complete?", error.pos)
            except RecursionError as error:
                raise InputError(f"{self._path} is nested too deeply for a label file") from error
            except ValueError as error:
                self._refuse(str(error))
            else:
                # A number that ends with the buffer may go on after it.
                if self._ended or end < len(self._buffer):
                    self._position = end
                    return value
            self._read()

    def _separator(self, closing: str) -> bool:
        """Step over a comma, or over the closing bracket, and say whether it was the latter."""
        mark = self.next_mark()
        if mark not in (",", closing):
            self._refuse(f"expected ',' or '{closing}'; is the file complete?")
        self._position += 1
        return mark == closing

    def _expect(self, mark: str) -> None:
        if self.next_mark() != mark:
            self._refuse(f"expected '{mark}'; is the file complete?")
        self._position += 1

    def _end(self) -> None:
        if self.next_mark():
            self._refuse("there is more behind the end; is it two files in one?")

    def _read(self) -> None:
        """Drop what is behind; read as much again as is left, so that long values stay cheap."""
        self._lines += self._buffer.count("\n", 0, self._position)
        self._before += self._position
        rest = self._buffer[self._position :]
        try:
            more = self._file.read(max(CHUNK, len(rest)))
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self._path} cannot be read as {error.encoding}: {error.reason}; save it as UTF-8"
            ) from error
        except OSError as error:
            raise InputError(f"{self._path} cannot be read: {error.strerror}") from error
        self._ended = not more
        self._buffer, self._position = rest + more, 0

    def _refuse(self, problem: str, position: int | None = None) -> NoReturn:
        at = self._position if position is None else position
        line = self._lines + self._buffer.count("\n", 0, at) + 1
        raise InputError(
            f"{self._path} is not {self._expected}: line {line} is not JSON, "
            f"at character {self._before + at}: {problem}"
        )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write null or leave the key out")
