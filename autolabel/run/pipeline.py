"""`autolabel run`: from a request to a run folder and labels in FiftyOne."""

import dataclasses
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from autolabel.draw.contact_sheet import draw_contact_sheet
from autolabel.run.earlier_review import check_review, keep_review, note_tagged, reviewed_labels
from autolabel.run.examples import words_with_examples
from autolabel.run.given_boxes import GivenBoxes
from autolabel.run.growth import EarlierRegions, describe_growth, keep_earlier, remove_earlier
from autolabel.run.images import ImageRef, SkippedEntry
from autolabel.run.inference import RegionComputer, StageTimer
from autolabel.run.manifest import (
    COCO,
    COMPLETE,
    CONTACT_SHEET,
    EARLIER_REGIONS,
    LVIS,
    RUNNING,
    SKIPPED,
    FiftyOneTarget,
    Growth,
    Manifest,
    RunFolder,
    Shard,
    damaged_files,
    locked,
    read_manifest,
)
from autolabel.run.outputs import Outputs
from autolabel.run.plan import Plan, RunRequest, choose_target, make_plan
from autolabel.run.postprocess import Labeller
from autolabel.run.shards import shard_file, write_shard
from integrations.detectors import Detector, build_detector, detector_weights
from integrations.detectors.base import (
    MIN_SCORE,
    OTHER_WORDS_MAX_BOXES,
    OTHER_WORDS_MIN_SCORE,
)
from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.carrying import ReviewedLabels
from integrations.fiftyone.dataset import LabelField, Sample, samples_not_there
from integrations.progress import Reporter
from regionspot import load_model
from regionspot.config import resolve_device
from regionspot.devices.runtime import TORCH, build_runtime, resolve_runtime
from regionspot.errors import InputError
from regionspot.model import RegionModel
from regionspot.weights import sha256_of

COMPLETE_ALREADY = "this run is complete already; --overwrite makes it again"
SHARDS_AT_ONCE = 1000  # this part of them is entered into the manifest at a time

Todo = Mapping[int, Sequence[ImageRef]]  # the images of each shard that is missing, by its index


@dataclass(frozen=True)
class WrittenShard:
    """A shard that is in the run folder.

    Attributes:
        index: of the shard.
        shard: its entry in the manifest.
        seconds: wall-clock seconds by stage that another process took for it.
    """

    index: int
    shard: Shard
    seconds: Mapping[str, float] = field(default_factory=dict)


class ShardWorkers(Protocol):
    """Other processes, or machines, that compute the regions of a run."""

    @property
    def device(self) -> str:
        """What they compute on, as a run's manifest has it."""
        ...

    def write(
        self, plan: Plan, reporter: Reporter, run: RunFolder, todo: Todo
    ) -> Iterator[WrittenShard]:
        """Write shards into the run folder, in any order."""
        ...


