"""The run folder: what lies where, and its manifest `run.json`.

Of the manifest only `seconds` and `started` differ between two runs of one command; everything
else in the folder is the same, byte for byte.
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autolabel.options import Options
from regionspot.errors import InputError
from regionspot.files import atomic_write

MANIFEST = "run.json"
COCO = "labels.coco.json"
LVIS = "labels.lvis.json"
SKIPPED = "skipped.jsonl"
CONTACT_SHEET = "contact_sheet.png"
REGIONS = "regions"
RUNNING, COMPLETE = "running", "complete"


@dataclass(frozen=True)
class Shard:
    """One finished file of regions.

    Attributes:
        file: relative to the run folder.
        images: how many it answers for, those skipped among them.
        skipped: how many of these could not be read.
        regions: how many boxes it holds.
    """

    file: str
    images: int
    skipped: int
    regions: int
    sha256: str


@dataclass(frozen=True)
class FiftyOneTarget:
    """Where in FiftyOne the labels are.

    Attributes:
        dataset: its name.
        label_field: of the samples.
        run_key: under which the run is registered with the dataset.
        database: folder of a private database; None for the user's own.
    """

    dataset: str
    label_field: str
    run_key: str
    database: str | None = None


@dataclass(frozen=True)
class Manifest:
    """All that is known of a run.

    Attributes:
        name: of the run.
        status: `running` or `complete`.
        dataset: kind, source, root, number of images and their sha256.
        vocabulary: words, synonyms and their sha256.
        options: what decides the content.
        model: versions, and sha256 of every file of weights.
        shards: what is done.
        counts: images, labelled, skipped, labels, and labels by word; empty until complete.
        fiftyone: None where the labels are in files only.
        regions_of: the run whose regions were labelled again; empty for a run of its own.
        seconds: by stage.
        started: date and time, UTC.
    """

    name: str
    status: str
    dataset: Mapping[str, Any]
    vocabulary: Mapping[str, Any]
    options: Options
    model: Mapping[str, str] = field(default_factory=dict)
    shards: tuple[Shard, ...] = ()
    counts: Mapping[str, Any] = field(default_factory=dict)
    fiftyone: FiftyOneTarget | None = None
    regions_of: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    started: str = ""

    @property
    def makes_dataset(self) -> bool:
        """Whether FiftyOne's dataset is the run's own, and not a person's or another run's."""
        return self.dataset["kind"] != "fiftyone" and not self.regions_of

    def differences(self, other: "Manifest") -> list[str]:
        """What is asked for in another way than in `other`, in words for a person."""
        found = []
        for what, mine, its in (
            ("dataset", self.dataset["root"], other.dataset["root"]),
            ("kind of dataset", self.dataset["kind"], other.dataset["kind"]),
            ("words", self.vocabulary["sha256"], other.vocabulary["sha256"]),
            ("regions", self.regions_of, other.regions_of),
        ):
            if mine != its:
                found.append(what)
        if self.dataset["root"] == other.dataset["root"] and (
            self.dataset["sha256"] != other.dataset["sha256"]
        ):
            found.append("images in the dataset")
        for option in dataclasses.fields(Options):
            if getattr(self.options, option.name) != getattr(other.options, option.name):
                found.append("--" + option.name.replace("_", "-"))
        return found


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace `run.json` at once."""
    with atomic_write(folder / MANIFEST) as out:
        json.dump(dataclasses.asdict(manifest), out, indent=1, ensure_ascii=False)
        out.write("\n")


def read_manifest(folder: Path) -> Manifest:
    """Read a run folder's manifest.

    Raises:
        InputError: it is missing or not one of ours.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        target = content["fiftyone"]
        content["options"] = Options(**content["options"])
        content["shards"] = tuple(Shard(**shard) for shard in content["shards"])
        content["fiftyone"] = FiftyOneTarget(**target) if target else None
        return Manifest(**content)
    except OSError as error:
        raise InputError(f"{folder} is no run folder: {path} cannot be read") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a run's manifest: {error}") from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the run folder, which is made if it is not there.

    The lock goes with the process, however that ends, and leaves no file behind.

    Raises:
        InputError: another process writes to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InputError(f"another autolabel is at work on {folder}; wait for it") from error
    finally:
        os.close(descriptor)


def clear(folder: Path) -> None:
    """Remove what a run writes, and nothing else, but for the manifest."""
    for name in (COCO, LVIS, SKIPPED, CONTACT_SHEET):
        (folder / name).unlink(missing_ok=True)
    for path in (folder / REGIONS).glob("*.safetensors"):
        path.unlink()
