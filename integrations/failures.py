"""How a command ends that could not do its work: one line, and an exit code.

`InputError` is for what a user gave. This is for what the system refuses: a full disk, missing
permissions, memory, a database that is gone. Whatever else is raised is a fault of the program.
"""

import contextlib
import errno
import os
import re
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup

from integrations.text import printable

EXIT_NOT_STARTED, EXIT_UNFINISHED = 1, 4
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
AGAIN = "the same command then goes on"
_LONGEST = 300  # characters of another library's message

_MENDS = {
    errno.ENOSPC: f"free some space; {AGAIN}",
    errno.EDQUOT: f"free some space; {AGAIN}",
    errno.EFBIG: "choose a folder on another file system",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "give yourself the permission, or choose another place",
    errno.EPERM: "give yourself the permission, or choose another place",
    errno.ENOENT: f"it has vanished, or never was there; bring it back, and {AGAIN}",
    errno.ENOTDIR: "a folder on the way is a file; choose another place",
    errno.EISDIR: "move the folder away, or choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: f"raise the limit with `ulimit -n`; {AGAIN}",
    errno.ENFILE: f"close other programs; {AGAIN}",
    errno.ENOMEM: f"close other programs, or give smaller images; {AGAIN}",
}
_DATABASE = ("pymongo", "mongoengine")
_RUST = re.compile(r"\(os error (\d+)\)")
# How libraries in C++ say that there is not enough memory.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")


class Failure(NamedTuple):
    """How a command ends.

    Attributes:
        line: what happened and what to do, without line breaks.
        code: of the process.
    """

    line: str
    code: int


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def raise_at_sigterm() -> None:
    """Let SIGTERM raise `Terminated` in this process; in processes it forks, it ends them."""
    here = os.getpid()

    def end(number: int, _: FrameType | None) -> NoReturn:
        if os.getpid() != here:
            os._exit(128 + number)
        raise Terminated

    signal.signal(signal.SIGTERM, end)


class CommandGroup(TyperGroup):
    """A group of commands that reports in one line what they could not do."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the options in front of a command."""
        with _printable_usage():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with _printable_usage():
                return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            command = f"{ctx.command_path} {ctx.invoked_subcommand or ''}".strip()
            if (code := report(error, command)) is None:
                raise
            raise typer.Exit(code) from error


@contextlib.contextmanager
def _printable_usage() -> Iterator[None]:
    """Escape what messages on the usage of a command repeat of its arguments."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and isinstance(getattr(error, "message", None), str):
            error.message = printable(error.message)  # type: ignore[attr-defined]
        raise


def failure_of(error: BaseException, command: str = "") -> Failure | None:
    """How a command ends that raised this; None where it is a fault of the program.

    Notes that were added to the error are part of the line.

    Args:
        error: that ended the command.
        command: as it was given, without its options; empty where that is not known.
    """
    found = _describe(error, command)
    if found is None:
        return None
    notes = getattr(error, "__notes__", ())
    return Failure(one_line("; ".join((found.line, *notes))), found.code)


def report(error: BaseException, command: str = "") -> int | None:
    """Print how a command ends, and return its exit code; arguments and None as `failure_of`."""
    failure = failure_of(error, command)
    if failure is None:
        return None
    what = "" if isinstance(error, KeyboardInterrupt) else "error: "
    sys.stderr.write(f"{what}{failure.line}\n")
    return failure.code


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """End a command of one module by what its block raises, as `report` has it.

    Raises:
        typer.Exit: what was raised is no fault of the program.
    """
    try:
        yield
    except Exception as error:
        if (code := report(error)) is None:
            raise
        raise typer.Exit(code) from error


def _describe(error: BaseException, command: str) -> Failure | None:
    if isinstance(error, KeyboardInterrupt):
        code = EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
        what = f"`{command}`" if command else "the same command"
        return Failure(f"stopped; give {what} again, which keeps what is finished", code)
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return Failure(f"the memory is full; {_MENDS[errno.ENOMEM]}", EXIT_UNFINISHED)
    if isinstance(error, OSError):
        return None if error.errno == errno.EPIPE else Failure(_of_system(error), EXIT_UNFINISHED)
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        text = f"{error.object!r:.{_LONGEST}} holds a name that is not UTF-8; rename what it names"
        return Failure(text, EXIT_NOT_STARTED)
    if type(error).__module__.startswith(_DATABASE):
        # The topology of the servers follows, which nobody asked for.
        what = str(error).split(" (configured", 1)[0].split(", Timeout:", 1)[0]
        text = f"FiftyOne's database fails ({what:.{_LONGEST}}); start it again, and {AGAIN}"
        return Failure(text, EXIT_UNFINISHED)
    if isinstance(error, ValueError):
        from regionspot.errors import InputError  # brings torch, which takes seconds

        return Failure(str(error), EXIT_NOT_STARTED) if isinstance(error, InputError) else None
    if found := _RUST.search(str(error)):  # of safetensors
        number = int(found[1])
        return Failure(_of_system(OSError(number, os.strerror(number))), EXIT_UNFINISHED)
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _NO_MEMORY)


def _of_system(error: OSError) -> str:
    mend = _MENDS.get(error.errno or 0, f"mend that; {AGAIN}")
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return f"{error.strerror or error}; {mend}"
    return f"{os.fsdecode(error.filename)}: {error.strerror}; {mend}"


def one_line(text: object) -> str:
    """A message without line breaks, and with nothing in it that a terminal obeys."""
    return printable(" ".join(str(text).split()))
