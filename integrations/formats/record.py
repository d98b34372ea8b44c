"""One record of a JSON label file: typed access that names the record of an unusable value."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from pycocotools import mask as coco_mask

from integrations.annotations import Attribute, Polygons
from regionspot.boxes import Box, xywh_to_xyxy
from regionspot.errors import InputError
from regionspot.types import Rle

_POLYGON_NUMBERS = 6
_NUMBERS = (int, float)
_LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Record:
    """An object of one of a file's lists. Every method but `attributes` raises InputError.

    Attributes:
        path: of the file.
        group: the key of the list, or what a file that is a list holds.
        index: in the list.
        values: of the object, as JSON gave them.
    """

    path: Path
    group: str
    index: int
    values: Mapping[str, Any]

    @property
    def where(self) -> str:
        """File and record, for messages."""
        return f"{self.path}: {self.group}[{self.index}]"

    def refuse(self, problem: str) -> NoReturn:
        """Raise the InputError that names file and record."""
        raise InputError(f"{self.where}: {problem}")

    def part(self, values: Mapping[str, Any]) -> "Record":
        """Some values inside of this record, named as the record is."""
        return replace(self, values=values)

    def whole(self, key: str) -> int:
        """A whole number; 3.0 counts as one."""
        return self._whole(key, self.values.get(key))

    def wholes(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers; a missing one is empty."""
        return tuple(self._whole(key, value) for value in self._list(key))

    def identifier(self, key: str) -> int:
        """A whole number that is not negative and fits into 63 bits."""
        value = self.whole(key)
        if not 0 <= value < 1 << 63:
            self.refuse(f'"{key}" must be a whole number from 0, got {value}')
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        return self._number(key, self.values.get(key))

    def size(self, key: str) -> int:
        """A side of an image in pixels; 0 where the file does not say."""
        side = self._whole(key, self.values.get(key) or 0)
        if side < 0:
            self.refuse(f'"{key}" must be 1 or more, got {side}')
        return side

    def text(self, key: str, default: str | None = None) -> str:
        """A string; `default` where the key is missing or null."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            self.refuse(f'"{key}" must be a string, got {value!r:.40}')
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; a missing one is empty."""
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            self.refuse(f'"{key}" must be a list of strings')
        return tuple(values)

    def xywh(self, key: str) -> Box:
        """COCO's left, top, width, height in pixels: four finite numbers as the file has them."""
        values = self._list(key)
        if len(values) != 4:
            self.refuse(f'"{key}" must be left, top, width, height, got {values!r:.60}')
        for value in values:
            # `_number` says what is wrong; it is not called for each of millions of boxes.
            if type(value) not in _NUMBERS or not abs(value) <= _LARGEST:
                self._number(key, value)
        left, top, width, height = values
        return left, top, width, height

    def box(self, key: str) -> Box:
        """COCO's left, top, width, height as corners x1, y1, x2, y2."""
        left, top, width, height = map(float, self.xywh(key))
        if width < 0 or height < 0:
            self.refuse(f'"{key}" must have no negative width or height, got {self.values[key]}')
        return xywh_to_xyxy((left, top, width, height))

    def mask(self, key: str, width: int, height: int) -> Rle | Polygons | None:
        """Polygons or run lengths, of an image of this size where it is known (not 0)."""
        value = self.values.get(key)
        if not value:
            return None
        if isinstance(value, list):
            return self._polygons(key, value)
        if not isinstance(value, dict):
            self.refuse(f'"{key}" must be polygons or run lengths, got {value!r:.40}')
        size = [self._whole(key, side) for side in value.get("size") or ()]
        if len(size) != 2 or (width and height and size != [height, width]):
            self.refuse(f'"{key}" must have the size [{height}, {width}], got {size}')
        return self._runs(key, size, value.get("counts"))

    def attributes(self, keys: frozenset[str]) -> dict[str, Attribute]:
        """All single values but those of `keys`."""
        return {
            key: value
            for key, value in self.values.items()
            if key not in keys and (value is None or isinstance(value, str | int | float))
        }

    def _runs(self, key: str, size: list[int], counts: object) -> Rle:
        if isinstance(counts, str):
            return Rle(size=size, counts=counts)
        if not isinstance(counts, list):
            self.refuse(f'"{key}" must have counts')
        runs = [self._whole(key, run) for run in counts]
        if min(runs, default=0) < 0 or sum(runs) != math.prod(size):
            self.refuse(f'"{key}" must have counts that add up to the size {size}')
        packed = coco_mask.frPyObjects({"size": size, "counts": runs}, *size)
        return Rle(size=size, counts=packed["counts"].decode("ascii"))

    def _polygons(self, key: str, value: Sequence[object]) -> Polygons | None:
        polygons = []
        for points in value:
            if not isinstance(points, list) or len(points) % 2:
                self.refuse(f'"{key}" must hold lists of x, y, x, y, ...')
            if points and len(points) < _POLYGON_NUMBERS:
                self.refuse(f'"{key}" has a polygon with fewer than three corners; leave it out')
            if points:
                polygons.append(tuple(self._number(key, number) for number in points))
        return tuple(polygons) or None

    def _list(self, key: str) -> list[Any]:
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(f'"{key}" must be a list, got {value!r:.40}')
        return value

    def _number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(f'"{key}" must be a number, got {value!r:.40}')
        if not abs(value) <= _LARGEST:
            self.refuse(f'"{key}" must be finite, got {value!s:.40}')
        return float(value)

    def _whole(self, key: str, value: object) -> int:
        number = self._number(key, value)
        if not number.is_integer():
            self.refuse(f'"{key}" must be a whole number, got {value}')
        return value if isinstance(value, int) else int(number)
