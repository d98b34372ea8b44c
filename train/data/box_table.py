"""All boxes of a data set in flat arrays, and its images put together from them one by one.

In such arrays also the classes that are verified in each image of a federated data set. A class may
be a negative only where it is exhaustively labelled or verified to be absent (Gupta et al. 2019,
section 3, for LVIS; Kuznetsova et al. 2020, section 3, for Open Images).

Some 60 bytes an image and 20 a box: the 27 million boxes of Objects365 take half a gigabyte.
Readers fill a `BoxTableBuilder` in whatever order their files are in.

Axes: M images, A boxes of all images, N boxes of one image.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from integrations.images import UnreadableImage, image_size
from regionspot.boxes import FloatArray, box_area, clip_boxes, relative_to_pixels, xywh_to_xyxy
from regionspot.errors import InputError
from regionspot.files import check_relative, path_inside
from train.data.dataset import AnnotatedImage, LazySequence

CHUNK = 1 << 20  # boxes that are checked together
Ints = npt.NDArray[np.int64]


@dataclass
class BoxTableBuilder:
    """Collects images and boxes, in any order.

    Attributes:
        source: the file they come from, for messages.
        folder: of the images.
        relative: boxes are in fractions of the image's sides, not in pixels.
    """

    source: Path
    folder: Path
    relative: bool = False
    ids: "array[int]" = field(default_factory=lambda: array("Q"))
    sizes: "array[int]" = field(default_factory=lambda: array("i"))
    names: bytearray = field(default_factory=bytearray)
    name_ends: "array[int]" = field(default_factory=lambda: array("Q"))
    box_image: "array[int]" = field(default_factory=lambda: array("Q"))
    box_class: "array[int]" = field(default_factory=lambda: array("i"))
    xywh: "array[float]" = field(default_factory=lambda: array("f"))

    def add_image(self, id: int, file_name: str, width: int = 0, height: int = 0) -> None:
        """Add an image; its sides in pixels are 0 where the annotations do not say them."""
        self.ids.append(id)
        self.sizes.extend((width, height))
        self.names += file_name.encode("utf-8", "surrogatepass")
        self.name_ends.append(len(self.names))

    def add_box(self, image_id: int, class_index: int, xywh: Sequence[float]) -> None:
        """Add a box.

        Args:
            image_id: of an image that was added, or will be.
            class_index: in the classes that `finish` is given.
            xywh: left, top, width, height.
        """
        self.box_image.append(image_id)
        self.box_class.append(class_index)
        self.xywh.extend(xywh)

    def finish(self, classes: Sequence[str]) -> "BoxTable":
        """The table, without boxes that are empty once clipped and images without any box.

        Raises:
            InputError: two images have the same id, or a box is on an image that is not listed.
        """
        ids = np.array(self.ids, np.uint64)
        by_id = np.argsort(ids, kind="stable")
        row = self._rows_of_boxes(ids, by_id)
        sizes = np.array(self.sizes, np.int32).reshape(-1, 2)  # (2 M,) to (M, 2)
        boxes = np.array(self.xywh, np.float32).reshape(-1, 4)  # (4 A,) to (A, 4)
        kept = self._not_empty(boxes, sizes, row)
        order = kept[np.argsort(row[kept], kind="stable")]
        counts = np.bincount(row[order], minlength=len(ids))
        used = np.flatnonzero(counts)
        ends = np.array(self.name_ends, np.int64)
        return BoxTable(
            folder=self.folder,
            relative=self.relative,
            classes=tuple(classes),
            ids=ids[used],
            sizes=sizes[used],
            names=bytes(self.names),
            name_spans=np.stack([np.append(0, ends)[:-1], ends], axis=1)[used],
            starts=np.concatenate([[0], np.cumsum(counts[used])]),
            xywh=boxes[order],
            class_index=np.array(self.box_class, np.int32)[order],
        )

    def _rows_of_boxes(self, ids: npt.NDArray[np.uint64], by_id: npt.NDArray[np.intp]) -> Ints:
        ordered = ids[by_id]
        if (twice := np.flatnonzero(ordered[1:] == ordered[:-1])).size:
            raise InputError(
                f"{self.source}: the image id {ordered[twice[0]]} is there twice; "
                "give each image its own"
            )
        wanted = np.array(self.box_image, np.uint64)
        place = np.searchsorted(ordered, wanted)
        known = place < len(ordered)
        known[known] = ordered[place[known]] == wanted[known]
        if not known.all():
            raise InputError(
                f"{self.source}: a box is on the image {wanted[~known][0]}, which is not among "
                "the images; add the image or leave its boxes out"
            )
        return by_id[place].astype(np.int64)

    def _not_empty(self, boxes: FloatArray, sizes: npt.NDArray[np.int32], row: Ints) -> Ints:
        found = [np.zeros(0, np.int64)]
        for start in range(0, len(boxes), CHUNK):
            corners = xywh_to_xyxy(boxes[start : start + CHUNK])
            sides = sizes[row[start : start + CHUNK]].astype(np.float32)
            limit = np.tile(np.ones_like(sides) if self.relative else sides, 2)
            clipped = np.clip(corners, np.float32(0), limit)
            found.append(start + np.flatnonzero(box_area(clipped) > 0))
        return np.concatenate(found)


@dataclass(frozen=True)
class BoxTable:
    """Images with their boxes, each in one place of these arrays.

    Attributes:
        folder: of the images.
        relative: whether `xywh` is in fractions of the image's sides, not in pixels.
        classes: that `class_index` counts in.
        ids: (M,) of the images.
        sizes: (M, 2) width and height in pixels; 0 where they have to be read off the image.
        names: all file names, one after the other, as UTF-8.
        name_spans: (M, 2) where in them each image's begins and ends.
        starts: (M + 1,) where the boxes of each image begin.
        xywh: (A, 4) left, top, width, height.
        class_index: (A,) of each box.
    """

    folder: Path
    relative: bool
    classes: tuple[str, ...]
    ids: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.int32]
    names: bytes
    name_spans: Ints
    starts: Ints
    xywh: FloatArray
    class_index: npt.NDArray[np.int32]


def _size_or_unit(path: Path) -> tuple[int, int]:
    """Sides in pixels; 1 where the file cannot be read, which extraction finds and lists."""
    try:
        return image_size(path)
    except UnreadableImage:
        return 1, 1


class BoxTableImages(LazySequence[AnnotatedImage]):
    """The images of a table, put together when they are asked for.

    An item raises InputError where the image's name leaves the folder.

    Args:
        table: of the images.
        verified: the classes that were verified in the image of an id; None: all.
        path_of: an image's path by its name in the annotations; None: inside of the table's
            folder, as `PathsInside` finds it.
    """

    def __init__(
        self,
        table: BoxTable,
        verified: Callable[[int], frozenset[str]] | None = None,
        path_of: Callable[[str], Path] | None = None,
    ) -> None:
        self._table, self._verified = table, verified
        self._path_of = path_of or PathsInside(table.folder)

    def __len__(self) -> int:
        return len(self._table.ids)

    def _at(self, row: int) -> AnnotatedImage:
        table, id = self._table, int(self._table.ids[row])
        first, last = table.name_spans[row]
        path = self._path_of(table.names[first:last].decode("utf-8", "surrogatepass"))
        width, height = table.sizes[row].tolist()
        if not width or not height:
            width, height = _size_or_unit(path)
        boxes = slice(table.starts[row], table.starts[row + 1])
        xywh = table.xywh[boxes]  # (N, 4)
        if table.relative:
            xywh = relative_to_pixels(xywh, width, height)
        return AnnotatedImage(
            id=id,
            path=path,
            width=width,
            height=height,
            boxes=clip_boxes(xywh_to_xyxy(xywh), width, height),
            names=tuple(table.classes[i] for i in table.class_index[boxes].tolist()),
            verified=self._verified(id) if self._verified else None,
        )


class PathsInside:
    """Finds images below a folder, as the annotations name them or with fewer folders in front.

    Objects365 names `images/v1/patch8/x.jpg` what its archives unpack as `patch8/x.jpg`, and LVIS
    v1 gives addresses that end in `train2017/x.jpg`. Each folder is looked for once.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[str, str] = {}  # the folder to use, with its slash, of each named one

    def __call__(self, name: str) -> Path:
        """The path of an image.

        Raises:
            InputError: it leaves the folder.
        """
        parent, _, last = name.rpartition("/")
        if parent not in self._found:
            check_relative(name)
            parts = parent.split("/") if parent else []
            options = ["/".join(parts[start:]) for start in range(len(parts))]
            found = next((each for each in options if (self._root / each).is_dir()), parent)
            if (self._root / last).exists() and not (self._root / found).is_dir():
                found = ""
            self._found[parent] = f"{found}/" if found else ""
        return path_inside(self._root, self._found[parent] + last)


