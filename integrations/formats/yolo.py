"""YOLO: `data.yaml`, and one text file for each image (docs.ultralytics.com, "Detect").

    data.yaml            train: train.txt, val: val.txt, names: {0: cat, 1: dog}
    dataset.yaml         the same, for FiftyOne, which looks for this name
    train.txt, val.txt   the images of each part, one a line
    images/              as in the set, with its sub-folders
    labels/              the same names with .txt; a line is `class x y width height`, where x and y
                         are the box's centre, in fractions of the sides; predictions add a score

`yolo_layout` knows where other data sets have their images and labels, `yolo_lines` what a line of
other tasks means. A file does not say how large its image is, so that reading needs the images. It
holds no ids. Crowd regions are left out: a trainer would take one for a single object.
"""

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    ReadOptions,
    Tally,
)
from integrations.contours import outline
from integrations.formats.validation import (
    LabelFileNames,
    Part,
    checked_images,
    names_by_id,
)
from integrations.formats.yolo_layout import (
    DATA,
    IMAGES,
    LABELS,
    DataFile,
    images_below,
    label_files,
    listed_images,
    read_data_file,
    unread_label_files,
)
from integrations.formats.yolo_lines import as_annotation, find_meaning, parse_lines
from integrations.images import UnreadableImage, image_size
from integrations.split import Split
from regionspot.boxes import xyxy_to_relative_cxcywh
from regionspot.errors import InputError
from regionspot.files import atomic_write, read_text

DATA_FILES = (DATA, "dataset.yaml")
# A side, in parts of the image's, that eight decimals cannot write; pixels that do not count.
_SMALLEST, _ROUNDING = 1e-8, 1e-3


@dataclass(frozen=True)
class YoloWriter:
    """Writes data files and `labels/`; the images belong into `images/`. See `registry.Writer`.

    The format has no place for `info`.

    Attributes:
        scores: whether lines have a sixth number. Trainers refuse it; tools that compare
            predictions read it.
        polygons: whether a line is `class x y x y ...`, for training on masks.
        split: the parts, each in a folder of its own; None: lists of two parts, of the images as
            they lie.
    """

    scores: bool = False
    polygons: bool = False
    split: Split | None = None

    def image_name(self, image: LabelledImage) -> str:
        """Where an image belongs below `images/`.

        Trainers replace the last folder `images` of a path, so that no other may be in it.
        """
        parts = PurePosixPath(image.file_name).parts
        name = "/".join([part for part in parts[:-1] if part != IMAGES] + [parts[-1]])
        return f"{self.split.part(image.file_name)}/{name}" if self.split else name

    def __call__(
        self,
        path: Path,
        categories: Sequence[Category],
        images: Iterable[LabelledImage],
        info: Mapping[str, object] | None = None,  # noqa: ARG002  (of the protocol)
        tally: Tally | None = None,
    ) -> Tally:
        """Write a set into a folder."""
        tally, files = Tally() if tally is None else tally, LabelFileNames(".txt")
        classes = {category.id: index for index, category in enumerate(categories)}
        names_by_id(path, categories)
        holds: set[Part] = set()
        holds |= {"score"} if self.scores else set()
        holds |= {"mask"} if self.polygons else set()
        split = self.split or Split()
        inside = (_clipped(image, tally) for image in images)
        with ExitStack() as stack:
            lists = {
                part: stack.enter_context(atomic_write(path / f"{part}.txt"))
                for part in split.parts
                if self.split is None
            }
            checked = checked_images(
                path,
                categories,
                inside,
                tally,
                holds,
                name_problem=lambda image: files.problem(self.image_name(image)),
            )
            for image in checked:
                name = self.image_name(image)
                if PurePosixPath(image.file_name).parent.parts.count(IMAGES):
                    reason = f"a folder {IMAGES!r} of its path is left out of the name"
                    tally.change("image", reason, f"image {image.file_name!r}")
                with atomic_write(path / LABELS / files.name(name)) as out:
                    for annotation in image.annotations:
                        out.write(self._line(annotation, image, classes, tally))
                if lists:
                    lists[split.part(image.file_name)].write(f"./{IMAGES}/{name}\n")
        entries = {
            part: f"{IMAGES}/{part}" if self.split else f"{part}.txt" for part in split.parts
        }
        self._write_data_files(path, categories, entries)
        return tally

    def _line(
        self,
        annotation: Annotation,
        image: LabelledImage,
        classes: Mapping[int, int],
        tally: Tally,
    ) -> str:
        size = (image.width, image.height)
        if self.polygons:
            place = f"image {image.file_name!r}"
            points = outline(annotation.mask, annotation.box, size, place, tally)
            numbers: Sequence[float] = [each / size[at % 2] for at, each in enumerate(points)]
        else:
            numbers = xyxy_to_relative_cxcywh(annotation.box, *size)
        line = " ".join(
            [str(classes[annotation.category_id]), *(f"{each:.8f}" for each in numbers)]
        )
        if self.scores and annotation.score is not None:
            line += f" {annotation.score:.6f}"
        return line + "\n"

    def _write_data_files(
        self, path: Path, categories: Sequence[Category], entries: Mapping[str, str]
    ) -> None:
        names = {index: category.name for index, category in enumerate(categories)}
        # Four corners alone could be an oriented box, too.
        task = {"task": "segment"} if self.polygons else {}
        for name in DATA_FILES:
            with atomic_write(path / name) as out:
                # Without "path" trainers look beside this file.
                top = {**entries, "names": names, **task}
                yaml.safe_dump(top, out, allow_unicode=True, sort_keys=False)


