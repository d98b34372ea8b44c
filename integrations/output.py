"""What a command prints: a summary for a person, or one line of JSON for a program."""

import contextlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from integrations.failures import failure_of
from integrations.progress import NullReporter, Reporter, RichReporter
from integrations.text import printable, printable_json


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
        if self._as_json and isinstance(error, KeyboardInterrupt):
            self.summary({"error": "stopped"})
        elif self._as_json and error is not None and (failure := failure_of(error)):
            self.summary({"error": failure.line})

    def progress(self) -> AbstractContextManager[Reporter]:
        """A reporter that shows progress on the standard error until its context ends."""
        if self._quiet:
            return nullcontext(NullReporter())
        return RichReporter(Console(stderr=True))

    def line(self, text: str) -> None:
        """Print a line of the summary, whatever the console's width."""
        if not (self._as_json or self._quiet):
            print_line(text)

    def show(self, table: Table) -> None:
        """Print a part of the summary as a table; see `cells`."""
        if not (self._as_json or self._quiet):
            Console().print(table)

    def notice(self, text: str) -> None:
        """Print a line on what was skipped, changed or left out."""
        print_line(text, to_stderr=self._as_json or self._quiet)

    def summary(self, content: Mapping[str, object]) -> None:
        """Write the line of JSON, if it was asked for. NaN becomes null, a path its text."""
        if self._as_json:
            text = json.dumps(_plain(content), ensure_ascii=False, allow_nan=False)
            self._results.write(printable_json(text) + "\n")
            self._results.flush()


def print_line(text: str, to_stderr: bool = False) -> None:
    """Print a line whatever the console's width; nothing in the text acts on a terminal."""
    stream = sys.stderr if to_stderr else sys.stdout
    stream.write(printable(text) + "\n")
    stream.flush()


def cells(*values: str) -> list[Text]:
    """Cells of a table that show the texts as they are, without markup."""
    return [Text(printable(value)) for value in values]


def _plain(value: object) -> object:
    """A value in JSON's types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
