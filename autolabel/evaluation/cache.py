"""What is done so far, image by image, so that a stopped evaluation goes on; and who is told."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from regionspot.files import atomic_write


class Reporter(Protocol):
    """Tells a person how far it is."""

    def begin(self, what: str, total: int, done: int) -> None:
        """Something begins, of which some steps were done before."""

    def advance(self) -> None:
        """One more step."""


@dataclass
class Record:
    """What a classifier said of one image.

    Attributes:
        boxes: xyxy pixels.
        box_scores: of each box, as it came.
        rows, words, scores: the best pairs of a box and a word, both by row.
        ranks: of given boxes, how many words were preferred to the true one.
        seconds: it took, from pixels to scores.
    """

    boxes: list[list[float]]
    box_scores: list[float]
    rows: list[int]
    words: list[int]
    scores: list[float]
    ranks: list[int] = field(default_factory=list)
    seconds: float = 0.0
    image_id: int = 0


class WorkFile:
    """Records in a file, one a line, below a line that says what they depend on.

    Args:
        path: of the file; one of another key, or a last line that was cut, is dropped.
        key: of all that the records depend on.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self.done: dict[int, Record] = {}
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        whole = lines[:-1]  # what follows the last line break was not written whole
        if not whole or whole[0] != key:
            whole = [key]
        with atomic_write(path) as file:
            file.writelines(f"{line}\n" for line in whole)
        for line in whole[1:]:
            record = Record(**json.loads(line))
            self.done[record.image_id] = record

    def add(self, record: Record) -> None:
        """Keep a record; it is in the file when this returns."""
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(dataclasses.asdict(record)) + "\n")
        self.done[record.image_id] = record
