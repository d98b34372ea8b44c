"""All formats by name: how each is read and written, and where its images lie.

FiftyOne and supervision have exporters too. Ours write from one pass in the memory of one image,
all or nothing, refuse what cannot be written, and keep what those of FiftyOne 1.22 and supervision
0.31 lose:

| format | why it is ours |
|---|---|
| coco | FiftyOne holds all annotations in memory; supervision drops scores |
| lvis | neither writes it |
| yolo, yolo-seg, | FiftyOne writes crowds as single objects; supervision mixes up equal stems; |
| yolo-scores | neither makes a split of groups |
| voc | both drop scores; FiftyOne cuts off fractions of pixels, so that a thin box vanishes |
| cvat | FiftyOne drops scores and masks; supervision does not write it |
| label-studio | FiftyOne needs a running server; supervision does not write it |
| fiftyone | FiftyOne's own exporter is used; ids and what LVIS verifies lie in fields of ours |
| parquet | neither writes it |
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from integrations.annotations import (
    Category,
    LabelledImage,
    LabelledSet,
    ReadOptions,
    Tally,
)
from integrations.formats import (
    coco,
    cvat,
    cvat_reader,
    fiftyone_dataset,
    label_studio,
    label_studio_reader,
    lvis,
    parquet,
    voc,
    yolo,
)
from integrations.formats.yolo import YoloWriter
from integrations.split import Split
from regionspot.errors import InputError
from regionspot.files import atomic_folder


class Reader(Protocol):
    """Reads all of a set; memory grows with it."""

    def __call__(
        self, path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions(), /
    ) -> LabelledSet:
        """Read a file, or the label files of a folder.

        What cannot be kept, and what is mended, is counted in the set's `tally`.

        Args:
            path: of the file or folder of the labels.
            folder: of the images, where it is known. Names out of it by a link are refused too.
            options: how to read.

        Raises:
            InputError: there is no such file, it does not hold together, or an image's name leaves
                the images' folder; the message names file and record.
        """
        ...


class Writer(Protocol):
    """Writes a set, from one pass over its images and in the memory of one."""

    def __call__(
        self,
        path: Path,
        categories: Sequence[Category],
        images: Iterable[LabelledImage],
        info: Mapping[str, object] | None = None,
        tally: Tally | None = None,
        /,
    ) -> Tally:
        """Write to a file, or into a folder.

        What the format cannot hold is counted in the tally.

        Args:
            path: of the file, or the folder to write into. A file takes its name only once it is
                complete.
            categories: all that annotations may name; their ids are written as they are.
            images: in the order to write, taken once.
            info: where the labels come from; what of it is kept depends on the format.
            tally: that of the reader, which the writer goes on with; None: a new one.

        Returns:
            The tally.

        Raises:
            InputError: something cannot be written; an older file stays as it was.
        """
        ...


@dataclass(frozen=True)
class Format:
    """A label format.

    Attributes:
        name: what the command line calls it.
        read: see `Reader`.
        write: see `Writer`.
        entries: what an export holds; the first is the file that all else hangs on.
        images: the folder of an export that its images belong into.
        is_file: whether `write` takes the path of its one file.
        reads_json: whether `read` takes the path of a JSON file that holds all labels.
    """

    name: str
    read: Reader
    write: Writer
    entries: tuple[str, ...]
    images: str = "images"
    is_file: bool = False
    reads_json: bool = False

    def image_name(self, image: LabelledImage) -> str:
        """Where an image belongs, below the folder of the images."""
        return (
            self.write.image_name(image) if isinstance(self.write, YoloWriter) else image.file_name
        )

    def with_split(self, split: Split) -> "Format":
        """The format, which writes each part of a split into a folder of its own.

        Raises:
            InputError: the format has no parts.
        """
        if not isinstance(self.write, YoloWriter):
            raise InputError(f"--split is for yolo, yolo-seg and yolo-scores, not for {self.name}")
        return dataclasses.replace(self, write=dataclasses.replace(self.write, split=split))


_YOLO = (*yolo.DATA_FILES, "train.txt", "val.txt", "labels")

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format(
            "coco",
            coco.read_coco,
            coco.write_coco,
            ("labels.coco.json",),
            is_file=True,
            reads_json=True,
        ),
        Format(
            "lvis",
            lvis.read_lvis,
            lvis.write_lvis,
            ("labels.lvis.json",),
            is_file=True,
            reads_json=True,
        ),
        Format("yolo", yolo.read_yolo, yolo.YoloWriter(), _YOLO),
        Format("yolo-seg", yolo.read_yolo, yolo.YoloWriter(polygons=True), _YOLO),
        Format(
            "yolo-scores",
            functools.partial(yolo.read_yolo, scores=True),
            yolo.YoloWriter(scores=True),
            _YOLO,
        ),
        Format(
            "voc",
            voc.read_voc,
            voc.write_voc,
            (voc.ANNOTATIONS, voc.LISTS, voc.LABELMAP),
            voc.IMAGES,
        ),
        Format("cvat", cvat_reader.read_cvat, cvat.write_cvat, (cvat_reader.FILE,), cvat.IMAGES),
        Format(
            "label-studio",
            label_studio_reader.read_label_studio,
            label_studio.write_label_studio,
            (label_studio_reader.TASKS, label_studio_reader.CONFIG),
            label_studio_reader.IMAGES,
            reads_json=True,
        ),
        Format(
            "fiftyone",
            fiftyone_dataset.read_fiftyone,
            fiftyone_dataset.write_fiftyone,
            (fiftyone_dataset.METADATA, fiftyone_dataset.SAMPLES),
            fiftyone_dataset.IMAGES,
        ),
        Format(
            "parquet",
            parquet.read_parquet,
            parquet.write_parquet,
            (parquet.LABELS, parquet.CATEGORIES),
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


def read_labels(
    format: Format, path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read a label set of which something has to be left.

    Args:
        format: to read.
        path: of the file or folder of the labels; of an export, its folder.
        folder: of the images; None: where the format has them, if they are there.
        options: how to read.

    Raises:
        InputError: as `Reader`; also where there is no image, or where every label was left out.
    """
    file = _file_of_labels(format, path) if format.reads_json and path.is_dir() else path
    data = format.read(file, folder, options)
    lost = data.tally.left_out
    if not data.images or (lost and not any(image.annotations for image in data.images)):
        found = "; ".join(line for line in data.tally.lines()) or "it has no images"
        raise InputError(f"{file}: nothing could be read as {format.name}: {found}")
    return data


