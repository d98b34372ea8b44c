"""Evaluating two sets: with intervals from our matches, without by the C++ evaluator."""

import math

import pytest

from autolabel.evaluation.evaluate import EvaluationResult, evaluate_sets, upper_bound
from integrations.annotations import Category, LabelledSet
from integrations.progress import NullReporter
from regionspot.errors import InputError
from tests.autolabel.evaluation.factories import random_sets


def evaluated(data: tuple[LabelledSet, LabelledSet], resamples: int) -> EvaluationResult:
    return evaluate_sets("x", *data, resamples, NullReporter())


@pytest.mark.parametrize("federated", [True, False])
def test_both_paths_give_equal_metrics(federated: bool) -> None:
    data = random_sets(4, federated=federated)
    with_intervals, without = evaluated(data, 2), evaluated(data, 0)
    assert [each.kind for each in without.sections] == ["boxes", "masks"]
    for ours, theirs in zip(with_intervals.sections, without.sections, strict=True):
        assert {each.name: each.value for each in ours.metrics} == pytest.approx(
            {each.name: each.value for each in theirs.metrics}, abs=1e-6, nan_ok=True
        )
        for one, other in zip(ours.classes, theirs.classes, strict=True):
            assert (one.name, one.frequency) == (other.name, other.frequency)
            assert (one.ground_truth, one.predictions) == (other.ground_truth, other.predictions)
            assert (one.ap.value, one.ap50, one.recall) == pytest.approx(
                (other.ap.value, other.ap50, other.recall), abs=1e-6, nan_ok=True
            )
    assert with_intervals.confusions == without.confusions
    assert [each.recall.value for each in with_intervals.recalls] == pytest.approx(
        [each.recall.value for each in without.recalls]
    )
    bounds = [upper_bound(*data, resamples, NullReporter()) for resamples in (2, 0)]
    ours, theirs = ({each.name: each.value for each in bound} for bound in bounds)
    assert ours == pytest.approx(theirs, abs=1e-6, nan_ok=True)


def test_without_resamples_there_are_no_intervals() -> None:
    found = evaluated(random_sets(4), 0)
    metrics = [metric for section in found.sections for metric in section.metrics]
    metrics += [each.ap for section in found.sections for each in section.classes]
    metrics += [each.recall for each in found.recalls]
    assert all(math.isnan(each.low) and math.isnan(each.high) for each in metrics)
    assert found.calibration is None


def test_intervals_hold_the_value_and_repeat() -> None:
    data = random_sets(3, images=30)
    found = evaluated(data, 60)
    assert repr(found.sections) == repr(evaluated(data, 60).sections)
    ap = found.boxes.metrics[0]
    assert ap.name == "AP"
    assert ap.low < ap.value < ap.high
    assert len(found.boxes.classes) == len(data[0].categories)
    assert all(each.ap.low < each.ap.high for each in found.boxes.classes)


def test_no_class_in_common_is_refused() -> None:
    ground_truth, predicted = random_sets(1, images=2)
    other = LabelledSet((Category(1, "dragon"),), predicted.images[:0])
    with pytest.raises(InputError, match="no class in common"):
        evaluated((ground_truth, other), 5)
