"""`autolabel review`."""

from pathlib import Path
from typing import Annotated

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import app, print_line

PORT = 5151


@app.command()
def review(
    run: shared.Run,
    port: Annotated[int, typer.Option(help="Port of the App, on 127.0.0.1.")] = PORT,
    browser: Annotated[bool, typer.Option(help="Whether to open a browser window.")] = True,
) -> None:
    """Review the labels of low confidence in FiftyOne.

    A label that you rename, delete or tag `reviewed` leaves the view, and `autolabel export`
    writes the labels as they stand. Ctrl-C ends the App.
    """
    show_review(run, port, browser)


def show_review(run: Path, port: int = PORT, browser: bool = True) -> None:
    """Open the App at a run's view "needs review" and wait until it is closed."""
    from autolabel.review.app import open_review

    with open_review(run, port, browser) as review:
        print_line(
            f"FiftyOne at {review.address}, dataset {review.dataset!r}, view {review.view!r}; "
            "Ctrl-C ends it"
        )
        review.wait()
