"""What the system refuses is one line and an exit code; a fault of the program is not."""

import errno

import numpy as np
import pytest
import torch
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError

from integrations.failures import (
    EXIT_INTERRUPTED,
    EXIT_NOT_STARTED,
    EXIT_TERMINATED,
    EXIT_UNFINISHED,
    Terminated,
    failure_of,
)
from regionspot.errors import InputError

LOST = "127.0.0.1:1: refused (configured timeouts: x), Timeout: 30s, Topology Description: <...>"


def out_of_memory() -> BaseException:
    with pytest.raises(RuntimeError) as found:
        torch.empty(1 << 60, dtype=torch.uint8)
    return found.value


def out_of_memory_in_numpy() -> BaseException:
    with pytest.raises(MemoryError) as found:
        np.empty(1 << 60, np.uint8)
    return found.value


@pytest.mark.parametrize(
    ("error", "code", "parts"),
    [
        (InputError("a\nb \x1b"), EXIT_NOT_STARTED, ["a b \\x1b"]),
        (OSError(errno.ENOSPC, "No space", "/a/[/x]"), EXIT_UNFINISHED, ["/a/[/x]: No", "free"]),
        (OSError(errno.EROFS, "Read-only"), EXIT_UNFINISHED, ["Read-only; choose a folder"]),
        (PermissionError(errno.EACCES, "denied", b"/b"), EXIT_UNFINISHED, ["/b: denied", "perm"]),
        (FileNotFoundError(errno.ENOENT, "No such", "/c"), EXIT_UNFINISHED, ["/c", "vanished"]),
        (OSError("no number"), EXIT_UNFINISHED, ["no number; mend that"]),
        (MemoryError(), EXIT_UNFINISHED, ["memory"]),
        (out_of_memory(), EXIT_UNFINISHED, ["memory"]),
        (out_of_memory_in_numpy(), EXIT_UNFINISHED, ["memory"]),
        (ServerSelectionTimeoutError(LOST), EXIT_UNFINISHED, ["fails (127.0.0.1:1: refused)"]),
        (AutoReconnect("closed"), EXIT_UNFINISHED, ["database", "closed"]),
        (Exception("I/O (os error 28)"), EXIT_UNFINISHED, ["No space left", "free"]),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, ["stopped; give the same command again"]),
        (Terminated(), EXIT_TERMINATED, ["stopped; give the same command again"]),
    ],
)
def test_one_line_with_the_mend(error: BaseException, code: int, parts: list[str]) -> None:
    failure = failure_of(error)
    assert failure is not None
    assert failure.code == code
    assert len(failure.line.splitlines()) == 1
    assert "Topology" not in failure.line
    for part in parts:
        assert part in failure.line


def test_a_command_that_was_stopped_is_named() -> None:
    failure = failure_of(KeyboardInterrupt(), "autolabel export")
    assert failure is not None
    assert failure.line == "stopped; give `autolabel export` again, which keeps what is finished"


def test_a_name_that_cannot_be_written_is_one_line() -> None:
    with pytest.raises(UnicodeEncodeError) as found:
        "caf\udce9".encode()
    failure = failure_of(found.value)
    assert failure is not None
    assert "not UTF-8; rename" in failure.line


def test_notes_are_part_of_the_line() -> None:
    error = OSError(errno.ENOSPC, "full")
    error.add_note("the labels are in /r")
    failure = failure_of(error)
    assert failure is not None
    assert failure.line.endswith("; the labels are in /r")


@pytest.mark.parametrize("error", [KeyError("a"), RuntimeError("b"), BrokenPipeError(32, "pipe")])
def test_a_fault_of_the_program_is_none(error: BaseException) -> None:
    assert failure_of(error) is None
