"""What the tests of the tool share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from typer.testing import Result

from autolabel.run_folder import Manifest, read_manifest

PHOTOS = ("cat", "coffee", "motorcycle", "rocket", "astronaut")
WORDS = "# what the photos show\nperson\ncat: kitten\ncup: coffee cup\nmotorcycle\nrocket\nhorse\n"

Autolabel = Callable[..., Result]


@dataclass(frozen=True)
class FinishedRun:
    """A run over real photos, in shards of two. Tests must leave it and its dataset as it is."""

    folder: Path
    photos: Path
    words: Path
    output: str

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.folder)

    @property
    def command(self) -> list[str]:
        files = ["--vocab", str(self.words), "--out", str(self.folder)]
        options = ["--shard-size", "2", "--batch-size", "1", "--conf-threshold", "0.05"]
        return ["run", str(self.photos), *files, *options]
