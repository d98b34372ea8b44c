"""LVIS v0.5 and v1: each image is annotated for some words only (Gupta et al. 2019, section 3)."""

from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from integrations.formats.record import Record
from regionspot.errors import InputError
from regionspot.names import display_name
from train.data.box_table import TableImages
from train.data.coco import category_words
from train.data.coco_json import CROWDS, Category, identifier, read_coco_json
from train.data.types import Dataset

_POSITIVE, _NEGATIVE, _OPEN = range(3)


def read_lvis(path: Path, images: Path, name: str = "") -> Dataset:
    """An LVIS JSON, v0.5 or v1 (lvisdataset.org, "Data format").

    `verified` holds the words that an image has all boxes of, and those that it is known not to
    hold. Of the words in `not_exhaustive_category_ids` there may be more than is boxed, so a box
    that bears one of them is right, but they are no negatives for other boxes; no more are the
    words of crowds. Two categories of one word (`bow_(weapon)`, `bow_(decorative_ribbons)`) verify
    it together: what is unchecked for one of them is unchecked.

    Args:
        path: of the JSON.
        images: folder of the images, or of the folders `train2017` and `val2017` with them.

    Raises:
        InputError: the file cannot be read or does not hold together, or does not say what was
            verified.
    """
    checked = _Checked()
    file = read_coco_json(
        path, images, display_name, on_image=checked.add_image, on_annotation=checked.add_annotation
    )
    verified = _VerifiedWords(checked, file.categories, path)
    return Dataset(name or f"lvis:{path}", category_words(file), TableImages(file.table, verified))


@dataclass
class _Checked:
    """What a file says of categories in images: 17 bytes each, of which there are some 30 a photo.

    Attributes:
        image, category: ids.
        kind: whether boxes of it are there, it is not there, or there may be more of it.
    """

    image: "array[int]" = field(default_factory=lambda: array("Q"))
    category: "array[int]" = field(default_factory=lambda: array("q"))
    kind: "array[int]" = field(default_factory=lambda: array("b"))

    def add_image(self, record: Record) -> None:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            if key not in record.values:
                record.refuse(f'"{key}" is missing, so this is not LVIS; read it as coco')
        image = identifier(record, "id")
        for category in record.wholes("neg_category_ids"):
            self._add(image, category, _NEGATIVE)
        for category in record.wholes("not_exhaustive_category_ids"):
            self._add(image, category, _OPEN)

    def add_annotation(self, record: Record) -> None:
        is_crowd = any(record.values.get(key) for key in CROWDS)
        kind = _OPEN if is_crowd else _POSITIVE
        self._add(identifier(record, "image_id"), record.whole("category_id"), kind)

    def _add(self, image: int, category: int, kind: int) -> None:
        self.image.append(image)
        self.category.append(category)
        self.kind.append(kind)


class _VerifiedWords:
    """The words that may be negatives in an image, by its id."""

    def __init__(self, checked: _Checked, categories: tuple[Category, ...], path: Path) -> None:
        image = np.array(checked.image, np.uint64)
        order = np.argsort(image, kind="stable")
        self._image = image[order]
        self._category = np.array(checked.category, np.int64)[order]
        self._kind = np.array(checked.kind, np.int8)[order]
        self._word = {each.id: display_name(each.name) for each in categories}
        known = np.isin(self._category, np.array(list(self._word), np.int64))
        if not known.all():
            raise InputError(
                f"{path}: an image says something of the category {self._category[~known][0]}, "
                "which is not among the categories; add the category"
            )
        ids: dict[str, set[int]] = {}
        for each in categories:
            ids.setdefault(display_name(each.name), set()).add(each.id)
        self._ids_of_shared = {word: group for word, group in ids.items() if len(group) > 1}

    def __call__(self, image_id: int) -> frozenset[str]:
        first, last = np.searchsorted(
            self._image, np.array([image_id, image_id + 1], np.uint64)
        ).tolist()
        category, kind = self._category[first:last], self._kind[first:last]
        closed = set(category.tolist()) - set(category[kind == _OPEN].tolist())
        words = {self._word[id] for id in closed}
        return frozenset(word for word in words if self._ids_of_shared.get(word, closed) <= closed)
