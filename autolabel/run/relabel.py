"""`autolabel relabel`: other words for the images of a run, from its stored regions."""

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path

from autolabel.options import Options
from autolabel.run.earlier_review import check_review, keep_review, note_tagged, reviewed_labels
from autolabel.run.examples import (
    StoredExamples,
    are_in_fiftyone,
    check_same_weights,
    words_with_examples,
)
from autolabel.run.inference import StageTimer
from autolabel.run.manifest import (
    REGIONS,
    RUNNING,
    DatasetInfo,
    Manifest,
    RunFolder,
    Shard,
    count_images,
    in_fiftyone,
    locked,
    read_complete,
    time_of_start,
)
from autolabel.run.outputs import Outputs, read_skipped
from autolabel.run.pipeline import COMPLETE_ALREADY, finish, is_complete
from autolabel.run.plan import choose_target, describe, field_suffix, find_run
from autolabel.run.postprocess import Labeller, lowest_threshold
from autolabel.run.shards import read_shards, write_shard
from integrations.fiftyone.session import connect
from integrations.progress import Reporter
from integrations.vocabulary_file import WordList, read_words
from regionspot import load_model
from regionspot.config import resolve_device
from regionspot.devices.runtime import TORCH, resolve_runtime
from regionspot.errors import InputError
from regionspot.files import link_or_copy


@dataclass(frozen=True, kw_only=True)
class RelabelRequest:
    """The arguments of a relabelling, as `autolabel.relabel` describes them.

    Attributes:
        words: a vocabulary file, or its content.
        reviewed: reviewed labels of the run that are examples of words; None: they are not.
        limit: number of the first images to label; None: all.
        carry_reviewed: whether labels of the run that a person reviewed are carried over.
    """

    run: Path
    words: Path | WordList
    out: Path | None = None
    label_field: str | None = None
    conf_threshold: float | None = None
    presence_threshold: float | None = None
    iou: float | None = None
    containment: float | None = None
    detector_weight: float | None = None
    overwrite: bool = False
    discard_review: bool = False
    carry_reviewed: bool = False
    checkpoint: Path | None = None
    limit: int | None = None
    reviewed: StoredExamples | None = None

    @property
    def words_name(self) -> str:
        """Name of the vocabulary file without its suffix, or what stands for one."""
        if isinstance(self.words, Path):
            return self.words.stem
        return "words" if self.reviewed is None else "reviewed"


def relabel(request: RelabelRequest, reporter: Reporter) -> RunFolder:
    """Label the stored regions of a run with other words, in a run folder and field of their own.

    Raises:
        InputError: nothing could start.
    """
    source = in_fiftyone(request.run) if request.carry_reviewed else read_complete(request.run)
    words = read_words(request.words) if isinstance(request.words, Path) else request.words
    if are_in_fiftyone(words):
        connect(source.fiftyone.database_folder if source.fiftyone else None)
    folder = request.out or request.run.with_name(f"{request.run.name}-{request.words_name}")
    if folder.resolve() == request.run.resolve():
        raise InputError(f"{folder} is the run itself; choose another --out")
    wanted = dataclasses.replace(
        source,
        name=folder.resolve().name,
        status=RUNNING,
        dataset=_limited(source, request.limit),
        vocabulary=describe(words, request.reviewed),
        options=new_options(request, source, words),
        regions_of=str(request.run.resolve()),
        into="",
        carry_reviewed=request.carry_reviewed,
        carried={},
        growth=None,
        counts={},
        seconds={},
        started=time_of_start(),
    )
    before = find_run(folder, wanted, request.overwrite)
    if source.fiftyone is not None:
        reporter.message("starting FiftyOne's database")
        dataset, database = source.fiftyone.dataset, source.fiftyone.database
        suffix = field_suffix(request.words_name)
        field = request.label_field or f"{source.fiftyone.label_field}_{suffix}"
        target = choose_target(wanted.name, field, dataset, database, before, request.overwrite)
        wanted = dataclasses.replace(wanted, fiftyone=target)
    if before is not None and not request.overwrite:
        if is_complete(folder, before, wanted.fiftyone):
            reporter.message(COMPLETE_ALREADY)
            return RunFolder(folder, before)
        wanted = dataclasses.replace(wanted, started=before.started)
    earlier = check_review(
        folder,
        wanted.fiftyone,
        None if request.overwrite else before,
        owns_dataset=False,
        discard=request.discard_review,
    )
    reviewed = reviewed_labels(wanted, reporter)
    if wanted.fiftyone and not reviewed:
        note_tagged(wanted.fiftyone.dataset, reporter)
    options = wanted.options
    reporter.message(f"loading the model {options.model}")
    runtime = _runtime(source, words, reporter)
    model = load_model(options.model, options.device, options.checkpoint or None, runtime=runtime)
    check_same_weights(model, source)
    vocabulary = model.vocabulary(words_with_examples(words, model, request.reviewed))
    with locked(folder):
        keep_review(earlier, reporter)
        run = RunFolder(folder, wanted)
        run.update()
        run.clear()
        _link_regions(request.run, run)
        labeller = Labeller(model, vocabulary, options, words.thresholds, words.background)
        # Images that failed are in the shards.
        skipped = [each for each in read_skipped(request.run) if each.image_id is None]
        outputs = Outputs(run, labeller, reviewed)
        finish(outputs, StageTimer(), skipped, new_samples=False, reporter=reporter)
    return run


