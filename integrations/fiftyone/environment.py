"""The environment that FiftyOne reads when it is first imported.

FiftyOne takes its settings from `FIFTYONE_*` variables and starts its MongoDB on first use, so
what is set here has to be set before anything imports `fiftyone`.
"""

import hashlib
import os
import sys
from pathlib import Path

# Where a process finds a MongoDB that another one started, or a user's own server. Under a private
# folder neither may be followed.
_CONNECTIONS = ("FIFTYONE_DATABASE_URI", "FIFTYONE_PRIVATE_DATABASE_PORT")

_QUIET = {
    "FIFTYONE_DO_NOT_TRACK": "true",
    "FIFTYONE_DEFAULT_APP_ADDRESS": "127.0.0.1",
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
