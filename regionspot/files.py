"""Atomic writes: a file or folder takes its name once its content is complete and synced.

Until then the content lies beside the target under a temporary name, `NAME.PID.part`. Where the
block raises, that is removed and an older target stays.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from regionspot.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path for libraries that open the file themselves; missing folders are made.

    A block that writes nothing there leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        if temporary.exists():
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[TextIO]:
    """Open a text file (UTF-8, `\\n`) for an atomic write."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as out:
        yield out


@contextmanager
def atomic_write_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file for an atomic write."""
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        yield out


@contextmanager
def atomic_folder(out: Path, entries: Sequence[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `out`, whose content takes its place in `out` at the end.

    Where `out` does not exist yet, that is one rename; else one rename for each entry, in their
    order, and whatever else lies in `out` stays. Where the block raises, nothing is changed.

    Args:
        out: the target folder.
        entries: names of the files and folders that the block may write.
        overwrite: whether entries that exist are replaced.

    Raises:
        InputError: `out` is no folder, or an entry exists already.
    """
    out = Path(os.path.realpath(out))
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder")
    there = [name for name in entries if os.path.lexists(out / name)]
    if there and not overwrite:
        raise InputError(
            f"{out / there[0]} is there already; choose another --out, or say --overwrite"
        )
    temporary = _temporary(out)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _sync_tree(temporary)
        if not out.exists():
            temporary.rename(out)
            _sync(out.parent)
            return
        for name in entries:
            if not os.path.lexists(temporary / name):
                continue
            if os.path.lexists(out / name):
                (out / name).rename(temporary / f"{name}.old")
            (temporary / name).rename(out / name)
        _sync(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    """Flush a folder with all below it; what links point to was not written here."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if not (file := Path(parent, name)).is_symlink():
                _sync(file)
        _sync(Path(parent))
