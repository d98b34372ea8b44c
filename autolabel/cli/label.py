"""`autolabel run` and `autolabel relabel`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolabel.cli.app import (
    EXIT_ALL_LABELLED,
    EXIT_SOME_SKIPPED,
    app,
    out_console,
    progress_console,
)
from autolabel.options import LABEL_FIELD, Options

if TYPE_CHECKING:
    from autolabel.run.pipeline import Result
    from autolabel.run.plan import Plan

WHAT, HOW, WHERE = "What is labelled", "Which labels are kept", "Where labels go"
WORK = "How the work is done"

Vocab = Annotated[
    Path,
    typer.Option(
        help="File of words: one a line, `#` comments, `name: synonym, synonym`.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Conf = Annotated[
    float,
    typer.Option(
        help="Drop labels of a lower confidence: the detector's score times the word's share.",
        rich_help_panel=HOW,
    ),
]
Presence = Annotated[
    float,
    typer.Option(
        help="Drop labels whose word is less likely there, whatever the other words are.",
        rich_help_panel=HOW,
    ),
]
Iou = Annotated[
    float,
    typer.Option(
        help="Of two labels whose boxes overlap by more, keep the more confident one.",
        rich_help_panel=HOW,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=WORK)]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="The head to use, as `train` writes it.",
        show_default="the model's own",
        rich_help_panel=WORK,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Start anew where there is a run already, and replace a label field of that name.",
        rich_help_panel=WHERE,
    ),
]
Launch = Annotated[
    bool, typer.Option("--launch", help="Open the review when done.", rich_help_panel=WHERE)
]


@app.command()
def run(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="A folder of images (with all below it), a COCO JSON, or fiftyone:NAME.",
            show_default=False,
        ),
    ],
    vocab: Vocab,
    images: Annotated[
        Path | None,
        typer.Option(help="The images that a COCO JSON names.", rich_help_panel=WHAT),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder.", show_default="runs/NAME of the dataset", rich_help_panel=WHERE
        ),
    ] = None,
    label_field: Annotated[
        str, typer.Option(help="FiftyOne's field for the labels.", rich_help_panel=WHERE)
    ] = LABEL_FIELD,
    fiftyone: Annotated[
        bool,
        typer.Option(help="Whether labels go to FiftyOne too.", rich_help_panel=WHERE),
    ] = True,
    database: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a FiftyOne database of its own.",
            show_default="yours",
            rich_help_panel=WHERE,
        ),
    ] = None,
    overwrite: Overwrite = False,
    launch: Launch = False,
    conf_threshold: Conf = Options.conf_threshold,
    presence_threshold: Presence = Options.presence_threshold,
    iou: Iou = Options.iou,
    max_boxes: Annotated[
        int, typer.Option(help="Boxes an image that are looked at.", rich_help_panel=HOW)
    ] = Options.max_boxes,
    model: Annotated[
        str, typer.Option(help="mini, bb, bl or bl-336.", rich_help_panel=WORK)
    ] = Options.model,
    checkpoint: Checkpoint = None,
    detector: Annotated[
        str,
        typer.Option(
            help="nanodet, sam-grid or nanodet+sam-grid.",
            show_default="the model's",
            rich_help_panel=WORK,
        ),
    ] = Options.detector,
    masks: Annotated[
        bool, typer.Option(help="Whether each label gets a mask.", rich_help_panel=HOW)
    ] = Options.masks,
    batch_size: Annotated[
        int, typer.Option(help="Images at once.", rich_help_panel=WORK)
    ] = Options.batch_size,
    shard_size: Annotated[
        int,
        typer.Option(
            help="Images to a file of regions; a killed run repeats this many at most.",
            rich_help_panel=WORK,
        ),
    ] = Options.shard_size,
    device: Device = Options.device,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done, and write nothing."),
    ] = False,
) -> None:
    """Label images: propose boxes, give each a word, write files and a FiftyOne dataset.

    The same command again goes on where it was stopped.

    Exit code: 0 all images labelled, 3 some were skipped, 1 nothing could start.
    """
    from autolabel.run.plan import Request, make_plan

    options = Options(
        model=model,
        detector=detector,
        conf_threshold=conf_threshold,
        presence_threshold=presence_threshold,
        iou=iou,
        max_boxes=max_boxes,
        masks=masks,
        batch_size=batch_size,
        shard_size=shard_size,
        device=device,
        checkpoint=str(checkpoint.resolve()) if checkpoint else "",
    )
    request = Request(
        dataset, vocab, images, out, label_field, options, fiftyone, database, overwrite
    )
    plan = make_plan(request)
    if dry_run:
        show_plan(plan)
        return
    from autolabel.progress import ConsoleReporter
    from autolabel.run.pipeline import run as run_plan

    show_result(run_plan(plan, ConsoleReporter(progress_console())), launch)


@app.command()
def relabel(
    source: Annotated[
        Path, typer.Argument(metavar="RUN", help="A complete run.", show_default=False)
    ],
    vocab: Vocab,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder.", show_default="RUN-NAME of the words", rich_help_panel=WHERE
        ),
    ] = None,
    label_field: Annotated[
        str | None,
        typer.Option(
            help="FiftyOne's field for the labels.",
            show_default="RUN's, with the words' name",
            rich_help_panel=WHERE,
        ),
    ] = None,
    overwrite: Overwrite = False,
    launch: Launch = False,
    conf_threshold: Annotated[
        float | None,
        typer.Option(help="As of `run`.", show_default="RUN's", rich_help_panel=HOW),
    ] = None,
    presence_threshold: Annotated[
        float | None,
        typer.Option(help="As of `run`.", show_default="RUN's", rich_help_panel=HOW),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(help="As of `run`.", show_default="RUN's", rich_help_panel=HOW),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The head that RUN was made with, where its file is elsewhere now.",
            show_default="RUN's",
            rich_help_panel=WORK,
        ),
    ] = None,
) -> None:
    """Label the images of a run with other words, from its stored regions.

    No image is read by the model again. The first run and its labels stay as they are.
    """
    from autolabel.progress import ConsoleReporter
    from autolabel.run.relabel import RelabelRequest
    from autolabel.run.relabel import relabel as relabel_run

    request = RelabelRequest(
        source,
        vocab,
        out,
        label_field,
        conf_threshold,
        presence_threshold,
        iou,
        overwrite,
        checkpoint,
    )
    show_result(relabel_run(request, ConsoleReporter(progress_console())), launch)


def show_plan(plan: "Plan") -> None:
    """Print what a dry run found."""
    from autolabel.progress import print_plan

    print_plan(out_console(), plan)


def show_result(result: "Result", launch: bool) -> None:
    """Print the table of a run, open the review if asked, and exit with the run's code."""
    from autolabel.progress import print_result

    print_result(out_console(), result.folder, result.manifest)
    if launch:
        from autolabel.cli.results import show_review

        show_review(result.folder)
    skipped = result.manifest.counts["skipped"]
    raise typer.Exit(EXIT_SOME_SKIPPED if skipped else EXIT_ALL_LABELLED)
