"""`autolabel review`: FiftyOne's App at the labels of low confidence."""

from collections.abc import Callable
from pathlib import Path

from autolabel.run.manifest import Manifest, in_fiftyone
from autolabel.run.outputs import label_field
from integrations.fiftyone.dataset import NEEDS_REVIEW, registered_views
from integrations.fiftyone.server import serve_app
from integrations.fiftyone.session import connect
from regionspot.errors import InputError


def complete_run(folder: Path) -> Manifest:
    """The manifest of a complete run whose labels are in FiftyOne, which is connected to.

    Raises:
        InputError: there is no such run, or FiftyOne does not start.
    """
    manifest = in_fiftyone(folder)
    assert manifest.fiftyone is not None
    connect(manifest.fiftyone.database_folder)
    return manifest


def serve_review(
    folder: Path,
    address: str,
    port: int,
    browser: bool,
    announce: Callable[[str], None],
    view: str = "",
) -> None:
    """Serve the App at a view of a run until Ctrl-C.

    Args:
        folder: the run folder.
        address: to listen on.
        port: to listen on.
        browser: whether a browser window is opened.
        announce: is called with the App's address once it runs.
        view: name of a saved view; empty: "needs review".

    Raises:
        InputError: there is no such run, its dataset is gone, or the port is taken.
    """
    target = label_field(complete_run(folder))
    shown = view or registered_views(target).get(NEEDS_REVIEW)
    if shown is None:
        raise InputError(f"{folder} is not registered with FiftyOne's dataset any more")

    def announce_url(url: str) -> None:
        announce(f"FiftyOne at {url}, dataset {target.dataset!r}, view {shown!r}; Ctrl-C ends it")

    serve_app(target.dataset, shown, folder, address, port, browser, announce_url)
