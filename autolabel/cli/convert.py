"""`autolabel convert`."""

from pathlib import Path
from typing import Annotated

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import app
from autolabel.cli.export import image_mode, show_exported
from autolabel.cli.options import FORMATS, INPUT, OUTPUT


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="File or folder of labels.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Folder, or NAME.json for coco and lvis.", show_default=False
        ),
    ],
    from_format: Annotated[
        str, typer.Option("--from", help=FORMATS, show_default=False, rich_help_panel=INPUT)
    ],
    to_format: Annotated[
        str, typer.Option("--to", help="As --from.", show_default=False, rich_help_panel=OUTPUT)
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the images, where they are not beside the labels.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    annotator: Annotated[
        str | None,
        typer.Option(
            metavar="EMAIL|ID",
            help="Read this person's annotations from Label Studio (default: the ground truth, "
            "else the first).",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    copy_images: shared.CopyImages = False,
    link: shared.LinkImages = False,
    overwrite: shared.Overwrite = False,
    strict: shared.Strict = False,
    task: shared.YoloTask = None,
    split: shared.SplitShares = None,
    seed: shared.SplitSeed = 0,
    limit: shared.Limit = None,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Write labels of one format in another.

    What OUT's format cannot hold, and what a reader mends or cannot read, is counted and printed
    with the first place of each kind.

    Exit code: 0 written, 1 nothing was.
    """
    from autolabel.convert import convert as convert_labels
    from integrations.output import Output

    with Output(as_json, quiet) as output:
        exported = convert_labels(
            source,
            out,
            from_format=from_format,
            to_format=to_format,
            folder=images,
            images=image_mode(copy_images, link),
            overwrite=overwrite,
            strict=strict,
            limit=limit,
            annotator=annotator,
            task=task,
            split=split,
            seed=seed,
        )
        show_exported(exported, to_format, limit, output)
