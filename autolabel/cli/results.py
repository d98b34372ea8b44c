"""`autolabel review` and `autolabel export`."""

from pathlib import Path
from typing import Annotated

import typer

from autolabel.cli.app import app, out_console

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


@app.command()
def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="Folder for the file.", show_default=False)],
    format: Annotated[str, typer.Option(help="coco or lvis.")] = "coco",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
) -> None:
    """Write the labels of a run as they stand in FiftyOne after the review."""
    from autolabel.export import export_labels

    exported = export_labels(run, format, out, overwrite)
    out_console().print(
        f"{exported.annotations} labels of {exported.images} images: {exported.path}",
        soft_wrap=True,
        highlight=False,
    )


def show_review(run: Path, port: int = DEFAULT_PORT, browser: bool = True) -> None:
    """Open the App at a run's view "needs review" and wait until it is closed."""
    from autolabel.review import open_review

    with open_review(run, port, browser) as review:
        out_console().print(
            f"FiftyOne at {review.address}, dataset {review.dataset!r}, view {review.view!r}; "
            "Ctrl-C ends it",
            soft_wrap=True,
            highlight=False,
        )
        review.wait()
