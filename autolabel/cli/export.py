"""`autolabel export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import app
from autolabel.cli.options import FORMATS, OUTPUT, SELECTION
from autolabel.options import LABEL_FIELD

if TYPE_CHECKING:
    from autolabel.convert import Exported, ImageMode
    from integrations.output import Output


@app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_DATASET", help="A run folder, or fiftyone:NAME.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Folder of the labels.", show_default=False, rich_help_panel=OUTPUT),
    ],
    format: Annotated[str, typer.Option(help=FORMATS, rich_help_panel=OUTPUT)] = "coco",
    min_confidence: Annotated[
        float,
        typer.Option(
            help="Minimum confidence of a model's label of a word without a threshold of its own; "
            "a person's label has none and is kept.",
            rich_help_panel=SELECTION,
        ),
    ] = 0.0,
    vocab: Annotated[
        Path | None,
        typer.Option(
            help="Vocabulary file with the thresholds of words.",
            show_default="the run's",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    only_reviewed: Annotated[
        bool,
        typer.Option(
            "--only-reviewed",
            help="Only labels that a person drew, renamed or marked `reviewed`, and their images. "
            "The tag `reviewed` of an image counts for all its labels; without any, the image is "
            "kept as verified to be empty.",
            rich_help_panel=SELECTION,
        ),
    ] = False,
    only_accepted: Annotated[
        bool,
        typer.Option(
            "--only-accepted",
            help="Only labels that `autolabel accept` accepted or a person reviewed, as "
            "--only-reviewed has them, and their images.",
            rich_help_panel=SELECTION,
        ),
    ] = False,
    copy_images: shared.CopyImages = False,
    link: shared.LinkImages = False,
    label_field: shared.LabelField[str] = LABEL_FIELD,
    split: shared.SplitShares = None,
    seed: shared.SplitSeed = 0,
    overwrite: shared.Overwrite = False,
    limit: shared.Limit = None,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Write the labels of a run, as they stand in FiftyOne after the review, in any format.

    --label-field goes with a FiftyOne dataset; a run has its own.
    """
    from autolabel.review.export import ExportRequest, export_labels
    from integrations.output import Output

    with Output(as_json, quiet) as output:
        request = ExportRequest(
            source=source,
            out=out,
            format=format,
            min_confidence=min_confidence,
            words=vocab,
            only_reviewed=only_reviewed,
            only_accepted=only_accepted,
            images=image_mode(copy_images, link),
            label_field=label_field,
            split=split,
            seed=seed,
            overwrite=overwrite,
            limit=limit,
        )
        show_exported(export_labels(request), format, limit, output)


def image_mode(copy: bool, link: bool) -> "ImageMode":
    """What the two flags ask for.

    Raises:
        InputError: both are given.
    """
    from regionspot.errors import InputError

    if copy and link:
        raise InputError("--copy-images and --link exclude each other")
    return "copy" if copy else "link" if link else "leave"


def show_exported(exported: "Exported", format: str, limit: int | None, output: "Output") -> None:
    """Print what was written, changed and left out."""
    from autolabel.cli.tables import first_images

    counts = f"{exported.annotations} labels of {exported.images} images"
    output.line(f"{counts}{first_images(limit)}: {exported.path}")
    for line in exported.tally.lines():
        output.notice(line)
    output.summary(
        {"path": exported.path, "format": format, "limit": limit, **exported.tally.to_json()}
    )
