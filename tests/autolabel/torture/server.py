"""Runs commands in forked children, and lets the world break at a child's k-th operation.

What breaks, `fault`: `kill`, the process ends just before the operation; `disk`, this and all later
operations that need room on the disk fail; `database`, MongoDB is killed before its k-th command.

An operation is what changes a disk or a database: opening a file below the root for writing, a
rename, link, removal or new folder there, a sync, an exchange of folders, and each command that
changes MongoDB. A file that is killed before its sync keeps only the first half of its bytes, as
after a power failure.

A fork costs nothing next to loading the model, so the parent loads it once. The parent has never
connected to the database; each child does, and finds the one that the tests keep running.

Reads one job a line from standard input, as JSON: `argv`, `root`, `fault`, `at` (null: never),
`dataset` (null, or the FiftyOne dataset whose content is wanted) and `environ` (variables of the
command). Answers one line each: `code`
(exit code, or minus the signal), `operations` (their number), `output`, `state` (of the dataset).
"""

import contextlib
import errno
import functools
import io
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import psutil
from pymongo import monitoring

DATABASE = f"{sys.argv[1]}/mongo" if len(sys.argv) > 1 else ""  # of the tests' MongoDB

# Audit events of Python whose first argument is the path that is changed.
_CHANGES = frozenset(
    {"os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
)
_DATABASE = frozenset(
    {"insert", "update", "delete", "findAndModify", "create", "createIndexes", "drop"}
    | {"dropIndexes", "dropDatabase", "renameCollection", "bulkWrite"}
)
# Fields that FiftyOne or the clock chooses anew each time.
_CHOSEN = frozenset(
    {"id", "_id", "_rand", "_sample_id", "_dataset_id", "created_at", "last_modified_at", "started"}
    | {"timestamp", "last_loaded_at", "run_folder", "filepath"}
)


class Operations:
    """Counts operations, and lets the fault happen before the one whose turn it is."""

    def __init__(self, root: Path, fault: str, at: int | None) -> None:
        self.root, self.fault, self.at, self.count = str(root), fault, at, 0

    def install(self) -> None:
        """Listen to Python, to `os.fsync`, to the exchange of folders and to pymongo."""
        from regionspot import files

        fsync, exchange = os.fsync, files._exchange

        def counted_sync(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if str(path).startswith(self.root):
                self.operation(path)
            fsync(descriptor)

        def counted_exchange(new: Path, old: Path) -> None:
            self.operation()
            exchange(new, old)

        os.fsync, files._exchange = counted_sync, counted_exchange
        sys.addaudithook(self._audit)

        monitoring.register(DatabaseListener(self))

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR) if mode is None else set(mode) & set("wax+")
            if writes and isinstance(path, str) and path.startswith(self.root):
                self.operation(needs_room=True)
        elif event in _CHANGES and os.fsdecode(arguments[0]).startswith(self.root):
            self.operation(needs_room=event == "os.mkdir")

    def operation(self, unsynced: Path | None = None, needs_room: bool = False) -> None:
        """One more; where its turn has come, the fault happens here."""
        if self.fault == "database":
            return
        self.count += 1
        if self.fault == "disk":
            if self.at is not None and self.count >= self.at and (needs_room or unsynced):
                raise OSError(errno.ENOSPC, "No space left on device", str(unsynced or self.root))
            return
        if self.count != self.at:
            return
        # A file with a second name was on the disk before.
        if unsynced is not None and unsynced.is_file() and unsynced.stat().st_nlink == 1:
            os.truncate(unsynced, unsynced.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    def command(self) -> None:
        """One more that changes MongoDB."""
        if self.fault != "database":
            self.operation()
            return
        self.count += 1
        if self.count == self.at:
            for process in psutil.process_iter(["name", "cmdline"]):
                if process.info["name"] == "mongod" and DATABASE in process.info["cmdline"]:
                    process.kill()
                    process.wait()


class DatabaseListener(monitoring.CommandListener):
    """Counts the commands that change MongoDB."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def started(self, event: Any) -> None:
        if event.command_name in _DATABASE:
            self._operations.command()

    def succeeded(self, event: Any) -> None:
        """Nothing is counted twice."""

    def failed(self, event: Any) -> None:
        """Nothing is counted twice."""


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Run a command as the shell would, in this process."""
    from autolabel.cli import app

    os.environ.update(job["environ"])
    done = Operations(Path(job["root"]), job["fault"], job["at"])
    done.install()
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            app(job["argv"], standalone_mode=True)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
    operations = done.count
    state = dataset_state(job["dataset"]) if job["dataset"] else None
    return {"code": code, "operations": operations, "output": output.getvalue(), "state": state}


def dataset_state(name: str) -> dict[str, Any]:
    """All that a run leaves in FiftyOne, without what FiftyOne or the clock chooses."""
    import fiftyone as fo
    from fiftyone.core.odm import get_db_conn

    from integrations.fiftyone.session import connect

    connect()
    db = get_db_conn()
    dataset = fo.load_dataset(name)
    samples = sorted(dataset.iter_samples(), key=lambda sample: sample.filepath)
    return {
        "datasets": sorted(fo.list_datasets()),
        "samples": [
            [Path(sample.filepath).name, _stable(sample.to_mongo_dict())] for sample in samples
        ],
        "views": {view: str(dataset.load_saved_view(view)) for view in dataset.list_saved_views()},
        "schema": sorted(map(str, dataset.get_field_schema(flat=True))),
        "info": _stable(dict(dataset.info)),
        "runs": {
            key: _stable(dataset.get_run_info(key).config.serialize())
            for key in dataset.list_runs()
        },
        "indexes": sorted(dataset.list_indexes()),
        "claims": db["autolabel.claims"].count_documents({}),
    }


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _stable(v) for k, v in sorted(value.items()) if k not in _CHOSEN}
    if isinstance(value, list | tuple):
        return [_stable(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def serve() -> None:
    """Load what takes long, and answer jobs until standard input ends."""
    from integrations.fiftyone.session import use_private_folder

    use_private_folder(Path(sys.argv[1]))  # imports FiftyOne, which reads its environment once
    import autolabel.api
    import autolabel.run.pipeline
    import autolabel.run.relabel

    load = functools.cache(autolabel.run.pipeline.load_model)
    for module in (autolabel.run.pipeline, autolabel.run.relabel):
        module.load_model = load
    load("mini", "auto", None)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reader)
            with os.fdopen(writer, "w") as pipe:
                json.dump(run_job(json.loads(line)), pipe)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        if not answer:
            code = os.waitstatus_to_exitcode(status)
            answer = json.dumps({"code": code, "operations": 0, "output": "", "state": None})
        answers.write(answer + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