def run(request: RunRequest, reporter: Reporter, workers: ShardWorkers | None = None) -> RunFolder:
    """Label images, or resume the same run where it stopped.

    Args:
        request: the arguments.
        reporter: receives the progress.
        workers: that compute the regions; None: this process does.

    Raises:
        InputError: nothing could start.
    """
    plan = make_plan(request, reporter)
    request, options = plan.request, plan.request.options
    target = None
    if request.fiftyone:
        reporter.message("starting FiftyOne's database")
        target = choose_target(
            plan.wanted.name,
            request.label_field,
            plan.dataset,
            request.database_path,
            plan.before,
            request.overwrite,
        )
    if is_done(plan, target):
        reporter.message(COMPLETE_ALREADY)
        return unchanged(plan)
    if plan.growth:
        reporter.message(describe_growth(plan.growth))
    earlier = None
    if not grows_in_place(plan, target):
        earlier = check_review(
            plan.folder,
            target,
            plan.before if plan.resumes and not plan.growth else None,
            owns_dataset=plan.dataset is None,
            discard=request.discard_review,
        )
    reviewed = _beside(plan, reporter) if request.into else None
    reporter.message(f"loading the model {options.model}")
    here = resolve_device(options.device)
    where = here if workers is None else torch.device(workers.device)
    runtime = runtime_of(plan, where)
    model = load_model(
        options.model,
        options.device,
        options.checkpoint or None,
        runtime=runtime if here.type == where.type else TORCH.name,
    )
    if plan.boxes:
        for line in plan.boxes.lines:
            reporter.message(line)
    words = plan.words
    vocabulary = model.vocabulary(words_with_examples(words, model))
    labeller = Labeller(model, vocabulary, options, words.thresholds, words.background)
    detector = plan.boxes or detector_of(plan, model)
    provenance = provenance_of(plan, model)
    if workers is not None:
        provenance |= {"device": workers.device, "runtime": build_runtime(runtime).name}
    with locked(plan.folder):
        keep_review(earlier, reporter)
        run = begin(plan, dataclasses.replace(plan.wanted, model=provenance, fiftyone=target))
        timer = StageTimer(run.manifest.seconds)
        if workers is None:
            computer = region_computer(plan, detector, model, timer)
            known = EarlierRegions(run.folder, run.manifest.earlier)
            write = partial(write_shards, computer, known, reporter)
            compute_shards(run, plan, write, timer, reporter)
        else:
            compute_shards(run, plan, partial(workers.write, plan, reporter), timer, reporter)
        outputs = Outputs(run, labeller, reviewed)
        finish(outputs, timer, plan.source.skipped, plan.dataset is None, reporter)
    return run


def _beside(plan: Plan, reporter: Reporter) -> ReviewedLabels | None:
    """What of the other run's labels is carried over into a run that shares its dataset.

    Raises:
        InputError: the dataset has none of the images.
    """
    assert plan.dataset is not None
    samples = [Sample(plan.source.path(each), each.sample_id) for each in plan.source.images]
    if missing := samples_not_there(plan.dataset, samples):
        if len(missing) == len(samples):
            raise InputError(
                f"FiftyOne's dataset {plan.dataset!r} of {plan.request.into} has none of the "
                f"{len(samples)} images; give the images that it labelled"
            )
        reporter.message(
            f"{len(missing)} images are not in FiftyOne's dataset {plan.dataset!r}, and their "
            f"labels go into files alone; the first is {missing[0].path}"
        )
    if not plan.request.carry_reviewed:
        note_tagged(plan.dataset, reporter)
    return reviewed_labels(plan.wanted, reporter)


def is_done(plan: Plan, target: FiftyOneTarget | None) -> bool:
    """Whether the run of a plan is there, whole."""
    before = plan.before
    if before is None or not plan.resumes or plan.growth:
        return False
    return is_complete(plan.folder, before, target)


def unchanged(plan: Plan) -> RunFolder:
    """A run that is there, whole; its growth is that no image is new."""
    before = plan.before
    assert before is not None
    remove_earlier(plan.folder, before)
    if before.growth is not None:
        listed = len(plan.source.images) - len(plan.source.gone)
        growth = Growth(new=0, changed=0, unchanged=listed, deleted=len(plan.source.gone))
        before = dataclasses.replace(before, growth=growth)
    return RunFolder(plan.folder, before)


def grows_in_place(plan: Plan, target: FiftyOneTarget | None) -> bool:
    """Whether labels in FiftyOne stay, and those of new and changed images alone are written."""
    before = plan.before if plan.resumes else None
    if before is None or not before.was_complete or target is None:
        return False
    if not plan.growth and not before.earlier:
        return False
    return fiftyone_dataset.holds_run(
        LabelField(target.dataset, target.label_field, target.run_key)
    )


