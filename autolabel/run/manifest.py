"""The run folder: its files, and its manifest `run.json`, which is the only state that lasts.

The manifest holds the sha256 of every file that is finished, and its own. Only `seconds`, `started`
and that sha256 differ between two runs of one command (and `growth`, where one of them grew);
everything else in the folder is the same, byte for byte.
"""

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from autolabel.options import Natural, Options, validated
from regionspot.errors import InputError
from regionspot.files import atomic_write, remove_leftovers
from regionspot.process import Holder
from regionspot.weights import sha256_of

SCHEMA_VERSION = 3  # of manifest and shards; 1 had no number
MANIFEST = "run.json"
COCO = "labels.coco.json"
LVIS = "labels.lvis.json"
SKIPPED = "skipped.jsonl"
CONTACT_SHEET = "contact_sheet.png"
REGIONS = "regions"
EARLIER_REGIONS = "regions-earlier"  # of a run that grows, until it has grown
LOCK = ".autolabel-lock.json"
RUNNING, COMPLETE = "running", "complete"


class UnusableManifest(InputError):  # noqa: N818  (a state of a folder, which can be overwritten)
    """A run's manifest of another schema version, or with a field that is wrong."""


class DatasetInfo(TypedDict):
    """The images of a run; see `ImageSource`. `images` counts those that were skipped, too.

    `limit` and `of` are there where only the first `limit` of `of` images are labelled.
    """

    kind: str
    root: str
    images: int
    sha256: str
    limit: NotRequired[int]
    of: NotRequired[int]


class VocabularyInfo(TypedDict):
    """The words of a run, each with the strings that stand for it, and its group if any has one.

    Where some words have examples: `examples`, of each word its references, and the sha256 of all
    that these name; `reviewed`, of each word the number of its reviewed labels that are examples.
    Where some have a threshold of their own: `thresholds`, None for the others.
    Background words are in `background` alone, each with its strings.
    """

    words: list[str]
    synonyms: list[list[str]]
    sha256: str
    groups: NotRequired[list[str]]
    thresholds: NotRequired[list[float | None]]
    background: NotRequired[dict[str, list[str]]]
    examples: NotRequired[list[list[str]]]
    examples_sha256: NotRequired[str]
    reviewed: NotRequired[dict[str, int]]


class Counts(TypedDict, total=False):
    """Numbers of images and labels; `by_word` counts the labels of each word.

    `background`, where there are background words, counts their labels, which are not written.
    """

    images: int
    labelled: int
    labels: int
    by_word: dict[str, int]
    background: dict[str, int]
    skipped: int


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One finished file of regions.

    Attributes:
        file: relative to the run folder.
        images: number of images, the skipped ones included.
        skipped: number of images that could not be read.
        regions: number of boxes.
    """

    file: str
    images: int
    skipped: int
    regions: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class FiftyOneTarget:
    """Where in FiftyOne the labels are.

    Attributes:
        dataset: name of the dataset.
        label_field: field of the samples.
        run_key: key under which the run is registered with the dataset.
        database: folder of a private database; None: the user's own.
    """

    dataset: str
    label_field: str
    run_key: str
    database: str | None = None

    @property
    def database_folder(self) -> Path | None:
        """`database` as a path."""
        return Path(self.database) if self.database else None


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the images of a run that grew compare with those that it had.

    Attributes:
        new: that it did not have.
        changed: of other content than before, or with other boxes given.
        unchanged: whose regions were kept.
        deleted: that are not listed any more; their labels are kept.
        left_out: that are not listed any more, of a run that was never complete.
    """

    new: Natural
    changed: Natural
    unchanged: Natural
    deleted: Natural
    left_out: Natural = 0


