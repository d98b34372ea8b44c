"""What a run is going to do, checked before anything is written."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolabel.options import LABEL_FIELD, RUNS_FOLDER, Options
from autolabel.run.examples import StoredExamples, are_in_fiftyone, examples_sha256
from autolabel.run.given_boxes import GivenBoxes, read_given_boxes
from autolabel.run.growth import (
    HadImages,
    describe_growth,
    ended_by_growing,
    is_same_source,
    may_grow,
)
from autolabel.run.images import ImageRef, ImageSource, open_source
from autolabel.run.manifest import (
    LOCK,
    MANIFEST,
    DatasetInfo,
    FiftyOneTarget,
    Growth,
    Manifest,
    UnusableManifest,
    VocabularyInfo,
    count_images,
    in_fiftyone,
    read_manifest,
    sweep,
    time_of_start,
)
from autolabel.run.postprocess import lowest_threshold
from integrations.detectors import check_detectors
from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.review import unlabelled_samples, unreviewed_samples
from integrations.fiftyone.session import FIFTYONE_PREFIX, connect
from integrations.progress import Reporter
from integrations.vocabulary_file import WordList, read_words
from regionspot.boxes import FloatArray
from regionspot.checkpoint import load_head
from regionspot.config import CropConfig, model_config
from regionspot.errors import InputError
from regionspot.files import is_utf8
from regionspot.model import head_file
from regionspot.weights import cached_path, files_of, lists_clip

# Measured on photos of 640 x 480: the shard, both label files and FiftyOne's database.
KILOBYTES_PER_IMAGE = 40


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The arguments of a run, as `autolabel.label` describes them.

    Attributes:
        source: what `open_source` takes.
        label_field: FiftyOne's field of the labels; empty: `predictions`, or with `into` the field
            of that run and the name of this one.
        into: a run whose FiftyOne dataset gets the labels, in a field of their own.
        carry_reviewed: whether reviewed labels of that run are carried over.
        words: a vocabulary file, or its content.
        images: folder of the images that a COCO JSON names.
        limit: number of the first images to label; None: all.
        only_unlabelled: leave out FiftyOne's images with a label in a field other than the run's.
        only_unreviewed: leave out FiftyOne's images that are reviewed, or have a reviewed label in
            a field other than the run's.
        rehash: compare all bytes of the images with those that a complete run had.
        boxes: xyxy boxes (N, 4) by path; None: those that the options name, or a detector's.
    """

    source: str | tuple[Path, ...]
    words: Path | WordList
    images: Path | None = None
    out: Path | None = None
    label_field: str = ""
    options: Options = dataclasses.field(default_factory=Options)
    fiftyone: bool = True
    into: Path | None = None
    carry_reviewed: bool = False
    database: Path | None = None
    overwrite: bool = False
    limit: int | None = None
    discard_review: bool = False
    only_unlabelled: bool = False
    only_unreviewed: bool = False
    rehash: bool = False
    boxes: Mapping[str, FloatArray] | None = None

    @property
    def is_in_fiftyone(self) -> bool:
        """Whether the images are those of a FiftyOne dataset."""
        return isinstance(self.source, str) and self.source.startswith(FIFTYONE_PREFIX)

    @property
    def database_path(self) -> str | None:
        """Absolute path of the private database."""
        return str(self.database.resolve()) if self.database else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request that was checked.

    Attributes:
        folder: the run folder.
        wanted: the manifest that a new run begins with.
        before: the manifest that is in the folder; None where the folder is free.
        boxes: that were given; None where a detector proposes them.
        dataset: FiftyOne's name of the dataset that holds the images already; None: the run makes
            one.
        growth: how the images compare with those of the run in the folder; None where they are the
            same, or where there is no such run.
    """

    request: RunRequest
    folder: Path
    words: WordList
    source: ImageSource
    wanted: Manifest
    before: Manifest | None
    boxes: GivenBoxes | None = None
    dataset: str | None = None
    growth: Growth | None = None

    @property
    def resumes(self) -> bool:
        """Whether an earlier run of the same command is continued."""
        return self.before is not None and not self.request.overwrite

    @property
    def lowest_score(self) -> float:
        """The least score of a proposal that may get a label, of whatever word."""
        conf_threshold = self.request.options.conf_threshold
        return lowest_threshold(conf_threshold, self.words.thresholds)

    @property
    def state(self) -> str:
        """What is in the run folder and what becomes of it, as a message."""
        if self.request.overwrite and (self.folder / MANIFEST).exists():
            return "holds a run, which is overwritten"
        if self.before is None:
            return "new"
        if self.growth is not None:
            return f"holds a run that grows: {describe_growth(self.growth)}"
        if self.before.is_complete:
            return "holds this very run, complete"
        done = count_images(self.before.shards)
        return f"holds this very run, which is resumed after {done} images"

    def check_head(self) -> None:
        """Load the trained head as the run would; of a model without, check open_clip's names.

        Raises:
            InputError: the head cannot be read, or does not fit the model, or an unknown name.
        """
        options = self.request.options
        config = model_config(options.model)
        path = head_file(config, options.checkpoint)
        if isinstance(config, CropConfig):
            from regionspot.encoders.open_clip_weights import check_names  # takes seconds

            check_names(config.encoder)
        elif path:
            load_head(path, config)

    def missing_weights(self) -> list[str]:
        """Names of weights that are fetched first."""
        config = model_config(self.request.options.model)
        listed = files_of(config.name)
        missing = [file.name for file in listed if not cached_path(file).exists()]
        if isinstance(config, CropConfig) and not lists_clip(config.name):
            from regionspot.encoders.open_clip_weights import cached_weights  # takes seconds

            if not cached_weights(config.encoder):
                missing.append(f"{config.encoder.model} {config.encoder.pretrained}")
        return missing

    def megabytes(self) -> float:
        """A rough estimate of what is written."""
        return len(self.source.images) * KILOBYTES_PER_IMAGE / 1000


def make_plan(request: RunRequest, reporter: Reporter | None = None) -> Plan:
    """Read the words and list the images, and look into the run folder.

    Raises:
        InputError: a part of the request cannot be used.
    """
    options = request.options
    options.check()
    head_file(model_config(options.model), options.checkpoint)
    if options.detector:
        check_detectors(options.detector)
    if options.boxes and options.detector:
        raise InputError("--boxes and --detector are both given; leave one of them out")
    if options.boxes and options.tile:
        raise InputError(
            "--tile is for detectors, and the boxes are those of --boxes; leave it out"
        )
    if request.rehash and request.limit is not None:
        raise InputError("--rehash compares all images of a run; leave --limit out")
    words = read_words(request.words) if isinstance(request.words, Path) else request.words
    request, dataset = _with_target(request)
    if request.is_in_fiftyone or are_in_fiftyone(words):
        connect(request.database)
    listed = open_source(request.source, request.images, reporter, request.limit)
    source = _chosen(listed, request, ()).first(request.limit)
    folder = request.out or Path(RUNS_FOLDER) / source.name
    _check_utf8(source.root, request.database_path or "")
    wanted = Manifest(
        name=folder.resolve().name,
        dataset=describe_source(source),
        vocabulary=describe(words),
        options=options,
        into=str(request.into or ""),
        carry_reviewed=request.carry_reviewed,
        started=time_of_start(),
    )
    ending = ended_by_growing(wanted.dataset)
    before = find_run(folder, wanted, request.overwrite, ending)
    resumes = before is not None and not request.overwrite
    had = None
    if before is not None and resumes and may_grow(before, wanted.dataset, request.rehash):
        had = HadImages.of(folder, before)
        source = _chosen(had.added_to(listed), request, had.refs()).first(None)
        wanted = dataclasses.replace(wanted, dataset=describe_source(source))
    given = _given_boxes(request, source)
    growth = None
    if before is not None and resumes:
        _check_same_target(request, before, folder)
        different = sorted(ending & set(wanted.differences(before)))
        compared = had.compare(source, given, request.rehash) if had else None
        if compared and (before.dataset != wanted.dataset or compared.changed):
            growth = compared
        elif given and before.model.get("boxes", given.sha256) != given.sha256:
            different.append("boxes in --boxes")
        if different and not (growth and is_same_source(source.kind, growth)):
            raise _other_run(folder, different)
    return Plan(
        request=request,
        folder=folder,
        words=words,
        source=source,
        wanted=wanted,
        before=before,
        boxes=given,
        dataset=dataset,
        growth=growth,
    )


def _with_target(request: RunRequest) -> tuple[RunRequest, str | None]:
    """The request with its label field, and of `into` the database; and `Plan.dataset`.

    Raises:
        InputError: there is no such run, it has no labels in FiftyOne, or the request does not fit.
    """
    own = str(request.source).removeprefix(FIFTYONE_PREFIX) if request.is_in_fiftyone else None
    if request.into is None:
        if request.carry_reviewed:
            raise InputError("--carry-reviewed needs the run that was reviewed: add --into RUN")
        return dataclasses.replace(request, label_field=request.label_field or LABEL_FIELD), own
    into = request.into.resolve()
    if request.out is None or request.out.resolve() == into:
        raise InputError("--into needs a run folder of its own; say another --out")
    target = in_fiftyone(into).fiftyone
    assert target is not None
    differs = {
        "--no-fiftyone": not request.fiftyone,
        "--database": request.database is not None and request.database_path != target.database,
        f"the dataset {own!r}": own is not None and own != target.dataset,
    }
    if different := [name for name, is_other in differs.items() if is_other]:
        raise InputError(
            f"--into {request.into} writes into its FiftyOne dataset {target.dataset!r}, and does "
            f"not go with {', '.join(different)}; leave one of them out"
        )
    name = request.out.resolve().name.removeprefix(f"{into.name}-")
    field = request.label_field or f"{target.label_field}_{field_suffix(name)}"
    found = dataclasses.replace(
        request, into=into, label_field=field, database=target.database_folder
    )
    return found, target.dataset


def field_suffix(name: str) -> str:
    """A name as the end of FiftyOne's name of a field."""
    return "".join(each if each.isascii() and each.isalnum() else "_" for each in name)