def _file_of_labels(format: Format, folder: Path) -> Path:
    """The JSON file of a folder: of our own name, or else the only one.

    Roboflow, FiftyOne and Label Studio each have a name of their own for it.
    """
    own = folder / format.entries[0]
    found = [own] if own.is_file() else sorted(folder.glob("*.json"))
    if len(found) != 1:
        names = ", ".join(each.name for each in found[:5]) or "none"
        raise InputError(
            f"{folder}: expected {own.name} or one JSON file, got {names}; give a file"
        )
    return found[0]


def write_folder(
    out: Path,
    format: Format,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    place: Callable[[LabelledImage, Path], None] | None = None,
    overwrite: bool = False,
    tally: Tally | None = None,
) -> Tally:
    """Write a set into a folder, all of it or nothing.

    Args:
        out: the folder; whatever else lies in it stays.
        format: to write.
        categories: all that annotations may name.
        images: in the order to write, taken once.
        info: where the labels come from; what of it is kept depends on the format.
        place: puts an image at a path, which lies in a folder that is not there yet; None leaves
            the images where they are.
        overwrite: whether what is there of an earlier export is replaced.
        tally: that of the reader; None: a new one.

    Raises:
        InputError: something cannot be written, or is there already.
    """
    entries = (*format.entries[1:], format.entries[0])
    if place is not None:
        entries = (format.images, *entries)
    tally = Tally() if tally is None else tally
    with atomic_folder(out, entries, overwrite) as folder:
        path = folder / format.entries[0] if format.is_file else folder
        if place is not None:
            (folder / format.images).mkdir()

        def placed() -> Iterable[LabelledImage]:
            for image in images:
                written = tally.images
                yield image
                # After the writer has taken it, and found its name sound; it may leave it out.
                if place is not None and tally.images > written:
                    target = folder / format.images / format.image_name(image)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    place(image, target)

        return format.write(path, categories, placed(), info, tally)
