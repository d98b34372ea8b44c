"""Sequences whose items are made when they are asked for, as are those of their slices."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

T = TypeVar("T", covariant=True)


class Lazy(Sequence[T]):
    """A sequence that says how it makes one item."""

    @abstractmethod
    def _at(self, row: int) -> T:
        """The item of a row from 0 to the length, without it."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Rows[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Rows[T]":
        rows = range(len(self))[index]
        return Rows(self, rows) if isinstance(rows, range) else self._at(rows)


class Rows(Lazy[T]):
    """Some items of a sequence, in the order of the rows."""

    def __init__(self, items: Sequence[T], rows: Sequence[int]) -> None:
        self.items, self.rows = items, rows

    def __len__(self) -> int:
        return len(self.rows)

    def _at(self, row: int) -> T:
        return self.items[self.rows[row]]
