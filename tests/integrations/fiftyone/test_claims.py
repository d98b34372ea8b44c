"""A claim keeps others out, and tells a resumed run what was its own."""

import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.claims import claimed
from integrations.fiftyone.session import connect
from regionspot.errors import InputError

HOLDS_A_FIELD = """
import sys
from integrations.fiftyone.claims import claimed
from integrations.fiftyone.session import connect

connect()
with claimed(sys.argv[1], "predictions", "/runs/first"):
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def name() -> str:
    connect()
    return f"test {uuid.uuid4().hex}"


def test_a_second_writer_is_refused_and_a_dead_one_is_not_waited_for(name: str) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDS_A_FIELD, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    assert any(line == "claimed\n" for line in first.stdout)
    with (
        pytest.raises(InputError, match=rf"process {first.pid} on .*, run /runs/first\)"),
        claimed(name, "predictions", "/runs/second"),
    ):
        pass
    with claimed(name, "another", "/runs/second"):
        pass
    first.kill()
    first.wait()
    with claimed(name, "predictions", "/runs/second") as resumed:
        assert not resumed


def test_a_claim_stays_where_the_writing_failed(name: str) -> None:
    with suppress(RuntimeError), claimed(name, "predictions", "/runs/first") as resumed:
        assert not resumed
        raise RuntimeError
    with claimed(name, "predictions", "/runs/first") as resumed:
        assert resumed
    with claimed(name, "predictions", "/runs/first") as resumed:
        assert not resumed


def test_a_half_made_dataset_is_taken_over_by_its_run_alone(name: str, tmp_path: Path) -> None:
    import fiftyone as fo

    fo.Dataset(name, persistent=True)  # as a run leaves it that was killed at this point
    with pytest.raises(InputError, match="is not this run's"):
        fiftyone_dataset.make_dataset(name, tmp_path, resumed=False)
    fiftyone_dataset.make_dataset(name, tmp_path, resumed=True)
    dataset = fo.load_dataset(name)
    dataset.info.clear()
    dataset.save()
    dataset.add_sample(fo.Sample(filepath="/photos/a.jpg"))  # so it is a person's
    with pytest.raises(InputError, match="is not this run's"):
        fiftyone_dataset.make_dataset(name, tmp_path, resumed=True)
    assert len(fo.load_dataset(name)) == 1
    fo.delete_dataset(name)
