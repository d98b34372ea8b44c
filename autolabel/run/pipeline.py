"""`autolabel run`: from a plan to a run folder and labels in FiftyOne."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autolabel.draw.contact_sheet import draw_contact_sheet
from autolabel.run.images import Omitted
from autolabel.run.inference import RegionComputer
from autolabel.run.manifest import (
    COMPLETE,
    CONTACT_SHEET,
    RUNNING,
    FiftyOneTarget,
    Manifest,
    Shard,
    clear,
    held,
    read_manifest,
    write_manifest,
)
from autolabel.run.outputs import Outputs
from autolabel.run.plan import Plan
from autolabel.run.postprocess import Labeller
from autolabel.run.shards import is_whole, shard_file, write_shard
from autolabel.run.timer import Clock
from integrations.detectors import build_detector
from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.session import connect
from regionspot import load_model
from regionspot.errors import InputError


@dataclass(frozen=True)
class Result:
    """A finished run."""

    folder: Path
    manifest: Manifest


class Reporter(Protocol):
    """Tells a person how a run goes."""

    def say(self, line: str) -> None:
        """A step begins, or something is worth knowing."""

    def begin_images(self, total: int, done: int) -> None:
        """The images begin; `done` of `total` were worked on before."""

    def advance(self, images: int) -> None:
        """So many more images are done."""

    def end_images(self) -> None:
        """There are no more images."""


def run(plan: Plan, reporter: Reporter) -> Result:
    """Do what is planned, or go on where the same run stopped.

    Raises:
        InputError: nothing could start.
    """
    request, options = plan.request, plan.request.options
    target = None
    if request.fiftyone:
        reporter.say("starting FiftyOne's database")
        connect(request.database)
        target = choose_target(plan)
    if plan.goes_on and plan.before is not None and _is_done(plan.before, target):
        reporter.say("this run is complete already; --overwrite makes it again")
        return Result(plan.folder, plan.before)
    reporter.say(f"loading the model {options.model}")
    model = load_model(options.model, options.device, options.checkpoint or None)
    name = options.detector or model.config.detector
    detector = build_detector(
        name, sam=model.localizer.sam, device=model.device, max_boxes=options.max_boxes
    )
    labeller = Labeller(model, model.vocabulary(plan.words.as_mapping()), options)
    provenance = model.provenance() | {"detector": name, "device": str(model.device)}
    with held(plan.folder):
        manifest = begin(plan, dataclasses.replace(plan.wanted, model=provenance, fiftyone=target))
        clock = Clock(manifest.seconds)
        computer = RegionComputer(plan.dataset, detector, model, options, clock)
        manifest = compute_shards(plan.folder, manifest, computer, reporter)
        outputs = Outputs(plan.folder, manifest, labeller)
        new_samples = not request.is_in_fiftyone
        return finish(outputs, clock, plan.dataset.omitted, new_samples, reporter)


def choose_target(plan: Plan) -> FiftyOneTarget:
    """Where in FiftyOne the labels of a new run go, or those of the earlier one went.

    Raises:
        InputError: the label field is somebody else's.
    """
    request, before = plan.request, plan.before
    fiftyone_dataset.check_field_name(request.label_field)
    if plan.goes_on and before is not None and before.fiftyone is not None:
        return before.fiftyone
    if request.is_in_fiftyone:
        name, field = plan.dataset.name, request.label_field
        if fiftyone_dataset.has_field(name, field) and not request.overwrite:
            raise InputError(
                f"FiftyOne's dataset {name!r} has a field {field!r} already; "
                "choose another --label-field, or say --overwrite"
            )
    elif before is not None and before.fiftyone is not None and before.makes_dataset:
        name = before.fiftyone.dataset
    else:
        name = fiftyone_dataset.free_dataset_name(plan.wanted.name)
    return FiftyOneTarget(
        name,
        request.label_field,
        fiftyone_dataset.free_run_key(name, plan.wanted.name),
        str(request.database.resolve()) if request.database else None,
    )


def _is_done(before: Manifest, target: FiftyOneTarget | None) -> bool:
    """Whether nothing is left to do; a dataset that was deleted in FiftyOne is made again."""
    if before.status != COMPLETE or before.fiftyone != target:
        return False
    return target is None or fiftyone_dataset.exists(target.dataset)


def begin(plan: Plan, wanted: Manifest) -> Manifest:
    """The manifest to go on from; a new one is written, and what an overwritten run left goes.

    Raises:
        InputError: another process was here meanwhile, or the model is not the one it was.
    """
    if plan.before is not None and read_manifest(plan.folder) != plan.before:
        raise InputError(f"another autolabel worked on {plan.folder}; run the same command again")
    if plan.goes_on and plan.before is not None:
        changed = sorted(
            name
            for name in wanted.model.keys() | plan.before.model.keys()
            if wanted.model.get(name) != plan.before.model.get(name)
        )
        if changed:
            raise InputError(
                f"{plan.folder} was begun with other {', '.join(changed)}; "
                "choose another --out, or say --overwrite"
            )
        return dataclasses.replace(plan.before, status=RUNNING, fiftyone=wanted.fiftyone)
    write_manifest(plan.folder, wanted)
    clear(plan.folder)
    return wanted


def compute_shards(
    folder: Path, manifest: Manifest, computer: RegionComputer, reporter: Reporter
) -> Manifest:
    """Write every shard that is not there yet; the manifest tells of each once it is."""
    images, size = computer.dataset.images, computer.options.shard_size
    whole = {shard.file: shard for shard in manifest.shards if is_whole(folder, shard)}
    done: list[Shard] = []
    reporter.begin_images(len(images), sum(shard.images for shard in whole.values()))
    try:
        for index, start in enumerate(range(0, len(images), size)):
            if shard := whole.get(shard_file(index)):
                done.append(shard)
                continue
            regions = []
            for batch in computer.images(images[start : start + size]):
                regions += batch
                reporter.advance(len(batch))
            done.append(write_shard(folder, index, regions))
            seconds = computer.clock.seconds()
            manifest = dataclasses.replace(manifest, shards=tuple(done), seconds=seconds)
            write_manifest(folder, manifest)
    finally:
        reporter.end_images()
    return dataclasses.replace(manifest, shards=tuple(done))


def finish(
    outputs: Outputs,
    clock: Clock,
    omitted: Iterable[Omitted],
    new_samples: bool,
    reporter: Reporter,
) -> Result:
    """Write all that follows from the regions, and the complete manifest.

    Args:
        omitted: what the dataset left out besides the images that failed.
        new_samples: whether FiftyOne's dataset is made, or holds the images already.
    """
    folder, manifest = outputs.folder, outputs.manifest
    reporter.say("writing labels")
    with clock.stage("writing"):
        counts = outputs.write_label_files()
        skipped = outputs.write_skipped(omitted)
        draw_contact_sheet(folder / CONTACT_SHEET, outputs)
        if manifest.fiftyone is not None:
            reporter.say(f"writing labels to FiftyOne's dataset {manifest.fiftyone.dataset!r}")
            outputs.write_fiftyone(new_samples)
    manifest = dataclasses.replace(
        manifest,
        status=COMPLETE,
        counts={**counts, "skipped": skipped},
        seconds=clock.seconds(),
    )
    write_manifest(folder, manifest)
    return Result(folder, manifest)