def is_complete(folder: Path, before: Manifest, target: FiftyOneTarget | None) -> bool:
    """Whether nothing is left to do.

    Files that were lost or changed are made again, and so is a dataset that was deleted in
    FiftyOne.
    """
    if not before.is_complete or before.fiftyone != target or damaged_files(folder, before):
        return False
    return target is None or fiftyone_dataset.exists(target.dataset)


def begin(plan: Plan, wanted: Manifest) -> RunFolder:
    """The run folder with the manifest to go on from; the files of an overwritten run are removed.

    Raises:
        InputError: another process changed the folder meanwhile, or the model is another one.
    """
    before = plan.before
    if before is not None and read_manifest(plan.folder) != before:
        raise InputError(f"another autolabel worked on {plan.folder}; run the same command again")
    run = RunFolder(plan.folder, wanted)
    if before is None or not plan.resumes:
        run.update()
        run.clear()
        return run
    begun = {"runtime": TORCH.name, **before.model}  # older manifests name none
    names = wanted.model.keys() | begun.keys()
    if plan.growth:
        names -= {"boxes"}
    changed = [each for each in names if wanted.model.get(each) != begun.get(each)]
    if changed:
        raise InputError(
            f"{plan.folder} was begun with other {', '.join(sorted(changed))}; "
            "choose another --out, or say --overwrite"
        )
    if plan.growth:
        run.update(growth=plan.growth, earlier=keep_earlier(plan.folder, before))
        return run
    run.manifest = before
    run.update(status=RUNNING, fiftyone=wanted.fiftyone)
    return run


def provenance_of(plan: Plan, model: RegionModel) -> dict[str, str]:
    """What a run's regions come from, as its manifest has it; its detector was built before."""
    found = model.provenance() | {"device": str(model.device)}
    if plan.boxes:
        return found | {"detector": "none", "boxes": plan.boxes.sha256}
    name = plan.request.options.detector or model.config.detector
    return found | {"detector": name} | detector_weights(name)


def runtime_of(plan: Plan, device: torch.device) -> str:
    """What computes the image towers of a run: a run that is resumed keeps what it began with.

    Raises:
        InputError: it is not installed, or cannot do it.
    """
    options, before = plan.request.options, plan.before
    begun = before.model.get("runtime", TORCH.name) if before and plan.resumes else ""
    try:
        return resolve_runtime(begun or options.runtime, device, options.model)
    except InputError as error:
        if not begun:
            raise
        raise InputError(
            f"{plan.folder} was begun with {begun}, which cannot go on here: {error}; "
            "choose another --out, or say --overwrite"
        ) from error


def region_computer(
    plan: Plan,
    detector: Detector | GivenBoxes,
    model: RegionModel,
    timer: StageTimer,
    overlap: bool = True,
) -> RegionComputer:
    """What computes the regions of a plan's images, in one process or in a worker."""
    words = zip(plan.words.names, plan.words.synonyms, strict=True)
    return RegionComputer(
        plan.source,
        detector,
        model,
        plan.request.options,
        timer,
        plan.lowest_score,
        overlap,
        tuple((name, *strings) for name, strings in words),
    )


def detector_of(plan: Plan, model: RegionModel) -> Detector:
    """The detector of a run."""
    options = plan.request.options
    is_low = plan.lowest_score < MIN_SCORE
    return build_detector(
        options.detector or model.config.detector,
        sam=lambda: model.localizer.sam,
        device=model.device,
        max_boxes=options.max_boxes or OTHER_WORDS_MAX_BOXES,
        min_score=OTHER_WORDS_MIN_SCORE if is_low else None,
        words=plan.words.strings,
        tile=options.tile,
        tile_overlap=options.tile_overlap,
        runtime=model.runtime,
    )


