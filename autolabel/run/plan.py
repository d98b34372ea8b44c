"""What a run is going to do, said before anything is written."""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autolabel.options import LABEL_FIELD, RUNS_FOLDER, Options
from autolabel.run.images import FIFTYONE_PREFIX, Dataset, open_dataset
from autolabel.run.manifest import COMPLETE, MANIFEST, RUNNING, Manifest, read_manifest
from integrations.detectors import DETECTORS
from integrations.vocabulary_file import WordList, read_words
from regionspot.checkpoint import load_head
from regionspot.config import preset
from regionspot.errors import InputError
from regionspot.model import find_checkpoint
from regionspot.weights import WEIGHTS, WeightFile, cached_path

# Measured on photos of 640 x 480: an image's share of the shard, of both label files and of
# FiftyOne's database.
KILOBYTES_AN_IMAGE = 40


@dataclass(frozen=True)
class Request:
    """What a person asks of a run.

    Attributes:
        source: a folder, a COCO JSON, or `fiftyone:NAME`.
        vocab: the file of words.
        images: the folder of the images that a COCO JSON names.
        out: the run folder; None: below `runs`, named after the dataset.
        label_field: of FiftyOne's samples.
        fiftyone: whether labels go there, too.
        database: a folder for a FiftyOne of its own; None for the user's.
        overwrite: whether to start anew where there is a run, a label field or both.
    """

    source: str
    vocab: Path
    images: Path | None = None
    out: Path | None = None
    label_field: str = LABEL_FIELD
    options: Options = dataclasses.field(default_factory=Options)
    fiftyone: bool = True
    database: Path | None = None
    overwrite: bool = False

    @property
    def is_in_fiftyone(self) -> bool:
        """Whether the images lie in a dataset of FiftyOne's."""
        return self.source.startswith(FIFTYONE_PREFIX)


@dataclass(frozen=True)
class Plan:
    """A request that was found sound.

    Attributes:
        folder: the run folder.
        wanted: the manifest that the run begins with.
        before: the one that lies in the folder; None where there is none.
    """

    request: Request
    folder: Path
    words: WordList
    dataset: Dataset
    wanted: Manifest
    before: Manifest | None

    @property
    def goes_on(self) -> bool:
        """Whether an earlier run of the same command is taken up."""
        return self.before is not None and not self.request.overwrite

    @property
    def state(self) -> str:
        """What lies in the run folder and what becomes of it, in words."""
        if self.before is None:
            return "new"
        if self.request.overwrite:
            return "holds a run, which is overwritten"
        if self.before.status == COMPLETE:
            return "holds this very run, complete"
        done = sum(shard.images for shard in self.before.shards)
        return f"holds this very run, which goes on after {done} images"

    def missing_weights(self) -> list[WeightFile]:
        """Files of weights that are fetched first."""
        model = self.request.options.model
        used = [file for file in WEIGHTS.values() if model in file.used_by]
        return [file for file in used if not cached_path(file).exists()]

    def megabytes(self) -> float:
        """A rough estimate of what is written."""
        return len(self.dataset.images) * KILOBYTES_AN_IMAGE / 1000


def make_plan(request: Request) -> Plan:
    """Read words and dataset and look at the run folder.

    Raises:
        InputError: something of it cannot be used.
    """
    options = request.options
    options.check()
    config = preset(options.model)
    load_head(
        Path(options.checkpoint) if options.checkpoint else find_checkpoint(config.name), config
    )
    if options.detector and options.detector not in DETECTORS:
        raise InputError(f"--detector must be one of {', '.join(DETECTORS)}")
    words = read_words(request.vocab)
    if request.is_in_fiftyone:
        from integrations.fiftyone.session import connect  # FiftyOne takes seconds to import

        connect(request.database)
    dataset = open_dataset(request.source, request.images)
    folder = request.out or Path(RUNS_FOLDER) / dataset.name
    wanted = Manifest(
        name=folder.resolve().name,
        status=RUNNING,
        dataset={
            "kind": dataset.kind,
            "root": str(dataset.root),
            "images": len(dataset.images) + len(dataset.omitted),
            "sha256": dataset.sha256(),
        },
        vocabulary=describe(words),
        options=options,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    before = look_for_run(folder, wanted, request.overwrite)
    if before is not None and not request.overwrite:
        check_same_target(request, before, folder)
    return Plan(request, folder, words, dataset, wanted, before)


def describe(words: WordList) -> dict[str, Any]:
    """Words as a manifest holds them."""
    return {
        "words": list(words.names),
        "synonyms": [list(strings) for strings in words.synonyms],
        "sha256": words.sha256,
    }


def look_for_run(folder: Path, wanted: Manifest, overwrite: bool) -> Manifest | None:
    """The manifest of the run that lies in a folder; None where it is free.

    Raises:
        InputError: the folder is something else, or the run is another one than is wanted.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another --out")
    if not (folder / MANIFEST).exists():
        if any(folder.iterdir()):
            raise InputError(f"{folder} is no run folder and not empty; choose another --out")
        return None
    before = read_manifest(folder)
    different = wanted.differences(before)
    if different and not overwrite:
        raise _other_run(folder, different)
    return before


def check_same_target(request: Request, before: Manifest, folder: Path) -> None:
    """Refuse to send labels elsewhere than before. Adding FiftyOne to a run is no difference.

    Raises:
        InputError: label field or database differ, or labels should not go to FiftyOne any more.
    """
    target = before.fiftyone
    if target is None:
        return
    database = str(request.database.resolve()) if request.database else None
    differs = {
        "--no-fiftyone": not request.fiftyone,
        "--label-field": request.label_field != target.label_field,
        "--database": database != target.database,
    }
    if any(differs.values()):
        raise _other_run(folder, [flag for flag, different in differs.items() if different])


def _other_run(folder: Path, different: list[str]) -> InputError:
    return InputError(
        f"{folder} holds a run with other {', '.join(different)}; "
        "choose another --out, or say --overwrite"
    )
