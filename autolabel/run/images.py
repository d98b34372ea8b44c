"""The images of a run: a folder, an image, a list of paths, a COCO JSON or a FiftyOne dataset."""

import codecs
import dataclasses
import hashlib
import itertools
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autolabel.storage import is_url, local_copy
from integrations.fiftyone.session import FIFTYONE_PREFIX, list_samples
from integrations.formats.coco import read_coco_images
from integrations.image_kinds import why_unread
from integrations.images import expect_folder, find_images
from integrations.progress import NullReporter, Reporter
from regionspot.errors import InputError
from regionspot.files import relative_problem

STANDARD_INPUT = "-"
LIST_SUFFIX = ".txt"  # of a list of paths
_SOURCES = (
    "a folder of images, an image, a .txt list of paths, a COCO JSON, fiftyone:NAME, or the "
    "URL of a folder of images"
)
_BLOCK = 4096  # bytes
# Kinds whose root is the folder that all images have in common, so that a new image may change it.
MOVING_ROOTS = ("files", "fiftyone")


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image to label.

    Attributes:
        id: that of a COCO input, else counted from 1 in the source's order.
        file_name: relative to the source's root, with forward slashes.
        sample_id: FiftyOne's id of the sample; empty where the images are not in FiftyOne.
        width, height: in pixels as a COCO input states them; 0 where nothing does.
    """

    id: int
    file_name: str
    sample_id: str = ""
    width: int = field(default=0, compare=False)
    height: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SkippedEntry:
    """A line of `skipped.jsonl`.

    Attributes:
        file_name: relative to the source's root; a folder's ends with a slash.
        reason: one line.
        image_id: None for what was left out while the images were listed.
    """

    file_name: str
    reason: str
    image_id: int | None = None


@dataclass(frozen=True)
class ImageSource:
    """Images in a fixed order.

    Attributes:
        kind: `folder`, `files`, `coco` or `fiftyone`.
        name: the default name of a run over these images.
        root: absolute folder that file names are relative to.
        skipped: what was left out while the images were listed.
        other_files: number of files in the folder that are no images, by suffix.
        listed: number of images, also of those behind a limit.
        gone: ids of the images that `with_gone` added.
    """

    kind: str
    name: str
    root: Path
    images: tuple[ImageRef, ...]
    skipped: tuple[SkippedEntry, ...] = ()
    other_files: Mapping[str, int] = field(default_factory=dict)
    listed: int = 0
    gone: frozenset[int] = frozenset()

    @property
    def is_limited(self) -> bool:
        """Whether only the first of the images are to be labelled."""
        return len(self.images) < self.listed

    def first(self, limit: int | None) -> "ImageSource":
        """The source with no more than a number of images."""
        return dataclasses.replace(self, images=self.images[:limit], listed=len(self.images))

    def only(self, sample_ids: Collection[str]) -> "ImageSource":
        """The source with the images of some of FiftyOne's samples, under the ids they have."""
        return dataclasses.replace(
            self, images=tuple(each for each in self.images if each.sample_id in sample_ids)
        )

    def path(self, image: ImageRef) -> Path:
        """Absolute path of an image."""
        return self.root / image.file_name

    def missing(self) -> tuple[Path, ...]:
        """Paths of the images that are not where a run would look for them."""
        return tuple(path for path in map(self.path, self.images) if not path.is_file())

    def sha256(self) -> str:
        """Hash of all names, ids, stated and file sizes, and samples of the content.

        A resumed run must have the same.
        """
        digest = hashlib.sha256()
        for image in self.images:
            row = [image.id, image.file_name, self.content(image)]
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    def content(self, image: ImageRef) -> str:
        """What an image's file, and the size that is stated for it, are known by."""
        stated = f"-{image.width}x{image.height}" if image.width and image.height else ""
        return content_of(self.path(image)) + stated

    def sha256_of(self, image: ImageRef) -> str:
        """Hash of all bytes of an image's file; that of one that cannot be read is fixed."""
        try:
            with self.path(image).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return "none"

    def with_gone(self, earlier: Sequence[ImageRef], root: Path) -> "ImageSource":
        """The source with those images of an earlier listing that it does not list any more.

        Each is where the listing would have it: in the order of a folder, else behind the image
        that it came after. Ids are counted anew, except those of a COCO input: a gone image keeps
        its own, or gets one that is free.

        Args:
            earlier: images in their order.
            root: absolute folder that their names are relative to.
        """
        paths = {self.path(each) for each in self.images}
        samples = {each.sample_id for each in self.images if each.sample_id}
        gone = [
            root / each.file_name not in paths and each.sample_id not in samples for each in earlier
        ]
        if not any(gone):
            return self
        behind: defaultdict[Path | None, list[tuple[Path, ImageRef]]] = defaultdict(list)
        last: Path | None = None
        for ref, is_gone in zip(earlier, gone, strict=True):
            if is_gone:
                behind[last].append((root / ref.file_name, ref))
            else:
                last = root / ref.file_name
        pairs = list(behind[None])
        for each in self.images:
            pairs += [(self.path(each), each), *behind.pop(self.path(each), [])]
        if self.kind == "folder":
            pairs.sort(key=lambda pair: pair[0].relative_to(self.root).parts)
        return self._of_paths(pairs)

    def _of_paths(self, pairs: Sequence[tuple[Path, ImageRef]]) -> "ImageSource":
        """The source with these absolute paths as its images, their ids and their root anew."""
        root = self.root
        if self.kind in MOVING_ROOTS:
            root = Path(os.path.commonpath([path.parent for path, _ in pairs]))
        ids = list(range(1, len(pairs) + 1))
        if self.kind == "coco":
            taken = {each.id for each in self.images}
            free = itertools.count(max(taken | {ref.id for _, ref in pairs}) + 1)
            listed = set(self.images)
            ids = [
                ref.id if ref in listed or ref.id not in taken else next(free) for _, ref in pairs
            ]
        images = tuple(
            dataclasses.replace(ref, id=number, file_name=path.relative_to(root).as_posix())
            for number, (path, ref) in zip(ids, pairs, strict=True)
        )
        there = set(map(self.path, self.images))
        gone = (each.id for each in images if root / each.file_name not in there)
        return dataclasses.replace(self, root=root, images=images, gone=frozenset(gone))