def compute_shards(
    run: RunFolder,
    plan: Plan,
    write: Callable[[RunFolder, Todo], Iterator[WrittenShard]],
    timer: StageTimer,
    reporter: Reporter,
) -> None:
    """Write every shard that is not there yet, and enter each into the manifest once it is.

    A manifest of thousands of shards is long: it is written for a thousandth of them at a time.
    """
    images, size = plan.source.images, plan.request.options.shard_size
    damaged = set(damaged_files(run.folder, run.manifest))
    known = {shard.file: shard for shard in run.manifest.shards if shard.file not in damaged}
    starts = range(0, len(images), size)
    done = {i: known[shard_file(i)] for i in range(len(starts)) if shard_file(i) in known}
    todo = {i: images[start : start + size] for i, start in enumerate(starts) if i not in done}
    reporter.start("labelling", len(images), sum(shard.images for shard in done.values()))
    entered = len(done)
    for written in write(run, todo) if todo else ():
        done[written.index] = written.shard
        timer.add(written.seconds)
        if len(done) - entered > len(done) // SHARDS_AT_ONCE:
            entered = len(done)
            shards = tuple(done[index] for index in sorted(done))
            run.update(shards=shards, seconds=timer.seconds())
    run.update(shards=tuple(done[index] for index in sorted(done)))


def write_shards(
    computer: RegionComputer,
    earlier: EarlierRegions,
    reporter: Reporter,
    run: RunFolder,
    todo: Todo,
) -> Iterator[WrittenShard]:
    """Write shards of the regions that the run had before it grew, and compute all others here.

    The images after those of a shard are computed while it is written.
    """
    computer.model.prepare(reporter.message)
    batches = (batch for images in todo.values() for batch in computer.batches(images))
    start, used = time.perf_counter(), time.process_time()
    with closing(computer.images(batches, partial(earlier.find, computer))) as found:
        for index, images in todo.items():
            regions = []
            for each in itertools.islice(found, len(images)):
                regions.append(each)
                reporter.advance()
            yield WrittenShard(index, write_shard(run.folder, index, regions))
    busy = (time.process_time() - used) / (time.perf_counter() - start)
    reporter.message(f"{busy:.1f} of {os.cpu_count()} processor cores were busy")


def finish(
    outputs: Outputs,
    timer: StageTimer,
    skipped: Iterable[SkippedEntry],
    new_samples: bool,
    reporter: Reporter,
) -> None:
    """Write all outputs that follow from the regions, and complete the manifest.

    Args:
        outputs: of the complete regions.
        timer: of the stage `writing`.
        skipped: what was left out while the images were listed.
        new_samples: whether FiftyOne's dataset is made, or holds the images already.
        reporter: receives the progress.
    """
    run, manifest = outputs.run, outputs.run.manifest
    names = manifest.vocabulary["words"]
    reporter.message("writing labels")
    with timer.stage("writing"):
        counts = outputs.write_label_files()
        counts["skipped"] = outputs.write_skipped(skipped)
        draw_contact_sheet(
            run.folder / CONTACT_SHEET,
            manifest.name,
            f"{manifest.options.model}, {len(names)} words",
            (image for _, image in outputs.labelled()),
            names,
            Path(manifest.dataset["root"]),
        )
        if manifest.fiftyone is not None and outputs.is_in_fiftyone():
            outputs.release_claim()
        elif manifest.fiftyone is not None:
            reporter.message(f"writing labels to FiftyOne's dataset {manifest.fiftyone.dataset!r}")
            try:
                if merged := outputs.write_fiftyone(new_samples):
                    reporter.message(str(merged))
                if outputs.reviewed:
                    reporter.message(str(outputs.reviewed.carried))
            except Exception as error:
                error.add_note(f"the labels are in {run.folder} all the same")
                raise
    files = {name: sha256_of(run.folder / name) for name in (COCO, LVIS, SKIPPED, CONTACT_SHEET)}
    run.update(status=COMPLETE, counts=counts, files=files, seconds=timer.seconds(), earlier=())
    shutil.rmtree(run.folder / EARLIER_REGIONS, ignore_errors=True)
