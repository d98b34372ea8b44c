"""`autolabel review`."""

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
    from autolabel.review.app import serve_review

    serve_review(run, port, browser, print_line)