def new_options(request: RelabelRequest, source: Manifest, words: WordList) -> Options:
    """The options of the first run with those that the request changes.

    Raises:
        InputError: a threshold is out of its range, or below the one the regions were kept with.
    """
    options = source.options
    names = ("conf_threshold", "presence_threshold", "iou", "containment", "detector_weight")
    given = {name: v for name in names if (v := getattr(request, name)) is not None}
    if request.checkpoint:
        given["checkpoint"] = str(request.checkpoint.resolve())
    changed = dataclasses.replace(options, **given)
    changed.check()
    least = lowest_threshold(options.conf_threshold, source.vocabulary.get("thresholds", ()))
    thresholds = {"--conf-threshold": changed.conf_threshold}
    thresholds |= {f"the threshold of {k!r}": own for k, own in words.own_thresholds().items()}
    for what, value in thresholds.items():
        if value < least:
            raise InputError(
                f"{what} must be {least} or more: boxes of a lower score were not kept by the "
                "first run"
            )
    return changed


def _runtime(source: Manifest, words: WordList, reporter: Reporter) -> str:
    """What computes the regions of examples: as the run's, or torch where that cannot be."""
    options, begun = source.options, source.model.get("runtime", TORCH.name)
    try:
        return resolve_runtime(begun, resolve_device(options.device), options.model)
    except InputError as error:
        if any(words.examples):
            reporter.message(f"torch computes the examples, and {begun} did the run: {error}")
        return TORCH.name


def _limited(source: Manifest, limit: int | None) -> DatasetInfo:
    """The images of a run, or the first of them."""
    total, dataset = count_images(source.shards), source.dataset
    if limit is None or limit >= total:
        return dataset
    images = dataset["images"] - total + limit
    return {**dataset, "images": images, "limit": limit, "of": dataset.get("of", total)}


def _link_regions(source: Path, run: RunFolder) -> None:
    """The shards of the first run: hard links, or copies where the file system has none.

    The last shard of a limited run is written again, without the images behind the limit.
    """
    (run.folder / REGIONS).mkdir(exist_ok=True)
    shards: list[Shard] = []
    left = run.manifest.dataset.get("limit", count_images(run.manifest.shards))
    for index, shard in enumerate(run.manifest.shards):
        if left < shard.images:
            first = list(itertools.islice(read_shards(source, [shard]), left))
            shards += [write_shard(run.folder, index, first)] if first else []
            break
        _link(source / shard.file, run.folder / shard.file)
        shards.append(shard)
        left -= shard.images
    run.update(shards=tuple(shards))


def _link(source: Path, target: Path) -> None:
    try:
        link_or_copy(source, target)
    except FileNotFoundError as error:
        raise InputError(f"{source} is gone; make that run again") from error