def content_of(path: Path) -> str:
    """Size and hash of samples of a file's content; that of a file that cannot be read is fixed."""
    try:
        size = path.stat().st_size
        sampled = _sampled_content(path, size)
    except OSError:
        size, sampled = -1, b""
    return f"{size}-{hashlib.sha256(sampled).hexdigest()}"


def is_same_content(stored: str, found: str) -> bool:
    """Whether an image is as it was when its regions were computed.

    Args:
        stored: what its shard has: size, samples and boxes, a space, and the hash of all bytes.
        found: of the image now: the same, or without the hash of all bytes, which is not compared.
    """
    sampled, is_whole, _ = stored.partition(" ")
    return stored == found if " " in found else bool(is_whole) and sampled == found


def _sampled_content(path: Path, size: int) -> bytes:
    """A block from the beginning, the middle and the end of a file, or all of a small one."""
    with path.open("rb") as file:
        if size <= 3 * _BLOCK:
            return file.read()
        blocks = []
        for start in (0, size // 2, size - _BLOCK):
            file.seek(start)
            blocks.append(file.read(_BLOCK))
        return b"".join(blocks)


def open_source(
    source: str | Sequence[Path],
    folder: Path | None = None,
    reporter: Reporter | None = None,
    limit: int | None = None,
) -> ImageSource:
    """List the images of a source.

    Args:
        source: a folder, an image, a `.txt` file that lists paths of images (one a line, relative
            to the file's folder), `-` for such a list on standard input (relative to the current
            folder), a COCO JSON, `fiftyone:NAME`, the URL of a folder of images or of an image, or
            paths of image files.
        folder: of the images that a COCO JSON names.
        reporter: receives the progress of fetching images by URL.
        limit: number of the first images to fetch by URL; None: all.

    Raises:
        InputError: there is no such source, it holds no image, a path of a list is none, or
            `folder` does not go with it.
    """
    is_coco = isinstance(source, str) and source.lower().endswith(".json")
    if folder is not None and not is_coco:
        raise InputError(f"--images goes with a COCO JSON, and {source} is none")
    if is_url(source):
        source = str(local_copy(str(source), reporter or NullReporter(), limit))
    if not isinstance(source, str):
        found = _open_files(source)
    elif source == STANDARD_INPUT:
        paths = _listed_paths(sys.stdin.buffer.read(), Path(), "standard input")
        found = _open_files(paths, where="standard input")
    elif source.startswith(FIFTYONE_PREFIX):
        found = _open_fiftyone(source.removeprefix(FIFTYONE_PREFIX))
    elif is_coco:
        found = _open_coco(Path(source), folder)
    elif Path(source).is_file():
        found = _open_file(Path(source))
    else:
        found = _open_folder(Path(source))
    found = _without_odd_names(found)
    if not found.images and not found.skipped:
        raise InputError(_no_image(found, source))
    return found


def _without_odd_names(found: ImageSource) -> ImageSource:
    """The source without images whose names label files may not hold, which are skipped."""
    problems = {image: relative_problem(image.file_name) for image in found.images}
    odd = [
        SkippedEntry(each.file_name, f"{why}; rename it") for each, why in problems.items() if why
    ]
    if not odd:
        return found
    images = tuple(image for image, why in problems.items() if not why)
    return dataclasses.replace(found, images=images, skipped=(*found.skipped, *odd))


def _open_file(path: Path) -> ImageSource:
    """The one image that a file is, or the images whose paths it lists."""
    if path.suffix.lower() == LIST_SUFFIX:
        paths = _listed_paths(path.read_bytes(), path.parent, str(path))
        return _open_files(paths, path.stem, str(path))
    reason = why_unread(path)
    if reason == "":
        raise InputError(f"{path} is no image; give {_SOURCES}")
    if reason is not None:
        raise InputError(f"{path} cannot be read: {reason}")
    return _open_files([path], path.stem)


def _listed_paths(content: bytes, folder: Path, where: str) -> list[Path]:
    """The paths of a list, one a line, or each ended by a zero byte, as `find -print0` does.

    Args:
        content: of the list, UTF-8.
        folder: that relative paths start from.
        where: what the list is, for messages.

    Raises:
        InputError: the list is not UTF-8, or a path is no file's.
    """
    unit, end = ("entry", b"\0") if b"\0" in content else ("line", b"\n")
    paths = []
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(end), start=1):
        place = f"{where}: {unit} {number}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{place} is not UTF-8; rename the image, or save it so") from error
        text = text if unit == "entry" else text.removesuffix("\r")
        if not text.strip():
            continue
        path = folder / text
        if not path.is_file():
            state = "is a folder" if path.is_dir() else "is not there"
            raise InputError(f"{place}: {path} {state}; list paths of image files")
        paths.append(path)
    return paths


