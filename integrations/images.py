"""Image files: finding them, their names in addresses, and reading them upright as RGB.

A box's frame is the image as a person sees it, after EXIF orientation. `read_image` and
`image_size` agree on that frame.
"""

import base64
import os
import struct
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from integrations.image_kinds import (
    HEIF,
    HEIF_MEND,
    HEIF_SUFFIXES,
    SUFFIXES,
    UNREAD_SUFFIXES,
    kind_of_content,
    reads_heif,
    why_unread,
)
from regionspot.errors import InputError
from regionspot.files import is_utf8, relative_problem
from regionspot.types import ImageArray

_QUARTER_TURNS = (5, 6, 7, 8)
_PNG_SIGNATURE = 8
# Chunks that may hold an orientation: EXIF, or XMP and EXIF as text.
_PNG_ORIENTATION = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")
# Servers that name the file in a parameter. Label Studio has all three.
_LOCAL_FILES, _UPLOADED, _PROXIED = "d", "filepath", "fileuri"


class UnreadableImage(InputError):  # noqa: N818  (it is a state of a file, listed as such)
    """An image that cannot be read; a run lists it and goes on.

    Attributes:
        path: of the file.
        reason: one line, without the path.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Skipped:
    """Something in a folder that was left out: an image, or a sub-folder with all in it."""

    path: Path
    reason: str


@dataclass(frozen=True)
class FolderListing:
    """What `find_images` found.

    Attributes:
        images: paths below the folder as it was given, in order of their parts.
        skipped: images and folders that were left out, in the same order.
        other_files: number of files that are no images, by suffix in small letters.
    """

    images: tuple[Path, ...]
    skipped: tuple[Skipped, ...]
    other_files: Mapping[str, int] = field(default_factory=dict)


def read_image(path: Path) -> ImageArray:
    """Read an image upright as RGB.

    Transparent parts become white, 16-bit grey is scaled to 8 bits, and of an animation the first
    frame is taken.

    Returns:
        (H, W, 3) uint8, contiguous and writable.

    Raises:
        UnreadableImage: whatever is wrong with the file.
    """
    try:
        with _open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except Exception as error:
        # Decoders answer to broken bytes with all kinds of exceptions, SyntaxError among them.
        raise UnreadableImage(path, _reason(path, error)) from error


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image in the frame of `read_image`, from its header.

    Raises:
        UnreadableImage: the header cannot be read. A sound header says nothing of the pixels.
    """
    try:
        with _open(path) as image:
            width, height = image.size
            # Pillow's TIFF reader swaps the sides itself.
            if image.format != "TIFF" and _orientation(path, image) in _QUARTER_TURNS:
                return height, width
            return width, height
    except Exception as error:
        raise UnreadableImage(path, _reason(path, error)) from error


def check_stated_size(
    size: tuple[int, int], stated: tuple[int, int], image: object = "the image"
) -> None:
    """Compare an image's size with the one that its labels or a list of images state.

    Args:
        size: width and height in the frame of `read_image`.
        stated: width and height; a side of 0 is not stated.
        image: what the message calls it, such as its path.

    Raises:
        InputError: they differ, so that the labels are those of another version of the image.
    """
    if size == stated or not all(stated):
        return
    why = "they are labels of another version of it; label it again or give its --images"
    if size == stated[::-1]:
        why = (
            "the sides are swapped: they are labels of the image as it is stored, before it is "
            "turned by its EXIF orientation; save the image without it"
        )
    raise InputError(
        f"{image} has {size[0]} x {size[1]} pixels, and its labels say "
        f"{stated[0]} x {stated[1]}: {why}"
    )


def file_name_of_address(address: str, parts: int = 1) -> str:
    """The name, relative to the images' folder, of the image at an address.

    A path is that name itself; `/data/local-files/?d=PATH` of Label Studio stands for PATH, behind
    any host. Of `http://`, `https://`, `file://`, `s3://` and the like, and of `/data/upload/`, the
    last parts of the path are taken, without a query such as that of a presigned URL. Backslashes
    become slashes.

    Args:
        address: as a label file has it.
        parts: how many parts of a path on a server the name keeps; COCO's `coco_url` needs 2, the
            folder of the split and the name.

    Raises:
        InputError: it names no file. Whether a name stays in its folder is left to
            `check_image_name`.
    """
    path, is_relative = _path_of_address(address)
    path = path.replace("\\", "/")
    if not is_relative:
        path = "/".join([part for part in path.split("/") if part][-parts:])
    if not path or path.endswith("/"):
        raise InputError(f"expected the address of an image file, got {address!r:.80}")
    return path


def _path_of_address(address: str) -> tuple[str, bool]:
    """The path of an address, and whether it is relative to the images' folder."""
    scheme, _, rest = address.partition("://")
    if address.startswith("data:"):
        return "", True
    if rest and scheme not in ("http", "https", "file"):
        return rest.partition("/")[2], False  # the key in a bucket, as it is
    try:
        url = urlsplit(address)
        query = parse_qs(url.query, keep_blank_values=True)
    except ValueError as error:
        raise InputError(f"expected the address of an image, got {address!r:.80}") from error
    if "/data/local-files" in url.path and _LOCAL_FILES in query:
        return query[_LOCAL_FILES][-1], True
    if "/storage-data/uploaded" in url.path and _UPLOADED in query:
        return query[_UPLOADED][-1], False
    if url.path.startswith(("/tasks/", "/api/tasks/")) and _PROXIED in query:
        try:
            return _path_of_address(base64.urlsafe_b64decode(query[_PROXIED][-1]).decode())
        except ValueError:
            return "", True
    if rest or address.startswith("/data/upload/"):
        return unquote(url.path), False
    return address, True