def _given_boxes(request: RunRequest, source: ImageSource) -> GivenBoxes | None:
    options = request.options
    if not options.boxes:
        return None
    return read_given_boxes(
        options.boxes if request.boxes is None else request.boxes,
        source,
        Path(str(request.source)) if source.kind == "coco" else None,
        options.keep_score,
    )


def _chosen(source: ImageSource, request: RunRequest, labelled: Sequence[ImageRef]) -> ImageSource:
    """The images that --only-unlabelled and --only-unreviewed leave.

    Args:
        source: all images.
        request: of the run.
        labelled: images that the run labelled before, which stay.
    """
    choices = {
        "--only-unlabelled": (request.only_unlabelled, unlabelled_samples),
        "--only-unreviewed": (request.only_unreviewed, unreviewed_samples),
    }
    before = {each.sample_id for each in labelled}
    for flag, (is_given, samples) in choices.items():
        if not is_given:
            continue
        if not request.is_in_fiftyone:
            raise InputError(f"{flag} goes with fiftyone:NAME, and {request.source} is none")
        source = source.only(samples(source.name, request.label_field) | before)
        if not source.images:
            raise InputError(f"{flag} leaves no image of FiftyOne's dataset {source.name!r}")
    return source


def _check_utf8(*paths: Path | str) -> None:
    """Refuse folders that neither FiftyOne nor a JSON file can name."""
    for path in paths:
        if not is_utf8(str(path)):
            raise InputError(f"{path} is not UTF-8; rename the folder, or choose another")


