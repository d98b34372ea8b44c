"""What the tests of the tool share."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import Result

from autolabel.run.manifest import Manifest, read_manifest

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


def start_review(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """`autolabel review` as a process that Ctrl-C ends, also where the tests run in the background
    and would hand down that it is ignored."""
    program = "from autolabel.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, "review", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def app_address_line(process: subprocess.Popen[str]) -> str:
    """The line with the App's address; FiftyOne may print others before it."""
    assert process.stdout is not None
    return next((line for line in process.stdout if "FiftyOne at" in line), "")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
