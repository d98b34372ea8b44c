"""All boxes of a data set in flat arrays, and its images put together from them one by one.

Some 60 bytes an image and 20 a box: the 27 million boxes of Objects365 take half a gigabyte.
Readers fill a `BoxTableBuilder` in whatever order their files are in.

Axes: M images, A boxes of all images, N boxes of one image.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from integrations.annotations import Tally
from integrations.images import UnreadableImage, image_size
from integrations.masks import LARGEST_COORDINATE
from regionspot.boxes import FloatArray, box_area, clip_boxes, relative_to_pixels, xywh_to_xyxy
from regionspot.errors import InputError
from regionspot.files import check_relative, path_inside
from train.data.dataset import AnnotatedImage, LazySequence

CHUNK = 1 << 20  # boxes that are checked together
# What a box may reach out of its image by rounding, by whether boxes are in fractions of the sides.
ROUNDING = {False: 1.0, True: 1e-3}
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass
class BoxTableBuilder:
    """Collects images and boxes, in any order.

    Attributes:
        source: the file they come from, for messages.
        folder: of the images.
        relative: boxes are in fractions of the image's sides, not in pixels.
        tally: counts the boxes that are clipped or left out.
    """

    source: Path
    folder: Path
    relative: bool = False
    tally: Tally = field(default_factory=Tally)
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

    def finish(self, classes: Sequence[str | None]) -> "BoxTable":
        """The table, without images that have no box.

        Boxes are left out, and counted, whose image or class is not known, and those that are
        empty once clipped.

        Args:
            classes: that class indices count in; None where the file does not say the class.

        Raises:
            InputError: two images have the same id, a box lies far from its image, or no box is
                left.
        """
        ids = np.array(self.ids, np.uint64)
        row = self._rows_of_boxes(ids)
        boxes = np.array(self.xywh, np.float32).reshape(-1, 4)  # (4 A,) to (A, 4)
        is_kept = self._have_image_and_class(row, classes)
        sizes = np.array(self.sizes, np.int32).reshape(-1, 2)  # (2 M,) to (M, 2)
        self._leave_out_empty(boxes, sizes, row, is_kept)
        kept = np.flatnonzero(is_kept)
        if not kept.size:
            found = "; ".join(self.tally.lines()) or "it has no boxes"
            raise InputError(f"{self.source}: there is no box to train on: {found}")
        order = kept[np.argsort(row[kept], kind="stable")]
        counts = np.bincount(row[order], minlength=len(ids))
        used = np.flatnonzero(counts)
        ends = np.array(self.name_ends, np.int64)
        return BoxTable(
            folder=self.folder,
            relative=self.relative,
            classes=tuple(name or "" for name in classes),
            ids=ids[used],
            sizes=sizes[used],
            names=bytes(self.names),
            name_spans=np.stack([np.append(0, ends)[:-1], ends], axis=1)[used],
            starts=np.concatenate([[0], np.cumsum(counts[used])]),
            xywh=boxes[order],
            class_index=np.array(self.box_class, np.int32)[order],
        )

    def _rows_of_boxes(self, ids: npt.NDArray[np.uint64]) -> Ints:
        """(A,) the row of each box's image; -1 where there is none."""
        by_id = np.argsort(ids, kind="stable")
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
        row = np.full(len(wanted), -1, np.int64)
        row[known] = by_id[place[known]]
        return row

    def _have_image_and_class(self, row: Ints, classes: Sequence[str | None]) -> Bools:
        """(A,) whether a box's image and class are known."""
        has_image = row >= 0
        named = np.array([name is not None for name in classes], bool)
        has_class = named[np.array(self.box_class, np.int32)] if len(named) else has_image
        for is_missing, key in (
            (~has_image, "image_id is not among the images"),
            (has_image & ~has_class, "category_id is not among the categories"),
        ):
            self._leave_out(np.flatnonzero(is_missing), row, f"its {key}")
        return has_image & has_class

    def _leave_out_empty(
        self, boxes: FloatArray, sizes: npt.NDArray[np.int32], row: Ints, is_kept: Bools
    ) -> None:
        """Take out of `is_kept` the boxes that are empty once clipped to their images."""
        for start in range(0, len(boxes), CHUNK):
            rows = start + np.flatnonzero(is_kept[start : start + CHUNK])
            xywh = boxes[rows]
            far = ~(np.abs(xywh) <= LARGEST_COORDINATE).all(1)
            if far.any():
                first = int(np.argmax(far))
                raise InputError(
                    f"{self._place(rows[first], row)}: a box must lie near its image, got "
                    f"{xywh[first].tolist()}"
                )
            corners = xywh_to_xyxy(xywh)
            sides = sizes[row[rows]].astype(np.float32)
            limit = np.tile(np.ones_like(sides) if self.relative else sides, 2)
            clipped = np.clip(corners, np.float32(0), limit)
            is_reversed = (xywh[:, 2:] < 0).any(1)
            is_empty = ~(box_area(clipped) > 0)
            reaches_out = (np.abs(clipped - corners) > ROUNDING[self.relative]).any(1)
            self._leave_out(rows[is_reversed], row, "its box has a negative width or height")
            self._leave_out(rows[is_empty & ~is_reversed], row, "it has no area inside the image")
            if (out := rows[reaches_out & ~is_empty]).size:
                reason = "it reaches out of the image and is clipped"
                self.tally.change("box", reason, self._place(out[0], row), out.size)
            is_kept[rows[is_empty]] = False

    def _leave_out(self, boxes: Ints, row: Ints, reason: str) -> None:
        if boxes.size:
            self.tally.leave_out("label", reason, self._place(boxes[0], row), boxes.size)

    def _place(self, box: int, row: Ints) -> str:
        """The file, and the image of a box."""
        image = int(row[box])
        if image < 0:
            return f"{self.source}: image_id {self.box_image[box]}"
        start = self.name_ends[image - 1] if image else 0
        name = self.names[start : self.name_ends[image]].decode("utf-8", "replace")
        return f"{self.source}: image {name!r}"


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
