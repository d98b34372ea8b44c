"""What every reader of annotated images gives, and sequences whose items are made on demand.

Axes: N boxes of one image.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, overload

from regionspot.boxes import FloatArray

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
