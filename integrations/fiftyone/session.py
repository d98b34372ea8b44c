"""FiftyOne's environment and database.

FiftyOne takes its settings from `FIFTYONE_*` variables when it is first imported and starts its
MongoDB on first use, so `set_defaults` or `use_private_folder` comes before any `import fiftyone`.
"""

import atexit
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integrations.fiftyone.database import start_database
from regionspot.errors import InputError

ADDRESS = "127.0.0.1"
FIFTYONE_PREFIX = "fiftyone:"  # of a dataset's name where a path could stand, too
LOST_S = 6  # seconds after which a MongoDB that does not answer counts as gone
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

    Its MongoDB is open to this user alone and starts on first use. Child processes inherit it and
    share the one MongoDB. Calling it again for the same folder changes nothing.

    Args:
        folder: made, closed to other users, if it is not there. MongoDB needs a local file system.
    """
    folder = folder.resolve()
    database = str(folder / "mongo")
    if os.environ.get("FIFTYONE_DATABASE_DIR") != database:
        assert "fiftyone" not in sys.modules, "FiftyOne has already read its environment"
        _point_at(folder, database)
    _start_privately(Path(database))


def _start_privately(database: Path) -> None:
    """Let FiftyOne connect to a private MongoDB where it would start its own."""
    import fiftyone.core.odm.database as odm
    from fiftyone.core.service import DatabaseService

    connect = odm.establish_db_conn
    if connect.__module__ == __name__:
        return

    def start_and_connect(config: Any) -> None:
        address = start_database(database, DatabaseService.find_mongod())
        config.database_uri = os.environ["FIFTYONE_DATABASE_URI"] = address
        connect(config)

    odm.establish_db_conn = start_and_connect


def _point_at(folder: Path, database: str) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
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
    from fiftyone.core.odm import database as odm
    from fiftyone.core.service import ServiceException
    from pymongo import common
    from pymongo.errors import PyMongoError

    fo.config.show_progress_bars = False
    common.SERVER_SELECTION_TIMEOUT = LOST_S
    try:
        with _connecting():
            fo.list_datasets()
        # It would wait as long once more for a database that is gone. All datasets made here are
        # persistent.
        atexit.unregister(odm._delete_non_persistent_datasets_if_allowed)
    except (FiftyOneConfigError, ServiceException, PyMongoError, OSError, RuntimeError) as error:
        raise InputError(
            f"FiftyOne's database does not start ({' '.join(str(error).split())}); "
            "see `Install` in the README, or label into files only with --no-fiftyone"
        ) from error


@contextmanager
def _connecting() -> Iterator[None]:
    """Let one process at a time start FiftyOne's own MongoDB; the next then finds that it runs."""
    import fiftyone as fo

    if fo.config.database_uri is not None:  # it is not FiftyOne that starts it
        yield
        return
    folder = Path(fo.config.database_dir)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