class VerifiedClasses:
    """The verified classes of an image, by its id: filled with `add`, then closed by `finish`.

    Entries lie in flat arrays, of which LVIS has some 30 an image: 17 bytes each, or 11 where
    category ids fit into two bytes.

    Args:
        source: the file that the entries come from, for messages.
        typecode: of `array`, for category ids.
    """

    # A class has boxes in the image, is absent, or there may be more of it than is labelled.
    BOXED, ABSENT, OPEN = range(3)

    def __init__(self, source: Path, typecode: str = "q") -> None:
        self._source = source
        self._image: array[int] = array("Q")
        self._category: array[int] = array(typecode)
        self._kind: array[int] = array("b")

    def add(self, image_id: int, category_id: int, kind: int) -> None:
        """Add what is known of a category in an image: BOXED, ABSENT or OPEN."""
        self._image.append(image_id)
        self._category.append(category_id)
        self._kind.append(kind)

    def finish(
        self, names: Mapping[int, str], ancestors: Mapping[int, frozenset[int]] | None = None
    ) -> "VerifiedClasses":
        """Sort the entries by image.

        Args:
            names: the class of each category id. Categories of one class verify it together: it
                is verified where all of them are.
            ancestors: of a category id, those in a hierarchy. What is absent has absent
                descendants, and what is open has open ancestors.

        Raises:
            InputError: an entry is of a category that has no name.
        """
        image = np.array(self._image, np.uint64)
        order = np.argsort(image, kind="stable")
        self._images = image[order]
        self._categories = np.array(self._category)[order]
        self._kinds = np.array(self._kind)[order]
        unknown = self._categories[~np.isin(self._categories, list(names))]
        if unknown.size:
            raise InputError(
                f"{self._source}: an image says something of the category {unknown[0]}, "
                "which is not among the categories; add the category"
            )
        self._names = names
        ids_of: dict[str, set[int]] = {}
        for category_id, name in names.items():
            ids_of.setdefault(name, set()).add(category_id)
        self._ids_of_shared = {name: ids for name, ids in ids_of.items() if len(ids) > 1}
        self._ancestors = ancestors or {}
        self._descendants: dict[int, set[int]] = {}
        for category_id, above in self._ancestors.items():
            for each in above:
                self._descendants.setdefault(each, set()).add(category_id)
        return self

    def __call__(self, image_id: int) -> frozenset[str]:
        """The classes that may be negatives in an image."""
        key = np.uint64(image_id)
        rows = slice(
            np.searchsorted(self._images, key), np.searchsorted(self._images, key, "right")
        )
        category, kind = self._categories[rows], self._kinds[rows]
        kinds = self.BOXED, self.ABSENT, self.OPEN
        boxed, absent, open_ = (set(category[kind == each].tolist()) for each in kinds)
        absent = absent.union(*(self._descendants.get(each, ()) for each in absent))
        open_ = open_.union(*(self._ancestors.get(each, ()) for each in open_))
        closed = (boxed | absent) - open_
        found = {self._names[each] for each in closed}
        return frozenset(name for name in found if self._ids_of_shared.get(name, closed) <= closed)
