"""All formats by name: how each is read and written, and where its images lie."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from integrations.annotations import Category, LabelledImage, LabelledSet
from integrations.formats import cvat, fiftyone_dataset, label_studio, voc, yolo
from integrations.formats.coco import read_coco, write_coco
from integrations.formats.coco_writer import Tally
from integrations.formats.cvat_reader import read_cvat
from integrations.formats.label_studio_reader import read_label_studio
from integrations.formats.lvis import read_lvis, write_lvis
from regionspot.errors import InputError
from regionspot.files import atomic_folder


class Writer(Protocol):
    """Writes a set, from one pass over its images."""

    def __call__(
        self,
        path: Path,
        categories: Sequence[Category],
        images: Iterable[LabelledImage],
        info: Mapping[str, object] | None = None,
        /,
    ) -> Tally:
        """Write to a file, or into a folder."""
        ...


@dataclass(frozen=True)
class Format:
    """A label format.

    Attributes:
        name: what the command line calls it.
        read: takes the file or folder of the labels, and the images' folder if it is known.
        write: takes the file, or the folder to write into.
        entries: what an export holds; the first is the file that all else hangs on.
        images: the folder of an export that its images belong into.
        is_file: whether `write` takes the path of its one file.
    """

    name: str
    read: Callable[[Path, Path | None], LabelledSet]
    write: Writer
    entries: tuple[str, ...]
    images: str = "images"
    is_file: bool = False


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format("coco", read_coco, write_coco, ("labels.coco.json",), is_file=True),
        Format("lvis", read_lvis, write_lvis, ("labels.lvis.json",), is_file=True),
        Format("yolo", yolo.read_yolo, yolo.write_yolo, (yolo.DATA, yolo.LABELS), yolo.IMAGES),
        Format(
            "yolo-scores",
            yolo.read_yolo,
            functools.partial(yolo.write_yolo, scores=True),
            (yolo.DATA, yolo.LABELS),
            yolo.IMAGES,
        ),
        Format("voc", voc.read_voc, voc.write_voc, (voc.ANNOTATIONS, voc.LISTS), voc.IMAGES),
        Format("cvat", read_cvat, cvat.write_cvat, (cvat.FILE,), cvat.IMAGES),
        Format(
            "label-studio",
            read_label_studio,
            label_studio.write_label_studio,
            (label_studio.TASKS, label_studio.CONFIG),
            label_studio.IMAGES,
        ),
        Format(
            "fiftyone",
            fiftyone_dataset.read_fiftyone,
            fiftyone_dataset.write_fiftyone,
            (fiftyone_dataset.METADATA, fiftyone_dataset.SAMPLES),
            fiftyone_dataset.IMAGES,
        ),
    )
}


def format_named(name: str) -> Format:
    """The format of a name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}; known are {', '.join(FORMATS)}")
    return FORMATS[name]


def write_folder(
    out: Path,
    format: Format,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    place: Callable[[LabelledImage, Path], None] | None = None,
    overwrite: bool = False,
) -> Tally:
    """Write a set into a folder, all of it or nothing.

    Args:
        out: the folder; whatever else lies in it stays.
        images: in the order to write, taken once.
        info: where the labels come from; what of it is kept depends on the format.
        place: puts an image at a path, which lies in a folder that is not there yet; None leaves
            the images where they are.
        overwrite: whether what is there of an earlier export is replaced.

    Raises:
        InputError: something cannot be written, or is there already.
    """
    entries = (*format.entries[1:], format.entries[0])
    if place is not None:
        entries = (format.images, *entries)
    with atomic_folder(out, entries, overwrite) as folder:
        path = folder / format.entries[0] if format.is_file else folder
        if place is not None:
            (folder / format.images).mkdir()

        def placed() -> Iterable[LabelledImage]:
            for image in images:
                yield image
                # After the writer has taken it, and found its name sound.
                if place is not None:
                    target = folder / format.images / image.file_name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    place(image, target)

        return format.write(path, categories, placed(), info)
