"""Checks that several readers and writers make."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from integrations.annotations import Annotation, Attribute, Category, LabelledImage, Tally
from integrations.masks import clip_polygons
from regionspot.errors import InputError
from regionspot.files import check_relative, is_utf8

# What a format can hold of an annotation beside its class and box, and of an image; of a category
# more than its name; and several images of one file name, told apart by their ids.
Part = Literal["mask", "score", "crowd", "attributes", "extra", "verified", "image attributes"]
Rarely = Literal["category keys", "equal names"]
ALL_PARTS: frozenset[Part] = frozenset(get_args(Part))
_LOST = "the format that is written cannot hold it"


def names_by_id(path: Path, categories: Sequence[Category]) -> dict[int, str]:
    """Name of each category, for formats that know a category by its name alone.

    Raises:
        InputError: two categories have the same name.
    """
    counts = Counter(category.name for category in categories)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(
            f"{path}: two categories are named {twice[0]!r}, and this format tells them apart by "
            "name alone; rename one"
        )
    return {category.id: category.name for category in categories}


def check_new_id(id: int, seen: set[int], where: str) -> None:
    """Add an id to those that were seen.

    Raises:
        InputError: it is among them already; the message begins with `where`.
    """
    if id in seen:
        raise InputError(f"{where}: id {id} is there twice; give each its own")
    seen.add(id)


@contextmanager
def naming_image(path: Path, image: LabelledImage) -> Iterator[None]:
    """Put the label file and the image in front of an InputError's message."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: image {image.file_name!r}: {error}") from error


def checked_images(
    path: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    tally: Tally,
    holds: Set[Part | Rarely] = ALL_PARTS,
    attributes: Set[str] = frozenset(),
    name_problem: Callable[[LabelledImage], str] = lambda _: "",
) -> Iterator[LabelledImage]:
    """The images one by one, each checked to be writable, and counted in `tally`.

    Polygons that reach far out of their image are clipped to it. An image whose name the format
    cannot hold is left out.

    Args:
        path: that is written, for messages.
        categories: all that annotations may name.
        images: to write.
        tally: counts the images, and the parts of annotations that the format does not hold. Crowd
            regions are left out whole where it cannot mark them.
        holds: what the format can hold.
        attributes: names of attributes that it can hold where it does not hold them all.
        name_problem: why it cannot hold an image's name; empty where it can.

    Raises:
        InputError: a name that leaves the folder, no size, an unknown category, or a box or score
            that is not finite or reversed.
    """
    known = {category.id for category in categories}
    if "category keys" not in holds:
        _count_category_keys(categories, tally)
    seen: set[str] = set()
    for image in images:
        with naming_image(path, image):
            check_relative(image.file_name)
            if image.file_name in seen:
                raise InputError("two images have this name; give each its own, or join them")
            if problem := name_problem(image):
                tally.leave_out("image", f"{problem}; rename it", f"image {image.file_name!r}")
                continue
            if "equal names" not in holds:
                seen.add(image.file_name)
            if image.width < 1 or image.height < 1:
                raise InputError(
                    f"expected a width and a height, got {image.width} x {image.height}"
                )
            for annotation in image.annotations:
                _check(annotation, known)
        if "crowd" not in holds:
            image = _without_crowds(image, tally)
        with naming_image(path, image):
            image = _with_near_polygons(image, tally)
        _count_parts(image, tally, holds, attributes)
        tally.add(image)
        yield image


def _without_crowds(image: LabelledImage, tally: Tally) -> LabelledImage:
    kept = tuple(each for each in image.annotations if not each.is_crowd)
    lost = len(image.annotations) - len(kept)
    tally.leave_out("crowd region", _LOST, f"image {image.file_name!r}", lost)
    return dataclasses.replace(image, annotations=kept) if lost else image


def _with_near_polygons(image: LabelledImage, tally: Tally) -> LabelledImage:
    """The image, the polygons of whose masks end near it."""
    kept = []
    for each in image.annotations:
        if each.mask is not None and not isinstance(each.mask, dict):
            near = clip_polygons(each.mask, image.width, image.height)
            if near != each.mask:
                reason = "it reaches far out of its image; it is clipped to it"
                tally.change("polygon", reason, f"image {image.file_name!r}")
                each = dataclasses.replace(each, mask=near or None, area=None)
        kept.append(each)
    return dataclasses.replace(image, annotations=tuple(kept))