@dataclass(frozen=True, kw_only=True)
class EarlierImages:
    """Images and regions that a run had at a time before it has grown.

    Attributes:
        root: absolute folder that their names are relative to.
        shards: of their regions, in `EARLIER_REGIONS`.
        complete: whether the run was complete, and had labels of all its images.
    """

    root: str
    shards: tuple[Shard, ...]
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `run.json`.

    Attributes:
        schema_version: version of the layout of the run folder.
        name: of the run.
        status: `running` or `complete`.
        options: the options that decide the labels.
        model: versions of packages, and sha256 of every file of weights.
        shards: the files of regions that are finished.
        counts: empty until the run is complete.
        files: sha256 of each finished output by its name in the run folder.
        fiftyone: None where the labels are in files only.
        regions_of: folder of the run whose regions were labelled again; empty for other runs.
        into: folder of the run in whose FiftyOne dataset the labels are; empty for other runs.
        carry_reviewed: whether reviewed labels of that run, or of the one whose regions were
            labelled again, are carried over.
        carried: numbers of `Carried` when labels were last written to FiftyOne; empty where no
            labels are carried over.
        seconds: wall-clock seconds by stage.
        started: date and time, UTC, to the microsecond: FiftyOne's registration knows a run by it.
        growth: what the last images that were added made of the run; None where none were.
        earlier: while the run grows, what it had before it, and what each growth that was stopped
            computed.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    status: str = RUNNING
    dataset: DatasetInfo
    vocabulary: VocabularyInfo
    options: Options
    model: Mapping[str, str] = field(default_factory=dict)
    shards: tuple[Shard, ...] = ()
    counts: Counts = field(default_factory=Counts)
    files: Mapping[str, str] = field(default_factory=dict)
    fiftyone: FiftyOneTarget | None = None
    regions_of: str = ""
    into: str = ""
    carry_reviewed: bool = False
    carried: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    started: str = ""
    growth: Growth | None = None
    earlier: tuple[EarlierImages, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all outputs were written."""
        return self.status == COMPLETE

    @property
    def was_complete(self) -> bool:
        """Whether the run is complete, or was so before it began to grow."""
        return self.earlier[0].complete if self.earlier else self.is_complete

    @property
    def makes_dataset(self) -> bool:
        """Whether FiftyOne's dataset is the run's own, and not a person's or another run's."""
        return self.dataset["kind"] != "fiftyone" and not (self.regions_of or self.into)

    def differences(self, other: "Manifest") -> list[str]:
        """Names of the inputs and options in which two runs differ, as a message lists them."""
        here, there = self.dataset, other.dataset
        pairs: dict[str, tuple[object, object]] = {
            "dataset": (here["root"], there["root"]),
            "kind of dataset": (here["kind"], there["kind"]),
            "words": (self.vocabulary["sha256"], other.vocabulary["sha256"]),
            "examples": (
                self.vocabulary.get("examples_sha256"),
                other.vocabulary.get("examples_sha256"),
            ),
            "regions": (self.regions_of, other.regions_of),
            "--into": (self.into, other.into),
            "--carry-reviewed": (self.carry_reviewed, other.carry_reviewed),
            "--limit": (here.get("limit"), there.get("limit")),
        }
        if here["root"] == there["root"] and here.get("limit") == there.get("limit"):
            pairs["images in the dataset"] = here["sha256"], there["sha256"]
        for name, value in vars(self.options).items():
            pairs["--" + name.replace("_", "-")] = value, getattr(other.options, name)
        return [name for name, (mine, its) in pairs.items() if mine != its]


def time_of_start() -> str:
    """Date and time, UTC, to the microsecond: two runs into one folder may share a second."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def count_images(shards: Iterable[Shard]) -> int:
    """Number of images in some shards, also those that could not be read."""
    return sum(shard.images for shard in shards)


@dataclass
class RunFolder:
    """A run folder and its manifest as `run.json` holds it."""

    folder: Path
    manifest: Manifest

    def update(self, **changes: Any) -> None:
        """Change fields of the manifest, and replace `run.json` at once."""
        self.manifest = dataclasses.replace(self.manifest, **changes)
        content = dataclasses.asdict(self.manifest)
        content["sha256"] = manifest_sha256(content)
        with atomic_write(self.folder / MANIFEST) as out:
            json.dump(content, out, indent=1, ensure_ascii=False)
            out.write("\n")

    def clear(self) -> None:
        """Remove the files that a run writes, and nothing else, except the manifest."""
        for name in (COCO, LVIS, SKIPPED, CONTACT_SHEET):
            (self.folder / name).unlink(missing_ok=True)
        for path in (self.folder / REGIONS).glob("*.safetensors"):
            path.unlink()
        shutil.rmtree(self.folder / EARLIER_REGIONS, ignore_errors=True)


def read_manifest(folder: Path) -> Manifest:
    """Read a run folder's manifest.

    Raises:
        InputError: the manifest is missing, or is no run's.
        UnusableManifest: it is of another schema version, or one of its fields is wrong.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except OSError as error:
        if not folder.exists():
            raise InputError(f"{folder} is not there: give a run folder") from error
        raise InputError(f"{folder} is no run folder: {path} cannot be read") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a run's manifest: {error}") from error
    if not isinstance(content, dict) or not content.keys() >= {"options", "shards"}:
        raise InputError(f"{path} is not a run's manifest: it has no options and no shards")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise UnusableManifest(
            f"{path}: schema_version must be {SCHEMA_VERSION}, got "
            f"{content.get('schema_version', 'none')}; run again with --overwrite, or use the "
            "autolabel that wrote it"
        )
    written = content.pop("sha256", None)
    try:
        manifest = validated(Manifest, json.dumps(content), lambda name: f"{path}: {name}")
    except InputError as error:
        raise UnusableManifest(f"{error}; mend it, or run again with --overwrite") from error
    if written != manifest_sha256(content):
        raise UnusableManifest(
            f"{path} was changed after it was written: its sha256 does not fit; restore it, or run "
            "again with --overwrite"
        )
    return manifest


def manifest_sha256(content: Mapping[str, Any]) -> str:
    """Sha256 of a manifest's values but that of `sha256` itself, whatever their order or layout."""
    values = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def damaged_files(folder: Path, manifest: Manifest) -> list[str]:
    """Names of the finished files of a run that are missing or have other bytes than it wrote."""
    expected = {shard.file: shard.sha256 for shard in manifest.shards} | dict(manifest.files)
    return [name for name, sha256 in expected.items() if not _has_sha256(folder / name, sha256)]


def _has_sha256(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False


def read_complete(folder: Path) -> Manifest:
    """Read the manifest of a complete run.

    Raises:
        InputError: as `read_manifest`, or the run is not complete.
    """
    manifest = read_manifest(folder)
    if not manifest.is_complete:
        raise InputError(f"{folder} is not complete; give its command again to resume it")
    return manifest


def in_fiftyone(folder: Path) -> Manifest:
    """Read the manifest of a complete run that has labels in FiftyOne.

    Raises:
        InputError: as `read_complete`, or its labels are in files alone.
    """
    manifest = read_complete(folder)
    if manifest.fiftyone is None:
        raise InputError(
            f"{folder} has no labels in FiftyOne; give its command again without --no-fiftyone"
        )
    return manifest


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the run folder against other processes; a missing folder is made.

    The lock ends with the process, however that ends. A file beside the manifest names its holder
    meanwhile. What killed processes left in the folder is removed.

    Raises:
        InputError: another process writes to it; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    held_by = folder / LOCK
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        holder = _holder(held_by)
        raise InputError(
            f"another autolabel is at work on {folder}{f' ({holder})' if holder else ''}; "
            "wait for it"
        ) from error
    try:
        sweep(folder)
        held_by.write_text(json.dumps(dataclasses.asdict(Holder.current())) + "\n")
        yield
    finally:
        held_by.unlink(missing_ok=True)
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a run folder: temporary files, and a lock's file."""
    for each in (folder, folder / REGIONS):
        remove_leftovers(each)
    holder = _holder(folder / LOCK)
    if holder is not None and not holder.is_running:
        with suppress(OSError):
            (folder / LOCK).unlink()


def _holder(path: Path) -> Holder | None:
    """Who wrote a lock's file; None where it is gone or half-written."""
    try:
        return validated(Holder, path.read_text(), str)
    except (OSError, ValueError):
        return None
