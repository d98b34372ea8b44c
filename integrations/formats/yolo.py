"""YOLO: `data.yaml`, and one text file for each image (docs.ultralytics.com, "Detect").

    data.yaml        train: images, val: images, names: {0: cat, 1: dog}
    images/          as in the set, with its sub-folders
    labels/          the same names with .txt; a line is `class x y width height`, where x and y
                     are the box's centre, in fractions of the sides; predictions add a score

A file does not say how large its image is, so that reading needs the images. It holds no ids and
no masks. Crowd regions are left out: a trainer would take one for a single object.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    ReadOptions,
    Tally,
)
from integrations.formats.validation import (
    LabelFileNames,
    Part,
    checked_images,
    names_by_id,
)
from integrations.images import find_images, image_size
from regionspot.boxes import relative_cxcywh_to_xyxy, rounded, xyxy_to_relative_cxcywh
from regionspot.errors import InputError
from regionspot.files import atomic_write, path_inside

DATA, IMAGES, LABELS = "data.yaml", "images", "labels"
_BOX_NUMBERS, _SCORED_NUMBERS = 5, 6


def write_yolo(
    folder: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,  # noqa: ARG001  (of the protocol)
    tally: Tally | None = None,
    scores: bool = False,
) -> Tally:
    """Write `data.yaml` and `labels/`; the images belong into `images/`. See `registry.Writer`.

    With `scores` lines have a sixth number. Trainers refuse it; tools that compare predictions read
    it. The format has no place for `info`.
    """
    tally, files = Tally() if tally is None else tally, LabelFileNames(folder, ".txt")
    classes = {category.id: index for index, category in enumerate(categories)}
    names_by_id(folder, categories)
    holds: frozenset[Part] = frozenset({"score"} if scores else ())
    for image in checked_images(folder, categories, images, tally, holds):
        with atomic_write(folder / label_name(files.name(image.file_name))) as out:
            for annotation in image.annotations:
                out.write(_line(annotation, image, classes, scores))
    with atomic_write(folder / DATA) as out:
        # Trainers want both keys. Without "path" they look beside this file.
        top = {"train": IMAGES, "val": IMAGES}
        names = {index: category.name for index, category in enumerate(categories)}
        yaml.safe_dump({**top, "names": names}, out, allow_unicode=True, sort_keys=False)
    return tally


def label_name(file_name: str) -> str:
    """Where the labels of `images/<file_name>` lie, but for the suffix.

    Raises:
        InputError: the image is in a sub-folder named "images": trainers replace the last one.
    """
    if IMAGES in PurePosixPath(file_name).parts[:-1]:
        raise InputError(f"{file_name!r} is in a sub-folder named {IMAGES!r}; rename that")
    return f"{LABELS}/{file_name}"


def _line(
    annotation: Annotation, image: LabelledImage, classes: Mapping[int, int], scores: bool
) -> str:
    numbers = xyxy_to_relative_cxcywh(annotation.box, image.width, image.height)
    line = " ".join([str(classes[annotation.category_id]), *(f"{each:.8f}" for each in numbers)])
    if scores and annotation.score is not None:
        line += f" {annotation.score:.6f}"
    return line + "\n"


def read_yolo(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read a `data.yaml`, or the one in a folder, with the labels of all its parts.

    See `registry.Reader`; an image has to be there. Ids are counted from 1: a category's is its
    class and 1. Polygons become masks. The labels stay beside `data.yaml` wherever the images are.
    """
    file = path / DATA if path.is_dir() else path
    top = _load(file)
    categories = _categories(file, top.get("names"))
    root = file.parent
    images = []
    for number, (image, labels) in enumerate(_listed(root, top, folder), start=1):
        width, height = image_size(image)
        lines = labels.read_text(encoding="utf-8").split("\n") if labels.exists() else []
        annotations = tuple(
            _annotation(f"{labels}: line {n}", line.split(), width, height, len(categories))
            for n, line in enumerate(lines, start=1)
            if line.strip()
        )
        name = image.relative_to(folder or root / IMAGES).as_posix()
        images.append(LabelledImage(number, name, width, height, annotations))
    return LabelledSet(categories, tuple(images), Tally(strict=options.strict))


def _load(file: Path) -> dict[str, Any]:
    try:
        top = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(top, dict) or "names" not in top:
        raise InputError(f'{file} is no data.yaml: expected "names"')
    return top


def _categories(file: Path, names: object) -> tuple[Category, ...]:
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, dict) or sorted(listed) != list(range(len(listed))):
        raise InputError(f'{file}: "names" must be a list, or count its classes 0, 1, 2, ...')
    return tuple(Category(index + 1, str(listed[index])) for index in sorted(listed))


def _listed(root: Path, top: dict[str, Any], folder: Path | None) -> Iterator[tuple[Path, Path]]:
    """Each image of all parts once, with its file of labels."""
    base = "" if top.get("path") in (None, ".") else str(top["path"])
    parts: dict[str, None] = {}
    for key in ("train", "val", "test"):
        entry = top.get(key) or []
        for each in entry if isinstance(entry, list) else [entry]:
            parts[str(PurePosixPath(base, str(each)))] = None
    if not parts:
        raise InputError(f'{root / DATA}: expected "train" or "val" with a folder of images')
    if folder is not None or parts.keys() == {IMAGES}:
        where = folder or root / IMAGES
        for image in find_images(where, linked=True).images:
            yield image, root / _beside(image.relative_to(where).as_posix())
        return
    for part in parts:
        try:
            inside = path_inside(root, part)
        except InputError as error:
            raise InputError(f"{root / DATA}: {error}") from error
        for image in find_images(inside, linked=True).images:
            name = image.relative_to(root).as_posix()
            if not name.startswith(f"{IMAGES}/"):
                raise InputError(
                    f"{root / DATA}: {part!r} is not below {IMAGES}/; "
                    f"give the images' folder with --images"
                )
            yield image, root / _beside(name.removeprefix(f"{IMAGES}/"))


def _beside(file_name: str) -> str:
    return str(PurePosixPath(label_name(file_name)).with_suffix(".txt"))


def _annotation(
    where: str, fields: Sequence[str], width: int, height: int, classes: int
) -> Annotation:
    try:
        numbers = [float(each) for each in fields]
        category = int(fields[0])
    except ValueError as error:
        raise InputError(f"{where} must be numbers, the first one whole") from error
    if not 0 <= category < classes:
        raise InputError(f"{where}: class {category} is not among the names")
    if len(numbers) > _SCORED_NUMBERS and len(numbers) % 2:
        xs = [fraction * width for fraction in numbers[1::2]]
        ys = [fraction * height for fraction in numbers[2::2]]
        points = tuple(value for pair in zip(xs, ys, strict=True) for value in pair)
        return Annotation(category + 1, (min(xs), min(ys), max(xs), max(ys)), mask=(points,))
    if len(numbers) not in (_BOX_NUMBERS, _SCORED_NUMBERS):
        raise InputError(f"{where} must be `class x y width height`, got {len(numbers)} numbers")
    _, x, y, box_width, box_height = numbers[:_BOX_NUMBERS]
    box = relative_cxcywh_to_xyxy((x, y, box_width, box_height), width, height)
    score = numbers[_BOX_NUMBERS] if len(numbers) == _SCORED_NUMBERS else None
    # Six decimals drop what dividing and multiplying adds.
    return Annotation(category + 1, rounded(box, 6), score)