def describe_source(source: ImageSource) -> DatasetInfo:
    """Images as a manifest holds them."""
    found: DatasetInfo = {
        "kind": source.kind,
        "root": str(source.root),
        "images": len(source.images) + len(source.skipped),
        "sha256": source.sha256(),
    }
    if source.is_limited:
        found |= {"limit": len(source.images), "of": source.listed}
    return found


def describe(words: WordList, reviewed: StoredExamples | None = None) -> VocabularyInfo:
    """Words as a manifest holds them, with the number of reviewed examples of each."""
    written = words.written
    found: VocabularyInfo = {
        "words": list(words.names[:written]),
        "synonyms": [list(strings) for strings in words.synonyms[:written]],
        "sha256": words.sha256,
    }
    if words.groups:
        found["groups"] = list(words.groups[:written])
    if words.thresholds:
        found["thresholds"] = list(words.thresholds[:written])
    if words.background:
        found["background"] = dict(list(words.as_mapping().items())[written:])
    if any(words.examples):
        found["examples"] = [list(references) for references in words.examples]
        found["examples_sha256"] = examples_sha256(words)
    if reviewed is not None:
        found["reviewed"] = reviewed.counts
        found["examples_sha256"] = found.get("examples_sha256", "") + reviewed.sha256
    return found


