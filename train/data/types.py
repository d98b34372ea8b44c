"""What every reader of annotated images gives.

Axes: N boxes of one image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from regionspot.boxes import FloatArray

Words = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and its boxes.

    Attributes:
        id: the data set's own.
        path: of the image file.
        width, height: in pixels, upright; 1 where neither annotations nor the file say them.
        boxes: (N, 4) xyxy pixels, clipped to the image, none of them empty.
        names: the word of each box.
        verified: the words that were checked in this image well enough to be a negative for each
            box that does not bear them; a box's own word may be missing. None: all words of the
            data set.
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
    """Annotated images and the words they are annotated with.

    Attributes:
        name: how it was asked for.
        words: each word of the label space, used or not, with all strings that stand for it, the
            word itself first.
        images: those with at least one box, in the data set's order. An image is put together
            when it is asked for; its file is opened only where the annotations do not say its
            size.
        is_limited: some boxes bear words that are not among `words`. Features are kept by all
            boxes of an image, so they are looked up with these boxes, which are then left out.
        broader: of a word, the words that are true too of a box which bears it: its ancestors in
            a hierarchy. They are no negatives of that box. A word without any is not listed.
    """

    name: str
    words: Words
    images: Sequence[AnnotatedImage]
    broader: Mapping[str, frozenset[str]] = field(default_factory=dict)
    is_limited: bool = False

    def __len__(self) -> int:
        return len(self.images)
