"""`autolabel review`: FiftyOne's App at the labels of low confidence."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolabel.run.manifest import Manifest, read_complete
from autolabel.run.outputs import label_field
from integrations.fiftyone.dataset import NEEDS_REVIEW, registered_views
from integrations.fiftyone.session import ADDRESS, connect, open_app
from regionspot.errors import InputError


@dataclass(frozen=True)
class OpenReview:
    """A running App.

    Attributes:
        dataset: name of the dataset.
        view: name of the saved view.
        address: URL of the App.
        session: FiftyOne's session.
    """

    dataset: str
    view: str
    address: str
    session: Any

    def wait(self) -> None:
        """Block until the App's last window is closed."""
        # A negative number of seconds: the App also waits for its first window.
        self.session.wait(-1)


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


@contextmanager
def open_review(folder: Path, port: int, browser: bool = True) -> Iterator[OpenReview]:
    """Open the App at the view "needs review" of a run.

    It ends with the block, which Ctrl-C ends too.

    Args:
        folder: the run folder.
        port: on 127.0.0.1.
        browser: whether a browser window is opened.

    Raises:
        InputError: there is no such run, its dataset is gone, or the port is taken.
    """
    manifest = complete_run(folder)
    target = label_field(manifest)
    view = registered_views(target).get(NEEDS_REVIEW)
    if view is None:
        raise InputError(f"{folder} is not registered with FiftyOne's dataset any more")
    session = open_app(target.dataset, view, port, browser)
    try:
        yield OpenReview(target.dataset, view, f"http://{ADDRESS}:{port}", session)
    except KeyboardInterrupt:
        return
    finally:
        session.close()