def find_run(
    folder: Path, wanted: Manifest, overwrite: bool, allowed: Collection[str] = ()
) -> Manifest | None:
    """The manifest of the run that is in a folder; None where the folder is free.

    A manifest that cannot be used counts as free where it is going to be overwritten.

    Args:
        folder: of the run.
        wanted: manifest that a new run begins with.
        overwrite: whether another run is replaced.
        allowed: differences, as `Manifest.differences` names them, that do not make it another run.

    Raises:
        InputError: the folder is no run's, or the run is another one than is wanted.
    """
    _check_utf8(folder.resolve())
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another --out")
    sweep(folder)
    if not (folder / MANIFEST).exists():
        if {path.name for path in folder.iterdir()} - {LOCK}:
            raise InputError(f"{folder} is no run folder and not empty; choose another --out")
        return None
    try:
        before = read_manifest(folder)
    except UnusableManifest:
        if overwrite:
            return None
        raise
    different = [each for each in wanted.differences(before) if each not in allowed]
    if different and not overwrite:
        raise _other_run(folder, different)
    return before


def choose_target(
    name: str,
    label_field: str,
    dataset: str | None,
    database: str | None,
    before: Manifest | None,
    overwrite: bool,
) -> FiftyOneTarget:
    """Connect to FiftyOne, and choose where the labels of a run go.

    A run that had the same place before keeps it.

    Args:
        name: of the run.
        label_field: FiftyOne's field of the labels.
        dataset: whose samples get a field; None: a dataset of the run's own.
        database: absolute folder of a private database.
        before: the manifest of the run that is in the run folder.
        overwrite: whether an existing field is replaced.

    Raises:
        InputError: the field's name is none, or the dataset has such a field already.
    """
    connect(Path(database) if database else None)
    fiftyone_dataset.check_field_name(label_field)
    last = before.fiftyone if before else None
    own = last if before and before.makes_dataset else None
    into = dataset or (own.dataset if own else fiftyone_dataset.free_dataset_name(name))
    if last and (last.dataset, last.label_field, last.database) == (into, label_field, database):
        return last
    if dataset and not overwrite and fiftyone_dataset.has_field(dataset, label_field):
        raise InputError(
            f"FiftyOne's dataset {dataset!r} has a field {label_field!r} already; "
            "choose another --label-field, or say --overwrite"
        )
    key = fiftyone_dataset.free_run_key(into, name)
    return FiftyOneTarget(dataset=into, label_field=label_field, run_key=key, database=database)


def _check_same_target(request: RunRequest, before: Manifest, folder: Path) -> None:
    """Refuse to write labels elsewhere than before. Adding FiftyOne to a run is no difference."""
    target = before.fiftyone
    if target is None:
        return
    differs = {
        "--no-fiftyone": not request.fiftyone,
        "--label-field": request.label_field != target.label_field,
        "--database": request.database_path != target.database,
    }
    if any(differs.values()):
        raise _other_run(folder, [flag for flag, different in differs.items() if different])


def _other_run(folder: Path, different: list[str]) -> InputError:
    return InputError(
        f"{folder} holds a run with other {', '.join(different)}; "
        "choose another --out, or say --overwrite"
    )
