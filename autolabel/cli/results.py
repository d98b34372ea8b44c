"""`autolabel review`, `autolabel export` and `autolabel convert`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolabel.cli.app import app, out_console
from autolabel.options import LABEL_FIELD

if TYPE_CHECKING:
    from autolabel.convert import Exported, Images

DEFAULT_PORT = 5151

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]


@app.command()
def review(
    run: Run,
    port: Annotated[int, typer.Option(help="Of the App, on 127.0.0.1.")] = DEFAULT_PORT,
    browser: Annotated[bool, typer.Option(help="Whether to open a browser window.")] = True,
) -> None:
    """Open FiftyOne at the labels that are unsure.

    Give a label another word, delete it, or tag it `reviewed`: it leaves the view, and
    `autolabel export` writes labels as they stand. Ctrl-C ends the App.
    """
    show_review(run, port, browser)


IMAGES_HELP = "Folder of the images, where they are not beside the labels."
CopyImages = Annotated[bool, typer.Option("--copy-images", help="Copy the images beside them.")]
LinkImages = Annotated[bool, typer.Option("--link", help="Link to the images instead.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")]
FORMATS_HELP = "coco, lvis, yolo, yolo-scores, voc, cvat, label-studio or fiftyone."


@app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_DATASET", help="A run folder, or fiftyone:NAME.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the labels.", show_default=False)],
    format: Annotated[str, typer.Option(help=FORMATS_HELP)] = "coco",
    min_confidence: Annotated[
        float, typer.Option(help="Leave out a model's labels of a lower confidence.")
    ] = 0.0,
    only_reviewed: Annotated[
        bool,
        typer.Option(
            "--only-reviewed",
            help="Only labels that a person drew, renamed or tagged `reviewed`, and their images.",
        ),
    ] = False,
    copy_images: CopyImages = False,
    link: LinkImages = False,
    label_field: Annotated[
        str, typer.Option(help="Of a FiftyOne dataset; a run knows its own.")
    ] = LABEL_FIELD,
    overwrite: Overwrite = False,
) -> None:
    """Write labels as they stand in FiftyOne after the review."""
    from autolabel.review.export import ExportRequest, export_labels

    images = what_becomes_of_images(copy_images, link)
    request = ExportRequest(
        source, format, out, min_confidence, only_reviewed, images, label_field, overwrite
    )
    show_exported(export_labels(request))


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
    from_format: Annotated[str, typer.Option("--from", help=FORMATS_HELP, show_default=False)],
    to_format: Annotated[str, typer.Option("--to", help="The same names.", show_default=False)],
    images: Annotated[Path | None, typer.Option(help=IMAGES_HELP)] = None,
    copy_images: CopyImages = False,
    link: LinkImages = False,
    overwrite: Overwrite = False,
) -> None:
    """Write labels of one format in another."""
    from autolabel.convert import convert as convert_labels

    kept = what_becomes_of_images(copy_images, link)
    show_exported(convert_labels(source, out, from_format, to_format, images, kept, overwrite))


def what_becomes_of_images(copy: bool, link: bool) -> "Images":
    """What the two flags say.

    Raises:
        InputError: both are given.
    """
    from regionspot.errors import InputError

    if copy and link:
        raise InputError("--copy-images and --link exclude each other")
    return "copy" if copy else "link" if link else "leave"


def show_exported(exported: "Exported") -> None:
    """Print what was written."""
    out_console().print(
        f"{exported.annotations} labels of {exported.images} images: {exported.path}",
        soft_wrap=True,
        highlight=False,
    )


def show_review(run: Path, port: int = DEFAULT_PORT, browser: bool = True) -> None:
    """Open the App at a run's view "needs review" and wait until it is closed."""
    from autolabel.review.app import open_review

    with open_review(run, port, browser) as review:
        out_console().print(
            f"FiftyOne at {review.address}, dataset {review.dataset!r}, view {review.view!r}; "
            "Ctrl-C ends it",
            soft_wrap=True,
            highlight=False,
        )
        review.wait()