def _count_category_keys(categories: Sequence[Category], tally: Tally) -> None:
    for category in categories:
        for name in ("supercategory", "synset", "definition", "frequency"):
            if getattr(category, name):
                tally.leave_out(f"{name} of a class", _LOST, f"class {category.name!r}")
        for name, value in category.extra.items():
            if value:
                tally.leave_out(f"{name[:40]} of a class", _LOST, f"class {category.name!r}")


def _count_parts(
    image: LabelledImage, tally: Tally, holds: Set[Part | Rarely], attributes: Set[str]
) -> None:
    """Count what annotations and image have and the format does not hold."""
    place = f"image {image.file_name!r}"
    for annotation in image.annotations:
        if "mask" not in holds and annotation.mask is not None:
            tally.leave_out("mask", _LOST, place)
        if "score" not in holds and annotation.score is not None:
            tally.leave_out("score", _LOST, place)
        if "attributes" not in holds:
            for name in sorted(annotation.attributes.keys() - attributes):
                tally.leave_out(f"attribute {name!r}", _LOST, place)
        if "extra" not in holds:
            for name in (name for name, value in annotation.extra.items() if value):
                tally.leave_out(name[:40], _LOST, place)
    if "verified" not in holds and image.absent:
        tally.leave_out("class verified as absent", _LOST, place, len(image.absent))
    if "image attributes" not in holds:
        for name in image.attributes:
            tally.leave_out(f"attribute {name!r} of an image", _LOST, place)
    if "extra" not in holds:
        for name in (name for name, value in image.extra.items() if value):
            tally.leave_out(f"{name[:40]} of an image", _LOST, place)


def free_attributes(attributes: Mapping[str, Attribute], taken: Set[str]) -> dict[str, Attribute]:
    """A copy of the attributes.

    Raises:
        InputError: the format gives one of the names a meaning of its own.
    """
    if found := taken & attributes.keys():
        raise InputError(f"an attribute may not be named {', '.join(sorted(found))}")
    return dict(attributes)


def to_json(record: Mapping[str, object]) -> str:
    """A record as JSON, on one line and without blanks.

    Raises:
        InputError: a number is not finite.
    """
    try:
        text = json.dumps(dict(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"every number must be finite, got {record!s:.300}") from error
    if not is_utf8(text):
        raise InputError(f"a text holds half of a character, got {text[:300]!a}")
    return text


def _check(annotation: Annotation, known: set[int]) -> None:
    x1, y1, x2, y2 = annotation.box
    if annotation.category_id not in known:
        raise InputError(f"category {annotation.category_id} is not in the vocabulary")
    if not all(map(math.isfinite, annotation.box)) or x2 < x1 or y2 < y1:
        raise InputError(f"expected a box x1 <= x2, y1 <= y2, got {annotation.box}")
    if annotation.score is not None and not math.isfinite(annotation.score):
        raise InputError(f"every number must be finite, got the score {annotation.score}")


class LabelFileNames:
    """Names of label files that lie beside the images, one for each image.

    Args:
        suffix: of the label files, with its dot.
    """

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._image_of: dict[str, str] = {}

    def name(self, file_name: str) -> str:
        """The label file of an image, relative, with the image's folders."""
        return str(PurePosixPath(file_name).with_suffix(self._suffix))

    def problem(self, file_name: str) -> str:
        """Why an image can have no label file of its own; empty where it can, and then it has it.

        Another image has the same label file, or the name cannot stand in a list of images.
        """
        if file_name.splitlines() != [file_name] or file_name != file_name.strip():
            return "lists of images cannot hold a blank at an end of its name, or a line break"
        if any(part.startswith(".") for part in PurePosixPath(file_name).parts):
            return "it is hidden, so that trainers pass over it"
        if self._image_of.setdefault(self.name(file_name), file_name) != file_name:
            return "it would share its label file with an image whose name differs in its suffix"
        return ""
