"""FiftyOne's environment, database and App.

FiftyOne takes its settings from `FIFTYONE_*` variables when it is first imported and starts its
MongoDB on first use, so `set_defaults` or `use_private_folder` comes before any `import fiftyone`.
"""

import hashlib
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

from regionspot.errors import InputError

ADDRESS = "127.0.0.1"
# Where a process finds a MongoDB that another one started, or a user's own server. Under a private
# folder neither may be followed.
_CONNECTIONS = ("FIFTYONE_DATABASE_URI", "FIFTYONE_PRIVATE_DATABASE_PORT")

_QUIET = {
    "FIFTYONE_DO_NOT_TRACK": "true",
    "FIFTYONE_DEFAULT_APP_ADDRESS": ADDRESS,
}


def set_defaults() -> None:
    """For a user's run: no tracking, and the App on this machine only, unless they set otherwise.

    A variable that is already set stays as it is, and so does the user's database.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def use_private_folder(folder: Path) -> None:
    """Keep all that FiftyOne writes in `folder`, and read no settings of the user's.

    For tests and the demo. Child processes inherit it and share the one MongoDB. Calling it again
    for the same folder changes nothing.

    Args:
        folder: made if it is not there. MongoDB needs a local file system.
    """
    folder = folder.resolve()
    database = str(folder / "mongo")
    if os.environ.get("FIFTYONE_DATABASE_DIR") != database:
        assert "fiftyone" not in sys.modules, "FiftyOne has already read its environment"
        _point_at(folder, database)
    from fiftyone.core.service import DatabaseService

    # A process joins whichever MongoDB runs under this name, that of another folder too.
    DatabaseService.service_name = "db-" + hashlib.sha256(database.encode()).hexdigest()[:12]


def _point_at(folder: Path, database: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in _CONNECTIONS:
        os.environ.pop(name, None)
    os.environ.update(_QUIET)
    os.environ.update(
        {
            "FIFTYONE_DATABASE_DIR": database,
            # mongod 6.0.5, which stands in where FiftyOne cannot fetch its own, works but is old
            # enough for a warning at every start.
            "FIFTYONE_DATABASE_VALIDATION": "false",
            "FIFTYONE_DEFAULT_DATASET_DIR": str(folder / "datasets"),
            "FIFTYONE_DATASET_ZOO_DIR": str(folder / "datasets"),
            "FIFTYONE_MODEL_ZOO_DIR": str(folder / "models"),
            "FIFTYONE_PLUGINS_DIR": str(folder / "plugins"),
            # None of these files exists: the user's own are not read.
            "FIFTYONE_CONFIG_PATH": str(folder / "config.json"),
            "FIFTYONE_APP_CONFIG_PATH": str(folder / "app_config.json"),
            "FIFTYONE_ANNOTATION_CONFIG_PATH": str(folder / "annotation_config.json"),
            "FIFTYONE_EVALUATION_CONFIG_PATH": str(folder / "evaluation_config.json"),
        }
    )


def connect(database: Path | None = None) -> None:
    """Start FiftyOne's MongoDB, or find the one that runs. FiftyOne is imported here.

    Args:
        database: a folder to keep all of FiftyOne's own files in; None for the user's database.

    Raises:
        InputError: it cannot be started or reached.
    """
    if database is None:
        set_defaults()
    else:
        use_private_folder(database)
    import fiftyone as fo
    from fiftyone.core.config import FiftyOneConfigError
    from fiftyone.core.service import ServiceException
    from pymongo.errors import PyMongoError

    fo.config.show_progress_bars = False
    try:
        fo.list_datasets()
    except (FiftyOneConfigError, ServiceException, PyMongoError, OSError, RuntimeError) as error:
        raise InputError(
            f"FiftyOne's database does not start ({' '.join(str(error).split())}); "
            "see `Install` in the README, or label into files only with --no-fiftyone"
        ) from error


def load_dataset(name: str) -> Any:
    """FiftyOne's dataset of that name.

    Raises:
        InputError: there is none, or it does not hold images.
    """
    import fiftyone as fo

    if not fo.dataset_exists(name):
        known = ", ".join(sorted(fo.list_datasets())[:10]) or "none"
        raise InputError(f"FiftyOne has no dataset {name!r}; it has {known}")
    dataset = fo.load_dataset(name)
    if dataset.media_type not in (None, "image"):
        raise InputError(f"FiftyOne's dataset {name!r} holds {dataset.media_type}, not images")
    return dataset


def list_samples(name: str) -> list[tuple[str, str]]:
    """Absolute path and sample id of each image of a dataset, in its order.

    Raises:
        InputError: there is no such dataset, or it holds no image.
    """
    dataset = load_dataset(name)
    paths, ids = dataset.values(["filepath", "id"])
    if not paths:
        raise InputError(f"FiftyOne's dataset {name!r} holds no image")
    return list(zip(paths, ids, strict=True))


def open_app(dataset: str, view: str, port: int, browser: bool) -> Any:
    """Open the App on this machine alone, at a saved view.

    Args:
        dataset: name of the dataset.
        view: name of a saved view.
        port: on 127.0.0.1.
        browser: whether a browser window is opened.

    Returns:
        FiftyOne's session; the App goes with the process.

    Raises:
        InputError: the dataset or the view is gone, or the port is taken.
    """
    import fiftyone as fo

    loaded = load_dataset(dataset)
    if not loaded.has_saved_view(view):
        raise InputError(f"FiftyOne's dataset {dataset!r} has no view {view!r} any more")
    _check_free(port)
    # It would explain at length how to reach it from elsewhere.
    logging.getLogger("fiftyone").setLevel(logging.ERROR)
    config = fo.app_config.copy()
    config.color_by = "value"  # a colour for each class, not one for all labels
    config.grid_zoom = 4
    # The address is given: inside a container FiftyOne would listen to the whole network.
    return fo.launch_app(
        view=loaded.load_saved_view(view),
        address=ADDRESS,
        port=port,
        remote=not browser,
        config=config,
    )


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise InputError(f"port {port} is taken; choose another with --port") from error
