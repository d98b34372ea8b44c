"""Nested sets of labels, and what a reviewed sample guarantees of them."""

import numpy as np
import pytest

from autolabel.review.acceptance_simulation import ScoredLabels, simulate
from autolabel.review.risk_control import (
    PILOT,
    accept_group,
    accepted_rows,
    is_guaranteed,
    make_groups,
    plan_sample,
)

PRECISION, CONFIDENCE = 0.9, 0.95


@pytest.mark.parametrize("size", [40, 200])
def test_a_set_of_too_many_wrong_labels_passes_at_any_sample_size_in_at_most_5_percent(
    size: int,
) -> None:
    wrong = int((1 - PRECISION) * size + 1e-9) + 1
    random, passed, trials = np.random.default_rng(0), 0, 1000
    for _ in range(trials):
        found = np.cumsum(random.permutation(size) < wrong).tolist()
        passed += any(
            is_guaranteed(size, reviewed, count, PRECISION, CONFIDENCE)
            for reviewed, count in enumerate(found, start=1)
        )
    assert passed / trials <= 0.06  # the standard error is 0.7%


def test_a_whole_set_passes_exactly_if_it_has_the_precision() -> None:
    assert is_guaranteed(40, 40, 4, PRECISION, CONFIDENCE)
    assert not is_guaranteed(40, 40, 5, PRECISION, CONFIDENCE)
    assert is_guaranteed(200, 60, 0, PRECISION, CONFIDENCE)
    assert not is_guaranteed(200, 10, 0, PRECISION, CONFIDENCE)


def test_rare_words_are_one_group_and_labels_of_one_score_stay_together() -> None:
    words = ["cat"] * 60 + ["dog"] * 29 + ["cow"] * 3
    scores = np.round(np.linspace(1, 0, len(words)), 1)
    groups = make_groups(words, scores, PRECISION, seed=0)
    assert [each.words for each in groups] == [("cat",), ("cow", "dog")]
    for group in groups:
        for size in group.sizes[:-1]:
            assert scores[group.rows[size - 1]] > scores[group.rows[size]]
        assert group.sizes[-1] == len(group.rows)


def test_labels_are_accepted_down_to_the_first_set_that_fails() -> None:
    words, scores = ["cat"] * 100, np.linspace(1, 0, 100)
    (group,) = make_groups(words, scores, PRECISION, seed=0)
    right = {row: row < 50 for row in range(100)}
    done = accept_group(group, right, PRECISION, CONFIDENCE)
    assert 50 <= done.accepted <= 55  # of 55 labels 50 are right
    assert accepted_rows(group, done.accepted, right) == group.rows[:50].tolist()
    assert accepted_rows(group, 0, {7: True, 9: False}) == [7]
    assert accept_group(group, {}, PRECISION, CONFIDENCE).accepted == 0
    # A label without a decision ends the sample: what was found elsewhere does not count.
    first = group.rows[: group.sizes[0]][np.argmin(group.order[: group.sizes[0]])]
    del right[int(first)]
    assert accept_group(group, right, PRECISION, CONFIDENCE).accepted == 0


def test_a_model_that_expects_nothing_to_pass_is_put_to_the_test() -> None:
    words, scores = ["cat"] * 100, np.linspace(0.3, 0, 100)
    groups = make_groups(words, scores, PRECISION, seed=0)
    plan = plan_sample(groups, {}, (), 300, PRECISION, CONFIDENCE)
    assert (len(plan.rows), plan.gain) == (PILOT, 0)
    all_wrong = dict.fromkeys(plan.rows, False)
    assert plan_sample(groups, all_wrong, (), 300, PRECISION, CONFIDENCE).rows == ()
    all_right = dict.fromkeys(plan.rows, True)
    assert len(plan_sample(groups, all_right, (), 300, PRECISION, CONFIDENCE).rows) > 0


def test_the_precision_holds_in_simulated_reviews() -> None:
    random = np.random.default_rng(1)
    chance = np.concatenate([np.linspace(1, 0.6, 150), np.linspace(1, 0.9, 150), np.ones(20)])
    words = ("cat",) * 150 + ("dog",) * 150 + ("cow",) * 10 + ("hen",) * 10
    right = random.random(len(words)) < chance
    found = simulate(ScoredLabels(words, chance, right), reviews=40)
    assert [each.word for each in found.groups] == ["cat", "dog", "2 rare words"]
    assert all(each.holds >= 0.95 for each in found.groups)
    assert found.reviewed <= 300
    assert found.coverage > 0.2
