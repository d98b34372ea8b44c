"""`autolabel review`: FiftyOne's App at the labels of low confidence."""

from collections.abc import Callable
from pathlib import Path

from autolabel.run.manifest import Manifest, read_complete
from autolabel.run.outputs import label_field
from integrations.fiftyone.dataset import NEEDS_REVIEW, registered_views
from integrations.fiftyone.session import ADDRESS, connect, open_app
from regionspot.errors import InputError


def complete_run(folder: Path) -> Manifest:
    """The manifest of a complete run whose labels are in FiftyOne, which is connected to.

    Raises:
        InputError: there is no such run, or FiftyOne does not start.
    """
    manifest = read_complete(folder)
    if manifest.fiftyone is None:
        raise InputError(f"{folder} has no labels in FiftyOne; run it again without --no-fiftyone")
    database = manifest.fiftyone.database
    connect(Path(database) if database else None)
    return manifest


def serve_review(folder: Path, port: int, browser: bool, announce: Callable[[str], None]) -> None:
    """Open the App at the view "needs review" of a run; return when it is closed, or at Ctrl-C.

    Args:
        folder: the run folder.
        port: on 127.0.0.1.
        browser: whether a browser window is opened.
        announce: is called with the App's address once it runs.

    Raises:
        InputError: there is no such run, its dataset is gone, or the port is taken.
    """
    target = label_field(complete_run(folder))
    view = registered_views(target).get(NEEDS_REVIEW)
    if view is None:
        raise InputError(f"{folder} is not registered with FiftyOne's dataset any more")
    session = open_app(target.dataset, view, port, browser)
    address = f"http://{ADDRESS}:{port}"
    try:
        announce(
            f"FiftyOne at {address}, dataset {target.dataset!r}, view {view!r}; Ctrl-C ends it"
        )
        # A negative number of seconds: the App also waits for its first window.
        session.wait(-1)
    except KeyboardInterrupt:
        return
    finally:
        session.close()
