"""What a command prints: a summary for a person, or one line of JSON for a program."""

import contextlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

from rich.console import Console, RenderableType

from integrations.progress import NullReporter, Reporter, RichReporter
from regionspot.errors import InputError


class Output(AbstractContextManager["Output"]):
    """The standard output and standard error of one command; a context manager.

    | | standard output | standard error |
    |---|---|---|
    | | summary and notices | progress, errors |
    | with JSON | one line of JSON, also of an error | notices, progress, errors |
    | quiet | nothing | notices, errors |

    A notice says what was skipped, changed or left out.

    Args:
        as_json: whether the summary is a line of JSON. Whatever else is printed within the context
            goes to the standard error, also by other libraries.
        quiet: whether neither progress nor a summary for a person is shown.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self._as_json = as_json
        self._quiet = quiet
        self._results = sys.stdout
        self._open = ExitStack()

    def __enter__(self) -> "Output":
        if self._as_json:
            self._open.enter_context(contextlib.redirect_stdout(sys.stderr))
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._open.close()
        if self._as_json and isinstance(error, InputError):
            self.summary({"error": one_line(error)})
        elif self._as_json and isinstance(error, KeyboardInterrupt):
            self.summary({"error": "stopped"})

    def progress(self) -> AbstractContextManager[Reporter]:
        """A reporter that shows progress on the standard error until its context ends."""
        if self._quiet:
            return nullcontext(NullReporter())
        return RichReporter(Console(stderr=True))

    def line(self, text: str) -> None:
        """Print a line of the summary as it is, whatever the console's width."""
        self.show(text)

    def show(self, part: RenderableType) -> None:
        """Print a part of the summary, such as a table."""
        if not (self._as_json or self._quiet):
            _print(Console(), part)

    def notice(self, text: str) -> None:
        """Print a line on what was skipped, changed or left out."""
        _print(Console(stderr=self._as_json or self._quiet), text)

    def summary(self, content: Mapping[str, object]) -> None:
        """Write the line of JSON, if it was asked for. NaN becomes null, a path its text."""
        if self._as_json:
            text = json.dumps(_plain(content), ensure_ascii=False, allow_nan=False)
            # Names of files may hold bytes that are no UTF-8.
            self._results.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
            self._results.flush()


def one_line(error: Exception) -> str:
    """The message of an error without line breaks."""
    return " ".join(str(error).split())


def _print(console: Console, part: RenderableType) -> None:
    if isinstance(part, str):
        console.print(part, soft_wrap=True, highlight=False, markup=False)
    else:
        console.print(part)


def _plain(value: object) -> object:
    """A value in JSON's types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
