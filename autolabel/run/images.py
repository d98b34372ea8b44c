"""What is to be labelled: a folder, a COCO JSON, or a dataset in FiftyOne."""

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from integrations.formats.coco import read_coco
from integrations.images import find_images
from regionspot.errors import InputError

FIFTYONE_PREFIX = "fiftyone:"


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image to label.

    Attributes:
        id: kept from a COCO input; else counted from 1 in the dataset's order.
        file_name: relative to the dataset's root, with forward slashes.
        sample_id: FiftyOne's id of it, where the dataset lies there; else empty.
    """

    id: int
    file_name: str
    sample_id: str = ""


@dataclass(frozen=True)
class Omitted:
    """Something of the dataset that is left out.

    Attributes:
        file_name: relative to the dataset's root; a folder's ends with a slash.
        reason: one line.
    """

    file_name: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Images in a fixed order.

    Attributes:
        kind: `folder`, `coco` or `fiftyone`.
        source: the folder, the JSON's path, or FiftyOne's name of the dataset.
        name: what a run over it is called unless told otherwise.
        root: absolute folder that file names are relative to.
        images: all images that were found.
        omitted: what was left out while looking.
    """

    kind: str
    source: str
    name: str
    root: Path
    images: tuple[ImageRef, ...]
    omitted: tuple[Omitted, ...] = ()

    def path(self, image: ImageRef) -> Path:
        """Where an image lies."""
        return self.root / image.file_name

    def sha256(self) -> str:
        """Of all names, ids and file sizes: tells whether a run goes on over the same images."""
        digest = hashlib.sha256()
        for image in self.images:
            try:
                size = self.path(image).stat().st_size
            except OSError:
                size = -1
            digest.update(json.dumps([image.id, image.file_name, size]).encode())
        return digest.hexdigest()


def open_dataset(source: str, images: Path | None = None) -> Dataset:
    """List the images of a dataset.

    Args:
        source: a folder, a COCO JSON, or `fiftyone:NAME`.
        images: the folder of the images that a COCO JSON names.

    Raises:
        InputError: there is no such dataset, it holds no image, or `images` does not go with it.
    """
    is_coco = source.lower().endswith(".json")
    if images is not None and not is_coco:
        raise InputError(f"--images goes with a COCO JSON, and {source} is none")
    if source.startswith(FIFTYONE_PREFIX):
        dataset = _open_fiftyone(source.removeprefix(FIFTYONE_PREFIX))
    elif is_coco:
        dataset = _open_coco(Path(source), images)
    else:
        dataset = _open_folder(Path(source))
    if not dataset.images and not dataset.omitted:
        raise InputError(f"{source} holds no image")
    return dataset


def _open_folder(folder: Path) -> Dataset:
    if folder.is_file():
        raise InputError(f"{folder} is a file; give its folder, or a COCO JSON")
    listing = find_images(folder)
    images = tuple(
        ImageRef(number, path.relative_to(folder).as_posix())
        for number, path in enumerate(listing.images, start=1)
    )
    omitted = tuple(Omitted(_printable(item.path, folder), item.reason) for item in listing.skipped)
    root = Path(os.path.realpath(folder))
    return Dataset("folder", str(folder), root.name or "images", root, images, omitted)


def _printable(path: Path, folder: Path) -> str:
    """A name that can be written as UTF-8, whatever bytes the file system holds."""
    name = path.relative_to(folder).as_posix() + ("/" if path.is_dir() else "")
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _open_coco(path: Path, folder: Path | None) -> Dataset:
    if folder is None:
        raise InputError(f"{path} needs --images DIR, the folder of the images that it names")
    if not folder.is_dir():
        raise InputError(f"--images {folder} is not a folder")
    images = tuple(ImageRef(each.id, each.file_name) for each in read_coco(path, folder).images)
    twice = [name for name, count in Counter(i.file_name for i in images).items() if count > 1]
    if twice:
        raise InputError(f"{path} lists {twice[0]!r} under more than one id; list each image once")
    return Dataset("coco", str(path), path.stem, Path(os.path.realpath(folder)), images)


def _open_fiftyone(name: str) -> Dataset:
    from integrations.fiftyone.session import list_samples  # FiftyOne takes seconds to import

    samples = list_samples(name)
    folders = {str(Path(path).parent) for path, _ in samples}
    root = Path(os.path.commonpath(folders)) if folders else Path("/")
    images = tuple(
        ImageRef(number, Path(path).relative_to(root).as_posix(), sample_id)
        for number, (path, sample_id) in enumerate(samples, start=1)
    )
    return Dataset("fiftyone", name, name, root, images)
