"""Rankings of labels whose words were planted wrong."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autolabel.audit.audit import collect_evidence
from autolabel.audit.cleanlab_scores import cleanlab_scores
from autolabel.audit.planted_errors import (
    CONFUSABLE,
    RANDOM,
    PlantedRun,
    average_precision,
    planted_figures,
)
from autolabel.run.manifest import LVIS
from integrations.formats.lvis import read_lvis
from regionspot.errors import InputError
from tests.autolabel.audit.test_audit import WORDS, images
from tests.autolabel.helpers import FinishedRun


def test_average_precision_ranks_equal_scores_as_one() -> None:
    wrong = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), wrong) == pytest.approx(5 / 6)
    assert average_precision(np.zeros(4), wrong) == 0.5
    assert average_precision(np.array([4.0, 1.0, 3.0, 2.0]), wrong) == 1


def planted_run() -> PlantedRun:
    """Images of a cat and a dog each, whose labels the model is right about."""
    names = list(WORDS.values())
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9]] * 20)
    nearest = {"cat": "=dog", "=dog": "cat"}
    return PlantedRun(images(20), WORDS, names, nearest, probabilities, {"cat": 0, "=dog": 1})


@pytest.mark.parametrize("errors", [RANDOM, CONFUSABLE])
def test_some_labels_get_another_word(errors: str) -> None:
    data = planted_run()
    changed, wrong = data.planted(errors, 0.1, seed=3)
    before, after = (
        [WORDS[each.category_id] for _, labels, _ in found for each in labels.annotations]
        for found in (data.images, changed)
    )
    assert wrong.sum() == 4
    assert [a != b for a, b in zip(before, after, strict=True)] == wrong.tolist()
    assert (
        data.margin_of_label(collect_evidence(changed, WORDS, list(WORDS.values()))) > 0
    ).tolist() == wrong.tolist()


def test_an_audit_finds_what_a_margin_does_not() -> None:
    found = {
        (each.errors, each.ranking): each.area
        for each in planted_figures(planted_run(), 0.1, draws=2, seed=0, python=None)
    }
    assert len(found) == 6
    for errors in (RANDOM, CONFUSABLE):
        assert found[errors, "audit"] == found[errors, "margin of the label's word"] == 1
        assert found[errors, "margin"] == pytest.approx(0.1)


def test_a_run_over_its_own_boxes_is_read(finished: FinishedRun, tmp_path: Path) -> None:
    truth = read_lvis(finished.folder / LVIS)
    data = PlantedRun.of(finished.folder, replace(truth, images=tuple(truth.images)))
    count = finished.manifest.counts["labels"]
    assert data.probabilities.shape == (count, len(finished.manifest.vocabulary["words"]))
    assert all(name != other for name, other in data.nearest.items())
    with pytest.raises(InputError, match="has no region of the ground truth"):
        PlantedRun.of(finished.folder, replace(truth, images=()))


def test_a_python_without_cleanlab_is_named() -> None:
    with pytest.raises(InputError, match=r"cleanlab failed in .*No module named"):
        cleanlab_scores(Path(sys.executable), images(2), WORDS, list(WORDS.values()))
