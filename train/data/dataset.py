"""What every reader of annotated images gives, and the label spaces of several data sets merged.

Classes of two data sets are the same where `regionspot.names.name_key` of their names agrees. Two
classes of one data set never are: of names like "A" and "a", which some data set tells apart, only
equal ones are the same. Ids say nothing: 1 is a person in COCO and an acorn in LVIS.

Axes: N boxes of one image.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, overload

from regionspot.boxes import FloatArray
from regionspot.names import contested_keys, name_key

# Each class with all strings that stand for it, its own name first.
ClassSynonyms = Mapping[str, tuple[str, ...]]
T = TypeVar("T", covariant=True)


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and its boxes.

    Attributes:
        id: the data set's own.
        path: of the image file.
        width, height: in pixels, upright; 1 where neither annotations nor the file say them.
        boxes: (N, 4) float32 xyxy pixels, clipped to the image, none of them empty.
        names: N; the class of each box.
        verified: the classes that are exhaustively labelled in this image or verified to be
            absent, so that they are negatives for each box of another class; a box's own class
            may be missing. None: all classes of the data set.
    """

    id: int
    path: Path
    width: int
    height: int
    boxes: FloatArray
    names: tuple[str, ...]
    verified: frozenset[str] | None = None


@dataclass(frozen=True)
class Dataset:
    """Annotated images and their label space.

    Attributes:
        name: how it was asked for.
        classes: the label space, used or not, with the synonyms of each class.
        images: those with at least one box, in the data set's order. An image is put together
            when it is asked for; its file is opened only where the annotations do not say its
            size.
        ancestors: of a class, its ancestors in a hierarchy: they hold too for a box of the class,
            so they are no negatives of it. A class without any is not listed.
        written: the classes of a name that the data set writes, where they are called in another
            way: `bus_(vehicle)` is LVIS's "bus".
        is_limited: some boxes are of classes outside of `classes`. Features are cached by all
            boxes of an image, so they are looked up with these boxes, which are then left out.
    """

    name: str
    classes: ClassSynonyms
    images: Sequence[AnnotatedImage]
    ancestors: Mapping[str, frozenset[str]] = field(default_factory=dict)
    written: Mapping[str, frozenset[str]] = field(default_factory=dict)
    is_limited: bool = False

    def __len__(self) -> int:
        return len(self.images)


class LazySequence(Sequence[T]):
    """A sequence that says how it makes one item."""

    @abstractmethod
    def _at(self, row: int) -> T:
        """The item of a row from 0 to the length, without it."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Subset[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Subset[T]":
        rows = range(len(self))[index]
        return Subset(self, rows) if isinstance(rows, range) else self._at(rows)


class Subset(LazySequence[T]):
    """Some items of a sequence, in the order of the rows."""

    def __init__(self, items: Sequence[T], rows: Sequence[int]) -> None:
        self.items, self.rows = items, rows

    def __len__(self) -> int:
        return len(self.rows)

    def _at(self, row: int) -> T:
        return self.items[self.rows[row]]


def join_synonyms(pairs: Iterable[tuple[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """Classes with their synonyms, the name first; those of a class named twice are joined."""
    classes: dict[str, tuple[str, ...]] = {}
    for name, strings in pairs:
        classes[name] = tuple(dict.fromkeys((*classes.get(name, ()), name, *strings)))
    return classes


def names_of(pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """`Dataset.written` of pairs of a name as it is written and its class."""
    found: dict[str, frozenset[str]] = {}
    for name, called in pairs:
        found[name] = found.get(name, frozenset()) | {called}
    return {name: classes for name, classes in found.items() if classes != {name}}


def merge_label_spaces(
    datasets: Sequence[Dataset],
) -> tuple[dict[str, tuple[str, ...]], list[Dataset]]:
    """One label space for several data sets, and the data sets in it.

    The first data set that has a class spells it. Synonyms are joined; they do not make two
    classes one, for LVIS lists "woman" under person, and Open Images has it as a class of its own.

    Returns:
        The classes with their synonyms, in the order of the data sets; and the data sets, with
        all names in that spelling. Where an image's `verified` is None, that still means the
        classes of its own data set.
    """
    contested = contested_keys(dataset.classes for dataset in datasets)

    def identity(name: str) -> tuple[str, str]:
        key = name_key(name)
        return key, name if key in contested else ""

    spelling: dict[tuple[str, str], str] = {}
    for dataset in datasets:
        for name in dataset.classes:
            spelling.setdefault(identity(name), name)
    renamed = [
        _renamed(dataset, {name: spelling[identity(name)] for name in dataset.classes})
        for dataset in datasets
    ]
    pairs = (pair for dataset in renamed for pair in dataset.classes.items())
    return join_synonyms(pairs), renamed


def _renamed(dataset: Dataset, new: Mapping[str, str]) -> Dataset:
    """The data set under the new name of each class, of which no two have the same."""
    if all(name == other for name, other in new.items()):
        return dataset
    return replace(
        dataset,
        classes=join_synonyms((new[name], strings) for name, strings in dataset.classes.items()),
        images=RenamedImages(dataset.images, new),
        ancestors={
            new[name]: frozenset(new[each] for each in above)
            for name, above in dataset.ancestors.items()
        },
        written={
            name: frozenset(new[each] for each in classes)
            for name, classes in dataset.written.items()
        },
    )


@dataclass(frozen=True)
class RenamedImages(LazySequence[AnnotatedImage]):
    """Images whose classes are renamed when they are asked for.

    Attributes:
        images: with the old names.
        new: the new name of each old one, all different; any other becomes "", which no data set
            has.
    """

    images: Sequence[AnnotatedImage]
    new: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.images)

    def _at(self, row: int) -> AnnotatedImage:
        image = self.images[row]
        verified = image.verified
        if verified is not None:
            verified = frozenset(self.new[name] for name in verified if name in self.new)
        return replace(
            image, names=tuple(self.new.get(name, "") for name in image.names), verified=verified
        )


def used_classes(images: Sequence[AnnotatedImage]) -> list[str]:
    """The classes with at least one box, in alphabetical order."""
    return sorted({name for image in images for name in image.names})