def find_images(folder: Path, linked: bool = False) -> FolderListing:
    """List the images below a folder by their suffix, in an order that no system changes.

    Images of a format that is not read, and files without an image's suffix whose content is an
    image, are skipped with a reason. Hidden files and folders are passed over. A link that leaves
    the folder is not followed; a linked sub-folder inside of it is not walked twice.

    Args:
        folder: searched with all folders below it.
        linked: whether links to single images elsewhere are followed, as `path_inside` allows.

    Raises:
        InputError: the folder itself is missing or cannot be listed.
    """
    expect_folder(folder, "a folder of images")
    root = os.path.realpath(folder)
    images: list[Path] = []
    skipped: list[Skipped] = []
    others: Counter[str] = Counter()
    waiting = [folder]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(below) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if below == folder:
                raise InputError(f"{folder} cannot be listed: {error.strerror}") from error
            skipped.append(Skipped(below, f"the folder cannot be listed: {error.strerror}"))
            continue
        for entry in visible:
            path = below / entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
                continue
            found = _take(entry, path, root, linked)
            if isinstance(found, Skipped):
                skipped.append(found)
            elif found is not None:
                problem = relative_problem(path.relative_to(folder).as_posix())
                if problem:
                    skipped.append(Skipped(path, f"{problem}; rename it"))
                else:
                    images.append(found)
            elif not entry.is_dir():
                others[_printable_suffix(path)] += 1
    return FolderListing(
        tuple(sorted(images, key=_order)),
        tuple(sorted(skipped, key=lambda item: _order(item.path))),
        dict(others.most_common()),
    )


def expect_folder(path: Path, what: str) -> None:
    """Make sure that a path is a folder.

    Args:
        path: that was given.
        what: to give instead, as the message says it.

    Raises:
        InputError: it is not there, or is a file.
    """
    if not path.is_dir():
        state = "is a file" if path.exists() else "is not there"
        raise InputError(f"{path} {state}: give {what}")


def _printable_suffix(path: Path) -> str:
    return path.suffix.lower().encode("utf-8", "backslashreplace").decode()


def _order(path: Path) -> tuple[str, ...]:
    return path.parts


def _take(entry: os.DirEntry[str], path: Path, root: str, linked: bool) -> Path | Skipped | None:
    """The image that an entry is, why it is left out, or None where it is no image at all."""
    suffix = path.suffix.lower()
    looks_like_image = suffix in SUFFIXES or suffix in HEIF_SUFFIXES or suffix in UNREAD_SUFFIXES
    if entry.is_symlink():
        is_folder = os.path.isdir(path)  # noqa: PTH112  (pathlib's raises on some broken links)
        leaves = os.path.commonpath((root, os.path.realpath(path))) != root
        if not looks_like_image and not is_folder and (leaves or not os.path.isfile(path)):  # noqa: PTH113
            return None
        if leaves and (is_folder or not linked):
            return Skipped(path, "a link that leaves the folder is not followed")
        if is_folder:
            return None
        if not os.path.isfile(path):  # noqa: PTH113
            return Skipped(path, "a link to nothing that can be read")
    elif not entry.is_file(follow_symlinks=False):
        return None
    try:
        reason = why_unread(path)
    except OSError:
        # What has an image's name and cannot be opened is found out when it is read.
        reason = None if looks_like_image else ""
    if reason == "":
        return None
    if reason is None and not is_utf8(str(path)):
        reason = "the file name is not UTF-8"
    return path if reason is None else Skipped(path, reason)


def _open(path: Path) -> Image.Image:
    # What matters Pillow raises. It warns of oddities that it copes with, and of large images below
    # the size at which it refuses them as decompression bombs.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        if _kind(path) == HEIF and reads_heif():
            return Image.open(path)
        raise


def _kind(path: Path) -> str:
    kind = kind_of_content(path)
    return kind[0] if kind else ""


def _orientation(path: Path, image: Image.Image) -> int:
    if image.format == "PNG" and _orientation_at_end(path):
        image.load()
    # A PNG's own `getexif` would always decode the whole image, to look behind the pixels.
    return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))


def _orientation_at_end(path: Path) -> bool:
    """Whether a PNG has a chunk after its pixels that may hold an orientation."""
    with path.open("rb") as file:
        file.seek(_PNG_SIGNATURE)
        seen_pixels = False
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if seen_pixels and kind in _PNG_ORIENTATION:
                return True
            seen_pixels = seen_pixels or kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)
    return False


def _to_rgb(image: Image.Image) -> ImageArray:
    if image.mode.startswith("I;16"):
        return _grey_to_rgb((np.asarray(image, np.uint32) + 128) // 257)
    if image.mode in ("I", "F"):
        grey = np.asarray(image)
        low, high = grey.min(), grey.max()
        limit = 65535 if image.mode == "I" else 1
        if not (low >= 0 and high <= limit):
            raise ValueError(
                f"32-bit pixels from {low:g} to {high:g}; save it with 8 or 16 bits a channel"
            )
        return _grey_to_rgb(np.rint(grey * (255 / limit)))
    if image.has_transparency_data:
        above = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return np.array(Image.alpha_composite(white, above).convert("RGB"))
    return np.array(image.convert("RGB"))


def _grey_to_rgb(grey: npt.NDArray[np.generic]) -> ImageArray:
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        if path.stat().st_size == 0:
            return "the file is empty"
        if _kind(path) == HEIF and not reads_heif():
            return HEIF_MEND
        return "not an image that can be read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return text or type(error).__name__
