"""Folders that land whole or not at all."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from regionspot.errors import InputError


@contextmanager
def folder_written_whole(
    out: Path, entries: Sequence[str], overwrite: bool = False
) -> Iterator[Path]:
    """Give an empty folder beside `out`, whose content takes its place in `out` at the end.

    Where `out` is not there yet, that is one rename; else it is one rename for each entry, in
    their order, and whatever else lies in `out` stays. Where the block raises, nothing is changed.

    Args:
        out: the folder that is asked for.
        entries: names of the files and folders that the block may write.
        overwrite: whether entries that are there are replaced.

    Raises:
        InputError: `out` is no folder, or an entry is there already.
    """
    out = Path(os.path.realpath(out))
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder")
    there = [name for name in entries if os.path.lexists(out / name)]
    if there and not overwrite:
        raise InputError(
            f"{out / there[0]} is there already; choose another --out, or say --overwrite"
        )
    temporary = out.with_name(f"{out.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if not out.exists():
            temporary.rename(out)
            return
        for name in entries:
            if not os.path.lexists(temporary / name):
                continue
            if os.path.lexists(out / name):
                (out / name).rename(temporary / f"{name}.old")
            (temporary / name).rename(out / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