def _open_files(
    paths: Sequence[Path], name: str = "", where: str = "the list of images"
) -> ImageSource:
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"{missing[0]} is not there; give paths of image files")
    # Without links to folders and "..", so that one image has one name below the root.
    absolute = [Path(os.path.realpath(path.parent)) / path.name for path in paths]
    root = Path(os.path.commonpath([path.parent for path in absolute])) if paths else Path()
    names = [path.relative_to(root).as_posix() for path in absolute]
    _refuse_twice(names, where)
    return ImageSource("files", name or root.name or "images", root, _counted(names))


def _open_folder(folder: Path) -> ImageSource:
    if not folder.exists():
        raise InputError(f"{folder} is not there: give {_SOURCES}")
    listing = find_images(folder)
    images = _counted([path.relative_to(folder).as_posix() for path in listing.images])
    skipped = tuple(SkippedEntry(_printable(e.path, folder), e.reason) for e in listing.skipped)
    root = Path(os.path.realpath(folder))
    name = root.name or "images"
    return ImageSource("folder", name, root, images, skipped, listing.other_files)


def _open_coco(path: Path, folder: Path | None) -> ImageSource:
    if folder is None:
        raise InputError(f"{path} needs --images DIR, the folder of the images that it names")
    expect_folder(folder, "the folder of the images with --images")
    images = tuple(
        ImageRef(each.id, each.file_name, width=each.width, height=each.height)
        for each in read_coco_images(path, folder)
    )
    _refuse_twice([image.file_name for image in images], str(path))
    return ImageSource("coco", path.stem, Path(os.path.realpath(folder)), images)


def _open_fiftyone(name: str) -> ImageSource:
    samples = list_samples(name)
    folders = {str(Path(path).parent) for path, _ in samples}
    root = Path(os.path.commonpath(folders)) if folders else Path("/")
    images = tuple(
        ImageRef(number, Path(path).relative_to(root).as_posix(), sample_id)
        for number, (path, sample_id) in enumerate(samples, start=1)
    )
    return ImageSource("fiftyone", name, root, images)


def _no_image(found: ImageSource, source: str | Sequence[Path]) -> str:
    kinds = [f"{count} {suffix or 'no suffix'}" for suffix, count in found.other_files.items()]
    others = f"; it holds {', '.join(kinds)}" if kinds else ""
    where = "standard input" if source == STANDARD_INPUT else source or "the list of images"
    return f"{where} holds no image{others}"


def _counted(names: Sequence[str]) -> tuple[ImageRef, ...]:
    return tuple(ImageRef(number, name) for number, name in enumerate(names, start=1))


def _refuse_twice(names: Sequence[str], where: str) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{where} lists {twice[0]!r} under more than one id; list each image once")


def _printable(path: Path, folder: Path) -> str:
    """A name that can be written as UTF-8, whatever bytes the file system holds."""
    name = path.relative_to(folder).as_posix() + ("/" if path.is_dir() else "")
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
