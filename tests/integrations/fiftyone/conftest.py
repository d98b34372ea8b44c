"""A dataset of a run in a real FiftyOne."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.dataset import LabelField
from integrations.fiftyone.session import connect


@pytest.fixture
def target(tmp_path: Path) -> Iterator[LabelField]:
    connect()
    name = f"test {uuid.uuid4().hex}"
    fiftyone_dataset.make_dataset(name, tmp_path)
    yield LabelField(name, "predictions", "photos")
    import fiftyone as fo

    fo.delete_dataset(name)
