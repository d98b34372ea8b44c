"""`autolabel convert`: labels from one format to another, with or without their images."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from integrations.annotations import LabelledImage, ReadOptions, Tally
from integrations.formats.registry import Format, format_named, read_labels, write_folder
from integrations.images import UnreadableImage, check_stated_size, image_size
from integrations.split import Split, group_images, parse_shares
from regionspot.errors import InputError
from regionspot.files import free_output, path_inside

ImageMode = Literal["leave", "copy", "link"]
_LOOKED_FOR = 20  # images


@dataclass(frozen=True)
class Exported:
    """A label set that was written.

    Attributes:
        path: of the file or folder.
        images: number of images.
        annotations: number of labels.
        tally: what was changed and left out.
    """

    path: Path
    images: int
    annotations: int
    tally: Tally


def convert(
    source: Path,
    out: Path,
    *,
    from_format: str,
    to_format: str,
    folder: Path | None = None,
    images: ImageMode = "leave",
    overwrite: bool = False,
    strict: bool = False,
    limit: int | None = None,
    annotator: str | None = None,
    task: str | None = None,
    split: str | None = None,
    seed: int = 0,
) -> Exported:
    """Read a label set and write it in another format.

    Args:
        source: the file or folder of labels; of an export, its folder.
        out: a folder, or for COCO and LVIS a name that ends with .json.
        from_format: name of the format that is read.
        to_format: name of the format that is written.
        folder: of the images; None: where the format has them beside its labels, if they are there.
        images: whether the images stay, or are copied or linked beside the new labels.
        overwrite: whether an earlier output is replaced.
        strict: whether anything that would be changed or left out is an error.
        limit: number of the first images to write; None: all.
        annotator: of Label Studio, whose annotations are read, by email or id.
        task: what YOLO's lines mean: detect, track, segment, pose or obb; None: as `data.yaml` and
            all lines together say.
        split: share of train, or of train and val, for YOLO's formats: "0.8", "0.8,0.1".
        seed: of the split.

    Raises:
        InputError: the set cannot be read or written, an image is missing, or `out` is there.
    """
    reader, writer = format_named(from_format), format_named(to_format)
    beside = (source if source.is_dir() else source.parent) / reader.images
    where = folder or (beside if beside.is_dir() else None)
    options = ReadOptions(strict=strict, annotator=annotator, task=task)
    data = read_labels(reader, source, where, options)
    if folder is None and reader.is_file:
        where = _folder_of(data.images, (beside, beside.parent, beside.parent / "data")) or where
    where = data.folder or where
    if split is not None:
        groups = group_images([image.file_name for image in data.images], where)
        writer = writer.with_split(Split(parse_shares(split), seed, groups))
    place = image_placer(images, where)
    found = _with_sizes(data.images[:limit], where)
    if writer.is_file and out.suffix == ".json" and place is None:
        with free_output(out, overwrite=overwrite, option="OUT"):
            tally = writer.write(out, data.categories, found, data.info, data.tally)
    else:
        tally = write_folder(
            out, writer, data.categories, found, data.info, place, overwrite, data.tally
        )
    return exported(out, writer, tally)


def _folder_of(images: Sequence[LabelledImage], folders: Iterable[Path]) -> Path | None:
    """The first of some folders that has one of the first images; None where none has.

    Roboflow has its images beside the JSON file, FiftyOne in `data/`, and Label Studio's names
    begin with `images/`.
    """
    names = [image.file_name for image in images[:_LOOKED_FOR]]
    return next((each for each in folders if any((each / n).is_file() for n in names)), None)


def exported(out: Path, format: Format, tally: Tally) -> Exported:
    """Where a set was written, and its counts."""
    path = out / format.entries[0] if format.is_file and out.is_dir() else out
    return Exported(path, tally.images, tally.annotations, tally)


def image_placer(
    images: ImageMode, folder: Path | None
) -> Callable[[LabelledImage, Path], None] | None:
    """A function that copies or links an image of a folder to a path; None where images stay.

    Raises:
        InputError: the folder is not known; the function itself raises it for a missing image.
    """
    if images == "leave":
        return None
    if folder is None:
        raise InputError("the images are not beside the labels; say where with --images DIR")

    def place(image: LabelledImage, target: Path) -> None:
        source = path_inside(folder, image.file_name)
        if not source.is_file():
            raise InputError(f"{source} is not there; --images names the folder of the images")
        if images == "copy":
            shutil.copyfile(source, target)
        else:
            target.symlink_to(os.path.realpath(source))

    return place


def _with_sizes(images: Iterable[LabelledImage], folder: Path | None) -> Iterator[LabelledImage]:
    """Fill in sizes that the labels lack from the image files, and compare the others with them.

    Raises:
        InputError: an image is of another size than its labels say, so that they are those of
            another version of it.
    """
    for image in images:
        path = None if folder is None else path_inside(folder, image.file_name)
        if path is not None and (image.width < 1 or image.height < 1):
            width, height = image_size(path)
            image = dataclasses.replace(image, width=width, height=height)
        elif path is not None and path.is_file():
            _check_size(image, path)
        yield image


def _check_size(image: LabelledImage, path: Path) -> None:
    try:
        size = image_size(path)
    except UnreadableImage:  # labels of an image that cannot be opened stay what they are
        return
    check_stated_size(size, (image.width, image.height), path)
