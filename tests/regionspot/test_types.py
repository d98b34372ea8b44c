"""Dataclasses that cross borders are checked when they are made."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regionspot.errors import InputError
from regionspot.types import Labels, Proposals, Vocabulary, encode_mask, encode_window


def test_vocabulary_checks_its_shape() -> None:
    with pytest.raises(InputError, match=r"embedding must be \(2, D\), got \(3, 4\)"):
        Vocabulary(("a", "b"), torch.zeros(3, 4))
    with pytest.raises(InputError, match="the vocabulary is empty"):
        Vocabulary((), torch.zeros(0, 4))


def test_some_words_of_a_vocabulary_keep_their_rows() -> None:
    every = Vocabulary(("a", "b", "c"), torch.eye(3), (("a",), ("b", "B"), ("c",)))
    some = every.only(["c", "b"])
    assert (some.names, some.synonyms) == (("c", "b"), (("c",), ("b", "B")))
    assert torch.equal(some.embedding, every.embedding[[2, 1]])


@pytest.mark.parametrize(
    ("rows", "kept"), [([2, 0], [2, 0]), ([False, True, False], [1]), ([], [])]
)
def test_some_rows_of_labels(rows: list[int], kept: list[int]) -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], np.float32)
    number = np.arange(3, dtype=np.float32)
    ids = np.arange(3)
    every = Labels(boxes, ids, number, ids, number, number, ("a", "b", "c"))
    some = every[np.array(rows, np.bool_ if rows and isinstance(rows[0], bool) else np.int64)]
    assert len(some) == len(kept)
    for name in ("boxes", "class_id", "score", "runner_up", "margin", "presence"):
        np.testing.assert_array_equal(getattr(some, name), getattr(every, name)[kept])


def test_a_proposal_has_one_score_a_box() -> None:
    with pytest.raises(InputError, match=r"score must be \(1,\), one for each box, got \(2,\)"):
        Proposals(np.array([[0, 0, 1, 1]]), np.zeros(2))


@given(data=st.data())
def test_a_window_has_the_run_lengths_of_the_whole_mask(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    rows, columns = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    bits = data.draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    window = np.array(bits).reshape(rows, columns)
    mask = np.zeros((height, width), np.bool_)
    mask[top : top + rows, left : left + columns] = window
    assert encode_window(window, left, top, width, height) == encode_mask(mask)


def test_proposals_of_several_detectors_are_joined_by_the_names_of_their_classes() -> None:
    def one(names: tuple[str, ...], scores: list[float]) -> Proposals:
        by_class = np.array([scores], np.float32) if names else None
        return Proposals(np.array([[0, 0, 1, 1]]), np.array([0.5]), (), names, by_class)

    joined = Proposals.joined([one(("a", "b"), [0.5, 0.25]), one((), []), one(("b",), [0.5])])
    assert joined.class_names == ("a", "b")
    assert joined.class_scores is not None
    nan = np.nan
    assert np.array_equal(
        joined.class_scores, [[0.5, 0.25], [nan, nan], [nan, 0.5]], equal_nan=True
    )
    assert joined[[2, 0]].class_scores is not None
    assert joined[[2, 0]].score.tolist() == [0.5, 0.5]
    assert Proposals.joined([one((), [])]).class_scores is None
    with pytest.raises(InputError, match=r"class_scores must be \(1, 2\), .* got \(1, 1\)"):
        one(("a", "b"), [0.5])
