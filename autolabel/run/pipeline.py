"""`autolabel run`: from a request to a run folder and labels in FiftyOne."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from autolabel.draw.contact_sheet import draw_contact_sheet
from autolabel.run.earlier_review import check_review, keep_review
from autolabel.run.examples import words_with_examples
from autolabel.run.given_boxes import GivenBoxes
from autolabel.run.images import SkippedEntry
from autolabel.run.inference import RegionComputer, StageTimer
from autolabel.run.manifest import (
    COCO,
    COMPLETE,
    CONTACT_SHEET,
    LVIS,
    RUNNING,
    SKIPPED,
    FiftyOneTarget,
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
from integrations.detectors import Detector, build_detector
from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.progress import Reporter
from regionspot import load_model
from regionspot.errors import InputError
from regionspot.weights import sha256_of

COMPLETE_ALREADY = "this run is complete already; --overwrite makes it again"


def run(request: RunRequest, reporter: Reporter) -> RunFolder:
    """Label images, or resume the same run where it stopped.

    Raises:
        InputError: nothing could start.
    """
    plan, options = make_plan(request), request.options
    target = None
    if request.fiftyone:
        reporter.message("starting FiftyOne's database")
        dataset = plan.source.name if request.is_in_fiftyone else None
        target = choose_target(
            plan.wanted.name,
            request.label_field,
            dataset,
            request.database_path,
            plan.before,
            request.overwrite,
        )
    if plan.before is not None and plan.resumes and is_complete(plan.folder, plan.before, target):
        reporter.message(COMPLETE_ALREADY)
        return RunFolder(plan.folder, plan.before)
    earlier = check_review(
        plan.folder,
        target,
        plan.before if plan.resumes else None,
        owns_dataset=not request.is_in_fiftyone,
        discard=request.discard_review,
    )
    reporter.message(f"loading the model {options.model}")
    model = load_model(options.model, options.device, options.checkpoint or None)
    name = options.detector or model.config.detector
    detector: Detector | GivenBoxes
    if plan.boxes:
        name, detector = "none", plan.boxes
        for line in plan.boxes.lines:
            reporter.message(line)
    else:
        detector = build_detector(
            name, sam=model.localizer.sam, device=model.device, max_boxes=options.max_boxes
        )
    labeller = Labeller(model, model.vocabulary(words_with_examples(plan.words, model)), options)
    provenance = model.provenance() | {"detector": name, "device": str(model.device)}
    if plan.boxes:
        provenance["boxes"] = plan.boxes.sha256
    with locked(plan.folder):
        keep_review(earlier, reporter)
        run = begin(plan, dataclasses.replace(plan.wanted, model=provenance, fiftyone=target))
        timer = StageTimer(run.manifest.seconds)
        compute_shards(run, RegionComputer(plan.source, detector, model, options, timer), reporter)
        outputs = Outputs(run, labeller)
        finish(outputs, timer, plan.source.skipped, not request.is_in_fiftyone, reporter)
    return run


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
    names = wanted.model.keys() | before.model.keys()
    changed = [each for each in names if wanted.model.get(each) != before.model.get(each)]
    if changed:
        raise InputError(
            f"{plan.folder} was begun with other {', '.join(sorted(changed))}; "
            "choose another --out, or say --overwrite"
        )
    run.manifest = before
    run.update(status=RUNNING, fiftyone=wanted.fiftyone)
    return run


def compute_shards(run: RunFolder, computer: RegionComputer, reporter: Reporter) -> None:
    """Write every shard that is not there yet, and enter each into the manifest once it is."""
    images, size = computer.source.images, computer.options.shard_size
    damaged = set(damaged_files(run.folder, run.manifest))
    whole = {shard.file: shard for shard in run.manifest.shards if shard.file not in damaged}
    shards: list[Shard] = []
    reporter.start("labelling", len(images), sum(shard.images for shard in whole.values()))
    for index, start in enumerate(range(0, len(images), size)):
        if shard := whole.get(shard_file(index)):
            shards.append(shard)
            continue
        regions = []
        for batch in computer.images(images[start : start + size]):
            regions += batch
            reporter.advance(len(batch))
        shards.append(write_shard(run.folder, index, regions))
        run.update(shards=tuple(shards), seconds=computer.timer.seconds())
    run.update(shards=tuple(shards))


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
        if manifest.fiftyone is not None and not outputs.is_in_fiftyone():
            reporter.message(f"writing labels to FiftyOne's dataset {manifest.fiftyone.dataset!r}")
            try:
                outputs.write_fiftyone(new_samples)
            except Exception as error:
                error.add_note(f"the labels are in {run.folder} all the same")
                raise
    files = {name: sha256_of(run.folder / name) for name in (COCO, LVIS, SKIPPED, CONTACT_SHEET)}
    run.update(status=COMPLETE, counts=counts, files=files, seconds=timer.seconds())
