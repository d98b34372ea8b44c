"""Masks as run lengths of CVAT and Label Studio, there and back, and a check of COCO's.

COCO: runs go column by column over the image and begin with background. Compressed, a run is a
number of 5 bits a character from "0", least significant first: 32 says that more follow, and 16 of
the last one is the sign. From the fourth on, a run is given less the last but one.

CVAT: runs go row by row over the rectangle of the mask's pixels and begin with background.

Label Studio: brush strokes in the format of `@thi.ng/rle-pack`, over RGBA pixels. A stream of bits,
most significant first: the number of values (32 bits), the width of a value less one (5), four
widths of run lengths, each less one (4 bits each); then runs. A run is a bit that says whether one
value repeats, which of the four widths its length has (2), its length less one, and the value, or
as many values as the length says. `label_studio_sdk.converter.brush` does the same, but its package
is no light one: it brings lxml, nltk and pandas, and bars the OpenCV that is installed here.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# More than any image that can be read has; a mask of more would fill the memory.
MOST_PIXELS = 1 << 28
_WORD = 8
_WIDTHS = (3, 4, 8, 16)
_CHANNELS = 4
_LONGEST_RUN = 7  # characters of COCO's; 35 bits hold every run of an image that can be opened


def column_runs(counts: str) -> npt.NDArray[np.int64]:
    """The runs of COCO's compressed run lengths, which need not fill an image.

    pycocotools decodes any text at all: its runs wrap around and end in pixels that nobody drew, or
    in gigabytes of memory.

    Raises:
        ValueError: it is no such text.
    """
    codes = np.frombuffer(counts.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    codes -= ord("0")
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("not compressed run lengths")
    starts = np.append(0, np.flatnonzero(codes & 32 == 0)[:-1] + 1)
    lengths = np.diff(np.append(starts, len(codes)))
    if lengths.max() > _LONGEST_RUN:
        raise ValueError("a run is longer than any image")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = codes[starts + lengths - 1] & 16 != 0
    runs -= negative * (np.int64(1) << (5 * lengths))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def to_row_runs(mask: npt.NDArray[np.bool_]) -> tuple[list[int], int, int, int, int]:
    """Runs, left, top, width and height of a mask (H, W).

    The runs go row by row over the rectangle of the mask's pixels and begin with background. A
    mask without pixels is one pixel of background.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [1], 0, 0, 1, 1
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    flat = mask[top:bottom, left:right].ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    if flat[0]:
        runs.insert(0, 0)
    return runs, int(left), int(top), int(right - left), int(bottom - top)


def from_row_runs(
    runs: Sequence[int], place: tuple[int, int, int, int], size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """The mask (H, W) of runs.

    Args:
        runs: lengths of background and mask in turn, as `to_row_runs` gives them.
        place: left, top, width and height of the rectangle that the runs fill.
        size: height and width of the image.

    Raises:
        ValueError: the runs do not fill the rectangle, it leaves the image, or that is too large.
    """
    left, top, width, height = place
    _check_size(*size)
    inside = left >= 0 and top >= 0 and left + width <= size[1] and top + height <= size[0]
    if not inside or width < 1 or height < 1:
        raise ValueError(f"a mask at {place} leaves the image of {size[1]} x {size[0]} pixels")
    if min(runs, default=0) < 0 or sum(runs) != width * height:
        raise ValueError(f"a mask's runs must add up to {width} x {height} pixels")
    values = np.arange(len(runs)) % 2 == 1
    mask = np.zeros(size, np.bool_)
    mask[top : top + height, left : left + width] = np.repeat(values, runs).reshape(height, width)
    return mask


def pack_brush(mask: npt.NDArray[np.bool_]) -> list[int]:
    """A mask (H, W) as bytes; each channel of a pixel of the mask is 255."""
    flat = mask.ravel()
    bits = [f"{flat.size * _CHANNELS:032b}", f"{_WORD - 1:05b}"]
    bits += [f"{width - 1:04b}" for width in _WIDTHS]
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [flat.size]])) * _CHANNELS
    for start, length in zip(starts, lengths.tolist(), strict=True):
        value = "1" * _WORD if flat[start] else "0" * _WORD
        while length:
            part = min(length, 1 << _WIDTHS[-1])
            index = next(i for i, width in enumerate(_WIDTHS) if part <= 1 << width)
            bits.append(f"1{index:02b}{part - 1:0{_WIDTHS[index]}b}{value}")
            length -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def unpack_brush(packed: Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """The mask (height, width) of packed bytes: where the last channel, alpha, is not 0.

    Raises:
        ValueError: the bytes are not of an image of this size.
    """
    _check_size(height, width)
    bits = _Bits(packed)
    size = bits.take(32)
    word = bits.take(5) + 1
    widths = [bits.take(4) + 1 for _ in range(4)]
    if size != height * width * _CHANNELS:
        raise ValueError(
            f"a brush stroke must have {height * width * _CHANNELS} values, not {size}"
        )
    values = np.zeros(size, np.bool_)
    at = 0
    while at < size:
        repeats = bits.take(1)
        stop = at + 1 + bits.take(widths[bits.take(2)])
        if stop > size:
            raise ValueError("a brush stroke is longer than its image")
        if repeats:
            values[at:stop] = bits.take(word) != 0
        else:
            values[at:stop] = [bits.take(word) != 0 for _ in range(at, stop)]
        at = stop
    # (H * W * 4,) to (H, W, 4)
    return values.reshape(height, width, _CHANNELS)[:, :, -1]


def _check_size(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise ValueError(f"a mask of {width} x {height} pixels is larger than any image read here")


class _Bits:
    """Reads numbers of some bits from bytes."""

    def __init__(self, packed: Sequence[int]) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in bytes(packed))
        self._at = 0

    def take(self, count: int) -> int:
        text = self._bits[self._at : self._at + count]
        if len(text) < count:
            raise ValueError("a brush stroke ends early")
        self._at += count
        return int(text, 2)
