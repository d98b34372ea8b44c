"""Which labels to review first."""

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import autolabel.review.app
from autolabel.audit.diverse import VIEW, diverse_rows, save_diverse_view
from autolabel.labels import Run
from regionspot.errors import InputError
from tests.autolabel.helpers import Autolabel, read_json

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]
FEATURES = np.array([EAST, EAST, NORTH, NORTH, WEST], np.float32)
UNSURE = np.array([0.9, 0.8, 0.7, 0.6, 0.1])
NOBODY = np.zeros(5, np.bool_)


def test_labels_that_are_alike_come_later() -> None:
    assert diverse_rows(FEATURES, UNSURE, NOBODY, 3) == [0, 2, 4]
    assert sorted(diverse_rows(FEATURES, UNSURE, NOBODY, 9)) == [0, 1, 2, 3, 4]


def test_reviewed_labels_and_those_like_them_are_not_chosen() -> None:
    reviewed = np.array([False, True, False, False, False])
    assert diverse_rows(FEATURES, UNSURE, reviewed, 2) == [2, 4]
    assert diverse_rows(FEATURES, UNSURE, ~NOBODY, 2) == []


def test_the_app_opens_at_the_labels_to_review_first(
    autolabel_cli: Autolabel, coarse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setattr(autolabel.review.app, "serve_app", lambda *given: served.append(given))
    result = autolabel_cli("review", coarse, "--diverse", 2, "--no-browser")
    assert result.exit_code == 0, result.output
    target = read_json(coarse / "run.json")["fiftyone"]
    view = f"{VIEW} {target['label_field']}"
    assert f"2 labels to review first: view {view!r}" in result.output
    ((name, shown, *_),) = served
    assert (name, shown) == (target["dataset"], view)
    dataset = fo.load_dataset(target["dataset"])
    first = dataset.load_saved_view(view).first()
    unsure = min(Run.open(coarse).rows(), key=lambda row: row.margin)
    assert Path(first.filepath).name == unsure.file_name

    for sample in dataset:
        for label in sample[target["label_field"]].detections:
            label["reviewed"] = True
        sample.save()
    with pytest.raises(InputError, match="has no label that is left to review"):
        save_diverse_view(coarse, 2)
    dataset.delete_saved_view(view)