def _clipped(image: LabelledImage, tally: Tally) -> LabelledImage:
    """The image with its boxes clipped; those that are empty then are left out."""
    kept, place = [], f"image {image.file_name!r}"
    for annotation in image.annotations:
        x1, y1, x2, y2 = annotation.box
        is_box = all(map(math.isfinite, annotation.box)) and x1 <= x2 and y1 <= y2
        if annotation.is_crowd or not is_box or image.width < 1 or image.height < 1:
            kept.append(annotation)  # `checked_images` decides
            continue
        box = (
            min(max(x1, 0.0), float(image.width)),
            min(max(y1, 0.0), float(image.height)),
            min(max(x2, 0.0), float(image.width)),
            min(max(y2, 0.0), float(image.height)),
        )
        smallest = _SMALLEST * max(image.width, image.height)
        if box[2] - box[0] < smallest or box[3] - box[1] < smallest:
            reason = "it has no area inside the image, and trainers refuse it"
            tally.leave_out("box", reason, place)
            continue
        if max(abs(a - b) for a, b in zip(box, annotation.box, strict=True)) > _ROUNDING:
            tally.change("box", "it reaches out of the image and is clipped", place)
        kept.append(dataclasses.replace(annotation, box=box))
    return dataclasses.replace(image, annotations=tuple(kept))


def read_yolo(
    path: Path,
    folder: Path | None = None,
    options: ReadOptions = ReadOptions(),
    scores: bool = False,
) -> LabelledSet:
    """Read a data set as `yolo_layout` describes it, with the labels of all its parts.

    See `registry.Reader`; an image has to be there. Ids are counted from 1: a category's is its
    class and 1. Polygons and oriented boxes become masks, keypoints `extra`, ids of tracks an
    attribute. With `scores` a sixth number is a score, and one above 1 an error.
    """
    tally = Tally(strict=options.strict)
    data = read_data_file(path, tally)
    images, top = _images(data, folder, tally)
    files = _label_files(images, top, data, tally)
    if folder is None or _same(folder, data.root / IMAGES):
        for file in unread_label_files([each for each in files if each], data.root):
            tally.leave_out("label file", "no image that is read has its name", str(file))
    lines = [
        parse_lines(read_text(file), str(file), number) if file else []
        for number, file in enumerate(files)
    ]
    every = [line for each in lines for line in each]
    meaning = find_meaning(every, options.task, data.task, data.keypoints, scores, str(data.path))
    found: list[LabelledImage] = []
    for image, own in zip(images, lines, strict=True):
        try:
            size = image_size(image)
        except UnreadableImage as error:
            tally.leave_out("image", "it cannot be read", str(error))
            continue
        annotations = tuple(
            as_annotation(line, meaning, size, len(data.names), tally) for line in own
        )
        name = image.relative_to(top).as_posix()
        found.append(LabelledImage(len(found) + 1, name, *size, annotations))
    return LabelledSet(data.categories(), tuple(found), tally, folder=top)


def _images(data: DataFile, folder: Path | None, tally: Tally) -> tuple[list[Path], Path]:
    """The images of a data set, and the folder that their names are relative to.

    A folder that is given and does not hold all that the data file lists is read in its place.
    """
    chosen = None if folder is None or _same(folder, data.root / IMAGES) else folder
    listing = Tally()
    try:
        images = listed_images(data, listing)
    except InputError:
        if folder is None:
            raise
        reason = "its images are not there; those of the images' folder are read"
        tally.change("data file", reason, str(data.path))
        return list(images_below(folder, tally)), folder
    if chosen is not None:
        paths = [_absolute(image) for image in images]
        if not paths or not all(path.is_relative_to(_absolute(chosen)) for path in paths):
            return list(images_below(chosen, tally)), chosen
        images = [chosen / path.relative_to(_absolute(chosen)) for path in paths]
    if not images and (data.root / IMAGES).is_dir():
        images = list(images_below(data.root / IMAGES, listing))
    for (kind, reason), entry in listing.changed.items():
        tally.change(kind, reason, entry.first, entry.count)
    for (kind, reason), entry in listing.left_out.items():
        tally.leave_out(kind, reason, entry.first, entry.count)
    if chosen is not None:
        return images, chosen
    below = data.root / IMAGES
    return images, below if all(image.is_relative_to(below) for image in images) else data.root


def _absolute(path: Path) -> Path:
    """An absolute path whose links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _label_files(
    images: Sequence[Path], folder: Path, data: DataFile, tally: Tally
) -> list[Path | None]:
    """The label file of each image; None where there is none.

    Raises:
        InputError: no image has one.
    """
    places = [label_files(image, folder, data.root) for image in images]
    found = [next((each for each in some if each.is_file()), None) for some in places]
    if images and not any(found):
        where = " and ".join(map(str, places[0]))
        raise InputError(
            f"{data.path}: none of {len(images)} images has a label file; looked for {where}"
        )
    for image, file in zip(images, found, strict=True):
        if file is None:
            tally.change("image", "it has no label file and counts as without objects", str(image))
    return found
