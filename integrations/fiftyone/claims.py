"""Claims on FiftyOne's label fields, kept in its database: which process writes one.

A field is claimed before anything of it is written. A claim is released once the field is whole;
one that a killed process left tells the next process of the same run that what it finds half-made
is its own.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from regionspot.errors import InputError
from regionspot.process import Holder

_COLLECTION = "autolabel.claims"


def release(dataset: str, field: str, run_folder: str) -> None:
    """Release the claim that an earlier process of a run left on a field that is whole."""
    from fiftyone.core.odm import get_db_conn

    get_db_conn()[_COLLECTION].delete_one({"_id": _key(dataset, field), "run_folder": run_folder})


def _key(dataset: str, field: str) -> str:
    return f"{dataset}/{field}"


@contextmanager
def claimed(dataset: str, field: str, run_folder: str) -> Iterator[bool]:
    """Claim a field for the time of the block, and yield whether the run had claimed it before.

    Where the block raises or the process is killed, the claim stays for the run to resume.

    Args:
        dataset: FiftyOne's name of it, which need not exist.
        field: of its samples.
        run_folder: absolute folder of the run that writes.

    Raises:
        InputError: a process that is running has claimed the field.
    """
    from fiftyone.core.odm import get_db_conn
    from pymongo.errors import DuplicateKeyError

    claims = get_db_conn()[_COLLECTION]
    key = _key(dataset, field)
    claim = {"_id": key, "run_folder": run_folder, **dataclasses.asdict(Holder.current())}
    before = claims.find_one({"_id": key})
    if before is not None:
        names = [each.name for each in dataclasses.fields(Holder)]
        holder = Holder(**{name: before[name] for name in names})
        if holder.is_running and holder.pid != claim["pid"]:
            raise InputError(
                f"another autolabel writes FiftyOne's field {field!r} of dataset {dataset!r} "
                f"({holder}, run {before['run_folder']}); wait for it"
            )
        # By what was found: another process may have taken it over meanwhile.
        claims.delete_one(before)
    try:
        claims.insert_one(claim)
    except DuplicateKeyError as error:
        raise InputError(
            f"another autolabel has just begun to write FiftyOne's field {field!r} of dataset "
            f"{dataset!r}; wait for it"
        ) from error
    yield before is not None and before["run_folder"] == run_folder
    claims.delete_one({"_id": key})
