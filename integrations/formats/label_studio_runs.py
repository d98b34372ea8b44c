"""Label Studio's packed masks: the format of `@thi.ng/rle-pack`, over RGBA pixels.

A stream of bits, most significant first: the number of values (32 bits), the width of a value less
one (5), four widths of run lengths, each less one (4 bits each); then runs. A run is a bit that
says whether one value repeats, which of the four widths its length has (2), its length less one,
and the value, or as many values as the length says.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_WORD = 8
_WIDTHS = (3, 4, 8, 16)
_CHANNELS = 4


def pack(mask: npt.NDArray[np.bool_]) -> list[int]:
    """A mask (H, W) as bytes; every channel of a pixel of the mask is 255."""
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


def unpack(packed: Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """The mask (height, width) of packed bytes: where the last channel, alpha, is not 0.

    Raises:
        ValueError: the bytes are not of an image of this size.
    """
    bits = _Bits(packed)
    size = bits.take(32)
    word = bits.take(5) + 1
    widths = [bits.take(4) + 1 for _ in range(4)]
    if size != height * width * _CHANNELS:
        raise ValueError(
            f"a brush stroke must have {height * width * _CHANNELS} values, not {size}"
        )
    values = np.zeros(size, np.uint32)
    at = 0
    while at < size:
        repeats = bits.take(1)
        stop = at + 1 + bits.take(widths[bits.take(2)])
        if stop > size:
            raise ValueError("a brush stroke is longer than its image")
        if repeats:
            values[at:stop] = bits.take(word)
        else:
            values[at:stop] = [bits.take(word) for _ in range(at, stop)]
        at = stop
    return values.reshape(height, width, _CHANNELS)[:, :, -1] > 0


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
