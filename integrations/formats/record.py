"""One record of a JSON label file: typed access that names the record of an unusable value."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from pycocotools import mask as coco_mask

from integrations.annotations import Attribute, Polygons, Tally
from integrations.formats.rle import column_runs
from integrations.masks import LARGEST_COORDINATE, MOST_PIXELS
from regionspot.boxes import Box, xywh_to_xyxy
from regionspot.errors import InputError
from regionspot.files import is_utf8
from regionspot.types import Rle

_POLYGON_NUMBERS = 6
_NUMBERS = (int, float)
_LARGEST = sys.float_info.max
_LONGEST_PROBLEM = 500
_LONGEST_SIDE = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Record:
    """An object of one of a file's lists. Every method raises InputError.

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
        """Raise the InputError that names file and record; a value that it quotes may be long."""
        if len(problem) > _LONGEST_PROBLEM:
            problem = f"{problem[:_LONGEST_PROBLEM]}..."
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
        if not 0 <= side <= _LONGEST_SIDE:
            self.refuse(f'"{key}" must be 1 or more and the side of an image, got {side}')
        return side

    def text(self, key: str, default: str | None = None) -> str:
        """A string; `default` where the key is missing or null."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            self.refuse(f'"{key}" must be a string, got {value!r:.40}')
        return self._check_text(key, value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; a missing one is empty."""
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            self.refuse(f'"{key}" must be a list of strings')
        return tuple(self._check_text(key, value) for value in values)

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
        """COCO's left, top, width, height as corners x1, y1, x2, y2, which may be reversed."""
        left, top, width, height = map(float, self.xywh(key))
        if max(map(abs, (left, top, width, height))) > LARGEST_COORDINATE:
            self.refuse(f'"{key}" must lie near its image, got {self.values[key]!r:.80}')
        return xywh_to_xyxy((left, top, width, height))

    def mask(self, key: str, width: int, height: int, tally: Tally) -> Rle | Polygons | None:
        """Polygons or run lengths, of an image of this size where it is known (not 0).

        A polygon with fewer than three corners is left out.
        """
        value = self.values.get(key)
        if not value:
            return None
        if isinstance(value, list):
            return self._polygons(key, value, tally)
        if not isinstance(value, dict):
            self.refuse(f'"{key}" must be polygons or run lengths, got {value!r:.40}')
        size = self.part(value).wholes("size")
        if len(size) != 2 or (width and height and size != (height, width)):
            self.refuse(f'"{key}" must have the size [{height}, {width}], got {list(size)}')
        if min(size) < 1 or math.prod(size) > MOST_PIXELS:
            self.refuse(f'"{key}" must have the size of an image, got {list(size)}')
        return self._runs(key, list(size), value.get("counts"))

    def flag(self, key: str) -> bool:
        """0 or 1, false or true; a missing one is false."""
        value = self.values.get(key)
        if value not in (None, 0, 1):
            self.refuse(f'"{key}" must be 0 or 1, got {value!r:.40}')
        return bool(value)

    def attributes(self, keys: frozenset[str]) -> dict[str, Attribute]:
        """All single values but those of `keys`."""
        found: dict[str, Attribute] = {}
        for key, value in self.values.items():
            if key in keys or isinstance(value, list | dict):
                continue
            if isinstance(value, str):
                self._check_text(key, value)
            elif value is not None and not abs(value) <= _LARGEST:
                self._number(key, value)
            found[self._key(key)] = value
        return found

    def extra(self, keys: frozenset[str]) -> dict[str, Any]:
        """All lists and objects but those of `keys`, as JSON gave them."""
        found = {
            self._key(key): value
            for key, value in self.values.items()
            if key not in keys and isinstance(value, list | dict)
        }
        for key, value in found.items():
            try:
                json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
            except (ValueError, RecursionError) as error:
                problem = f'"{key}" must hold finite numbers and whole characters'
                raise InputError(f"{self.where}: {problem}: {error}") from error
        return found

    def checked(self) -> dict[str, Any]:
        """All values, checked to be such that JSON can be written of them."""
        return self.extra(frozenset()) | self.attributes(frozenset())

    def _runs(self, key: str, size: list[int], counts: object) -> Rle:
        if isinstance(counts, str):
            problem = f'"{key}" has run lengths that do not fill {size[0]} x {size[1]} pixels'
            try:
                found = column_runs(counts)
            except ValueError as error:
                self.refuse(f"{problem}: {error}: {counts!r:.40}")
            if found.min() < 0 or found.sum() != math.prod(size):
                self.refuse(problem)
            return Rle(size=size, counts=counts)
        if not isinstance(counts, list):
            self.refuse(f'"{key}" must have counts')
        runs = [self._whole(key, run) for run in counts]
        if min(runs, default=0) < 0 or sum(runs) != math.prod(size):
            self.refuse(f'"{key}" must have counts that add up to the size {size}')
        packed = coco_mask.frPyObjects({"size": size, "counts": runs}, *size)
        return Rle(size=size, counts=packed["counts"].decode("ascii"))

    def _polygons(self, key: str, value: Sequence[object], tally: Tally) -> Polygons | None:
        polygons = []
        for points in value:
            if not isinstance(points, list) or len(points) % 2:
                self.refuse(f'"{key}" must hold lists of x, y, x, y, ...')
            corners = tuple(self._number(key, number) for number in points)
            if not all(abs(number) <= LARGEST_COORDINATE for number in corners):
                self.refuse(f'"{key}" has a corner that no image can have')
            if len(points) >= _POLYGON_NUMBERS:
                polygons.append(corners)
            elif points:
                tally.leave_out("polygon", "it has fewer than three corners", self.where)
        return tuple(polygons) or None

    def _check_text(self, key: str, value: str) -> str:
        if not value.isascii() and not is_utf8(value):
            self.refuse(f'"{key[:40]!a}" holds half of a character, got {value!r:.40}')
        return value

    def _key(self, key: str) -> str:
        return self._check_text(key, key)

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
        if not number.is_integer() or abs(number) >= 1 << 63:
            self.refuse(f'"{key}" must be a whole number of at most 63 bits, got {value!s:.40}')
        return value if isinstance(value, int) else int(number)
