"""`autolabel run`."""

from pathlib import Path
from typing import Annotated

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import app
from autolabel.cli.options import INPUT, MODEL, OUTPUT, SELECTION
from autolabel.options import (
    LABEL_FIELD,
    Options,
    absolute_detectors,
    absolute_model,
    with_thresholds,
)


@app.command()
def run(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help=(
                "A folder of images (with all below it), an image, a .txt list of paths (- reads "
                "it from standard input), a COCO JSON, fiftyone:NAME, or a URL such as "
                "s3://bucket/photos."
            ),
            show_default=False,
        ),
    ],
    vocab: shared.Vocab[Path],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images that a COCO JSON names.", rich_help_panel=INPUT),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            metavar="BOXES",
            help="Boxes to label instead of a detector's: COCO annotations or results, "
            "FORMAT:PATH of another format, or fiftyone:FIELD of the dataset.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    keep_score: Annotated[
        bool,
        typer.Option(
            "--keep-score/--no-score",
            help="Whether the score of a box from --boxes counts in a label's.",
            rich_help_panel=INPUT,
        ),
    ] = Options.keep_score,
    out: shared.RunOut = None,
    label_field: Annotated[
        str,
        typer.Option(
            help="FiftyOne's field of the labels.",
            show_default=f"{LABEL_FIELD}; with --into RUN's field and the name of --out",
            rich_help_panel=OUTPUT,
        ),
    ] = "",
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="A run over the same images: the labels go into a new field of its FiftyOne "
            "dataset.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    carry_reviewed: shared.CarryReviewed = False,
    fiftyone: Annotated[
        bool,
        typer.Option(help="Whether labels are written to FiftyOne, too.", rich_help_panel=OUTPUT),
    ] = True,
    database: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a private FiftyOne database.",
            show_default="yours",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: shared.Overwrite = False,
    discard_review: shared.DiscardReview = False,
    launch: shared.Launch = False,
    conf_threshold: Annotated[
        float | None,
        typer.Option(
            help="Minimum confidence of a label: detector score times class probability.",
            show_default=f"{Options.conf_threshold}; none with --boxes",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    presence_threshold: Annotated[
        float | None,
        typer.Option(
            help="Minimum presence of a label's word, which does not depend on the other words.",
            show_default=f"{Options.presence_threshold}; none without a trained head",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(
            help="IoU threshold of the class-agnostic non-maximum suppression.",
            show_default=f"{Options.iou}; none with --boxes",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    containment: Annotated[
        float | None,
        typer.Option(
            help=shared.CONTAINMENT,
            show_default=f"{Options.containment}; none with --boxes",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    detector_weight: shared.DetectorWeight[float] = Options.detector_weight,
    max_boxes: Annotated[
        int | None,
        typer.Option(
            help="Maximum number of proposals per image, highest scores first.",
            show_default="100; 200 where a word is none of the detector's classes",
            rich_help_panel=SELECTION,
        ),
    ] = Options.max_boxes,
    masks: Annotated[
        bool, typer.Option(help="Whether each label gets a mask.", rich_help_panel=SELECTION)
    ] = Options.masks,
    model: shared.Model = Options.model,
    checkpoint: shared.Checkpoint = None,
    detector: Annotated[
        str,
        typer.Option(
            help="nanodet, sam-grid, torchvision:NAME, hf:REPO_OR_FOLDER or another package's; "
            "several with commas between them.",
            show_default="the model's",
            rich_help_panel=MODEL,
        ),
    ] = Options.detector,
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="SIDE",
            help="Detect on tiles of so many pixels, too, for objects that are small in the image.",
            show_default="the whole image alone",
            rich_help_panel=MODEL,
        ),
    ] = Options.tile,
    tile_overlap: Annotated[
        float,
        typer.Option(
            metavar="F",
            help="Overlap of neighbouring tiles, in parts of their side.",
            rich_help_panel=MODEL,
        ),
    ] = Options.tile_overlap,
    device: shared.Device = Options.device,
    runtime: shared.Runtime = Options.runtime,
    batch_size: Annotated[
        int,
        typer.Option(
            help="Images read at once; on a GPU also images per forward pass.",
            rich_help_panel=MODEL,
        ),
    ] = Options.batch_size,
    shard_size: Annotated[
        int,
        typer.Option(
            help="Images per file of regions; a killed run repeats at most this many.",
            rich_help_panel=MODEL,
        ),
    ] = Options.shard_size,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and write nothing.")
    ] = False,
    limit: shared.Limit = None,
    only_unlabelled: Annotated[
        bool,
        typer.Option(
            "--only-unlabelled",
            help="Only images of fiftyone:NAME without a label in another field.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    rehash: Annotated[
        bool,
        typer.Option(
            "--rehash",
            help="Compare all bytes of the images with those of the run that is there; without "
            "it, their sizes and samples of their bytes.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    only_unreviewed: Annotated[
        bool,
        typer.Option(
            "--only-unreviewed",
            help="Only images of fiftyone:NAME without a reviewed label in another field.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    workers: shared.Workers = 0,
    ray: shared.RayAddress = "",
    gpus_per_worker: shared.GpusPerWorker = 0.0,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Label images: propose boxes, classify each, write label files and a FiftyOne dataset.

    The same command again resumes a run that was stopped, and labels what is new or has changed.

    Exit code: 0 all images labelled, 3 some were skipped, 1 nothing could start.
    """
    from autolabel.cli.tables import show_plan, show_run
    from autolabel.cluster.ray_workers import ray_workers
    from autolabel.run.pipeline import run as run_request
    from autolabel.run.plan import RunRequest, make_plan
    from integrations.output import Output

    request = RunRequest(
        source=dataset,
        words=vocab,
        images=images,
        out=out,
        label_field=label_field,
        into=into,
        carry_reviewed=carry_reviewed,
        options=with_thresholds(
            Options(
                model=absolute_model(model),
                detector=absolute_detectors(detector),
                tile=tile,
                tile_overlap=tile_overlap,
                max_boxes=max_boxes,
                masks=masks,
                batch_size=batch_size,
                shard_size=shard_size,
                device=device,
                runtime=runtime,
                checkpoint=str(checkpoint.resolve()) if checkpoint else "",
                keep_score=keep_score,
                detector_weight=detector_weight,
            ),
            boxes,
            conf_threshold,
            presence_threshold,
            iou,
            containment,
        ),
        fiftyone=fiftyone,
        database=database,
        overwrite=overwrite,
        limit=limit,
        discard_review=discard_review,
        only_unlabelled=only_unlabelled,
        only_unreviewed=only_unreviewed,
        rehash=rehash,
    )
    with Output(as_json, quiet) as output:
        if dry_run:
            plan = make_plan(request)
            plan.check_head()
            show_plan(plan, output)
            return
        with output.progress() as reporter:
            done = run_request(request, reporter, ray_workers(workers, ray, gpus_per_worker))
        show_run(done, output, limit, launch)
