"""Atomic writes: a file or folder takes its name once its content is complete and synced.

Until then the content lies beside the target under a hidden temporary name that nobody can guess
and that says which process writes it, `.autolabel-MACHINE-PID-TOKEN.part`. Where the block raises,
that is removed and an older target stays. What a killed process left is removed by the first write
of another process into the same folder; what belongs to a living process is not. `free_output` is
for what a command writes but once. `read_text` reads a text file. The last functions check file
names that come from outside: they stay in their folder.
"""

import ctypes
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, TextIO

from regionspot.errors import InputError
from regionspot.process import is_running, machine_id

_TEMPORARY = re.compile(
    r"\.autolabel-(?P<machine>[0-9a-f]+)-(?P<pid>\d+)-[0-9a-f]+\.(part|unfinished)"
)
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux's renameat2, RENAME_SWAP of macOS's renamex_np
_AT_FDCWD = -100
# Folders of which this process has removed what killed ones left.
_swept: set[str] = set()
# Outputs that killed processes had put in their place when they ended.
_unfinished: set[str] = set()

# Bytes, on the file systems of Linux, macOS and Windows.
_LONGEST_NAME, _LONGEST_PATH = 255, 4000


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path for libraries that open the file themselves; missing folders are made.

    A block that writes nothing there leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with _naming(path, temporary):
            yield temporary
            if temporary.exists():
                _sync(temporary)
                temporary.replace(path)
                _sync(path.parent)
    finally:
        with suppress(OSError):  # what hinders it has hindered the block, too
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

    That is one rename, or where `out` exists one exchange of the two folders, so that at every
    moment `out` is wholly as before or wholly new. Whatever else lies in `out` is linked into the
    new folder first. Where the block raises, nothing is changed.

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
    check_free(out, entries, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(out)
    try:
        with _naming(out, temporary):
            temporary.mkdir()
            yield temporary
            with free_output(out, entries, overwrite):
                _replace_folder(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(
    out: Path, entries: Sequence[str] = ("",), overwrite: bool = False, option: str = "--out"
) -> None:
    """Refuse what is there, but for the output of a process that was killed once it had written it.

    Args:
        out: a file, or the folder of the entries.
        entries: names in the folder.
        overwrite: whether they are replaced.
        option: by which another place is chosen.

    Raises:
        InputError: one of them is there.
    """
    there = [out / name for name in entries if os.path.lexists(out / name)]
    if not there or overwrite:
        return
    remove_leftovers(out.parent)
    if os.path.realpath(out) not in _unfinished:
        raise InputError(
            f"{there[0]} is there already; choose another {option}, or say --overwrite"
        )


@contextmanager
def free_output(
    out: Path, entries: Sequence[str] = ("",), overwrite: bool = False, option: str = "--out"
) -> Iterator[None]:
    """Write what may not be there yet; see `check_free` for the arguments and the error.

    A file beside it says so until the block has ended. Where a process is killed, or its disk is
    full, between the last rename and that end, the same command writes the output once more.
    """
    check_free(out, entries, overwrite, option)
    if overwrite:
        yield
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    mark = _temporary(out).with_suffix(".unfinished")
    written = os.path.realpath(out)
    try:
        mark.write_text(out.name, encoding="utf-8", errors="surrogateescape")
        yield
    except BaseException:
        if any(os.path.lexists(out / name) for name in entries):
            _unfinished.add(written)
        else:
            mark.unlink(missing_ok=True)
        raise
    mark.unlink(missing_ok=True)
    _unfinished.discard(written)


def _replace_folder(new: Path, out: Path) -> None:
    """Give a folder the name `out`, with what else lies in a folder that has it."""
    if out.exists():
        for path in out.iterdir():
            if not os.path.lexists(new / path.name) and not _TEMPORARY.match(path.name):
                _link_tree(path, new / path.name)
        new.chmod(out.stat().st_mode & 0o7777)
    _sync_tree(new)
    if out.exists():
        _exchange(new, out)
    else:
        new.rename(out)
    _sync(out.parent)


@contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Let errors name the target, and not the temporary file; some of the system's name nothing."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        name = error.filename
        if name is None and error.errno is not None:
            error.filename = str(path)
        elif isinstance(name, str) and name.startswith(str(temporary)):
            error.filename = str(path) + name.removeprefix(str(temporary))
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in a folder that killed processes left there."""
    for path in folder.glob(".autolabel-*"):
        found = _TEMPORARY.fullmatch(path.name)
        try:
            if found is None:
                continue
            if is_running(found["machine"], int(found["pid"]), path.stat().st_mtime):
                continue
            if path.suffix == ".unfinished":
                name = path.read_text(encoding="utf-8", errors="surrogateescape")
                _unfinished.add(os.path.realpath(folder / name))
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:  # another process removes it, too, or the disk is read-only
            continue


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, without a byte order mark.

    Raises:
        InputError: it cannot be read, or is not UTF-8; the message names the line.
    """
    try:
        raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, byte = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise InputError(
            f"{path}: line {line}: byte {byte} of the line is not UTF-8; save the file as UTF-8"
        ) from error


def _temporary(path: Path) -> Path:
    folder = path.parent
    if (key := os.path.realpath(folder)) not in _swept:
        remove_leftovers(folder)
        _swept.add(key)
    return folder / f".autolabel-{machine_id()}-{os.getpid()}-{secrets.token_hex(8)}.part"


def _link_tree(source: Path, target: Path) -> None:
    """The same files below another folder: hard links, or copies where there can be none."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir()
        for path in source.iterdir():
            _link_tree(path, target / path.name)
        shutil.copystat(source, target)
    else:
        link_or_copy(source, target)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name: a hard link, or a copy where the file system has none.

    Raises:
        FileNotFoundError: the file is not there.
    """
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)


def _exchange(new: Path, old: Path) -> None:
    """Exchange the names of two folders at once.

    A file system without that operation gets two renames; a process that is killed between them
    leaves the old folder as `NAME.old-TOKEN`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(new), os.fsencode(old)
    if sys.platform == "darwin":
        failed = libc.renamex_np(first, second, _EXCHANGE)
    else:
        failed = libc.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _EXCHANGE)
    if failed:
        aside = old.with_name(f"{old.name}.old-{secrets.token_hex(4)}")
        old.rename(aside)
        new.rename(old)
        shutil.rmtree(aside)


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


def path_inside(folder: Path, name: str) -> Path:
    """`folder / name`, made sure that the name picks nothing outside of `folder`.

    Folders on the way are checked after all links are followed. A file may itself be a link to
    anywhere, as `--link` makes them: whoever put it there chose that one file, and no name that
    somebody wrote into a JSON can. Through a link to a folder, a name could pick any file below it.

    Raises:
        InputError: it leaves the folder, or is no name of a file.
    """
    check_relative(name)
    path = folder / name
    root = os.path.realpath(folder)
    if os.path.commonpath((root, os.path.realpath(path if path.is_dir() else path.parent))) != root:
        raise InputError(
            f"{name!r} leaves {folder} by a link to a folder; link or copy its files one by one"
        )
    return path


def path_exists(path: Path) -> bool:
    """Whether there is a file or folder; a name that none can have, such as a long one, is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def relative_problem(name: str) -> str:
    """Why a file's name could lead out of its folder, or is none; empty where it is sound."""
    windows = PureWindowsPath(name)
    if not name or "\0" in name or not is_utf8(name):
        return f"{name!r} is not the name of a file"
    if len(name.encode()) > _LONGEST_PATH or any(
        len(part.encode()) > _LONGEST_NAME for part in windows.parts
    ):
        return f"{name[:40]!r}... is longer than the name of a file can be"
    # `1:30.jpg` is a file's name but on Windows, where it is one on the drive `1:`.
    if windows.root or PurePosixPath(name).root or (os.name == "nt" and windows.drive):
        return f"{name!r} is absolute; expected a name relative to the images' folder"
    if ".." in windows.parts:
        return f"{name!r} leaves the images' folder"
    return ""


def check_relative(name: str) -> None:
    """Refuse a file's name that could lead out of its folder.

    Raises:
        InputError: it is empty, absolute on any system, climbs with `..`, or holds a NUL or a lone
            surrogate.
    """
    if problem := relative_problem(name):
        raise InputError(problem)


def check_image_name(name: str, folder: Path | None, where: str) -> None:
    """Refuse the name that a label file gives an image, if it leaves the images' folder.

    Args:
        name: relative to the images' folder.
        folder: of the images; where it is given, links out of it are refused too.
        where: what the message begins with.

    Raises:
        InputError: the name leaves the folder, or is no name of a file.
    """
    try:
        check_relative(name)
        if folder is not None:
            path_inside(folder, name)
    except InputError as error:
        raise InputError(f"{where} {error}") from error


def is_utf8(name: str) -> bool:
    """Whether a name that the system gave can be written to a file of text."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
