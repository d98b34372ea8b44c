"""File names that stay inside their folder."""

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from regionspot.errors import InputError


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


def check_relative(name: str) -> None:
    """Refuse a file's name that could lead out of its folder, on any system.

    Raises:
        InputError: it is empty, absolute, climbs with `..`, or holds a NUL or a lone surrogate.
    """
    windows = PureWindowsPath(name)
    if not name or "\0" in name or not is_utf8(name):
        raise InputError(f"{name!r} is not the name of a file")
    if windows.drive or windows.root or PurePosixPath(name).root:
        raise InputError(f"{name!r} is absolute; expected a name relative to the images' folder")
    if ".." in windows.parts:
        raise InputError(f"{name!r} leaves the images' folder")


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
