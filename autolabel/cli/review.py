"""`autolabel review`."""

from typing import Annotated

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import app

PORT = 5151
ADDRESS = "127.0.0.1"


@app.command()
def review(
    run: shared.Run,
    port: Annotated[int, typer.Option(help="Port of the App.", min=1, max=65535)] = PORT,
    address: Annotated[
        str,
        typer.Option(
            help="Address or name of this machine to listen on; 0.0.0.0: all. The network can read "
            "what is sent: prefer an SSH tunnel, `ssh -L 5151:127.0.0.1:5151 HOST`."
        ),
    ] = ADDRESS,
    browser: Annotated[bool, typer.Option(help="Whether to open a browser window.")] = True,
) -> None:
    """Review the labels of low confidence in FiftyOne.

    Click an image, then "Annotate", to change labels. An image leaves the view once each of its
    labels is renamed, deleted or marked `reviewed`, or the image is tagged `reviewed`. `autolabel
    export` writes the labels as they stand. The App answers only to the address that is printed,
    which has a token: keep it to yourself. Ctrl-C ends the App.
    """
    from autolabel.review.app import serve_review
    from integrations.output import print_line

    serve_review(run, address, port, browser, print_line)
