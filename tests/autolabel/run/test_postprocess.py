"""Which labels are kept, from scores and boxes alone."""

from dataclasses import replace

import numpy as np
import pytest

from autolabel.options import Options
from autolabel.run.postprocess import (
    label_confidence,
    lowest_threshold,
    select,
    without_parts,
)
from regionspot.types import Labels, Proposals, encode_mask

NAMES = ("cat", "dog")


def make_labels(
    boxes: list[list[float]],
    score: list[float] | None = None,
    presence: list[float] | None = None,
    class_id: list[int] | None = None,
) -> Labels:
    rows = len(boxes)
    return Labels(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        class_id=np.array(class_id or [0] * rows, np.int64),
        score=np.array(score if score is not None else [1.0] * rows, np.float32),
        runner_up=np.ones(rows, np.int64),
        margin=np.zeros(rows, np.float32),
        presence=np.array(presence if presence is not None else [1.0] * rows, np.float32),
        names=NAMES,
    )


def kept(labels: Labels, confidence: list[float], **options: float) -> list[int]:
    return select(labels, np.array(confidence, np.float32), Options(**options)).tolist()


LEFT, NEARLY_LEFT, RIGHT = [0, 0, 10, 10], [0, 0, 10, 9], [50, 0, 60, 10]


def test_confidence_is_the_boxes_score_times_the_words() -> None:
    labels = make_labels([LEFT, RIGHT], score=[0.5, 0.25])
    proposals = Proposals(labels.boxes, np.array([0.8, 0.4], np.float32))
    np.testing.assert_allclose(label_confidence(proposals, labels), [0.4, 0.1])


def test_the_most_confident_comes_first() -> None:
    assert kept(make_labels([LEFT, RIGHT]), [0.3, 0.9]) == [1, 0]


@pytest.mark.parametrize("class_id", [[0, 0], [0, 1]], ids=["same word", "other word"])
def test_one_object_gets_one_label(class_id: list[int]) -> None:
    labels = make_labels([NEARLY_LEFT, LEFT], class_id=class_id)
    assert kept(labels, [0.8, 0.9], iou=0.5) == [1]
    assert kept(labels, [0.8, 0.9], iou=0.95) == [1, 0]


def test_a_dropped_label_suppresses_nothing() -> None:
    labels = make_labels([NEARLY_LEFT, LEFT], presence=[1, 0])
    assert kept(labels, [0.8, 0.9], presence_threshold=0.5) == [0]


def test_thresholds_keep_what_just_reaches_them() -> None:
    labels = make_labels([LEFT, RIGHT], presence=[0.5, 0.25])
    assert kept(labels, [0.5, 0.25], conf_threshold=0.25, presence_threshold=0.25) == [0, 1]
    assert kept(labels, [0.5, 0.25], conf_threshold=0.26, presence_threshold=0) == [0]
    assert kept(labels, [0.5, 0.25], conf_threshold=0, presence_threshold=0.5) == [0]


def test_a_words_own_threshold_goes_before_that_of_all_words() -> None:
    labels = make_labels([LEFT, RIGHT], class_id=[1, 0])
    confidence, options = np.array([0.7, 0.5], np.float32), Options(conf_threshold=0.6)
    assert select(labels, confidence, options, [None, None]).tolist() == [0]
    assert select(labels, confidence, options, [0.4, None]).tolist() == [0, 1]
    assert select(labels, confidence, options, [0.5, 0.7]).tolist() == [0, 1]
    assert select(labels, confidence, options, [None, 0.71]).tolist() == []
    assert lowest_threshold(0.6, [None, 0.4, 0.9]) == 0.4
    assert lowest_threshold(0.3, [0.4]) == 0.3


def test_no_boxes_no_labels() -> None:
    assert kept(make_labels([]), []) == []


def test_rows_are_taken_in_the_order_asked() -> None:
    labels = make_labels([LEFT, NEARLY_LEFT, RIGHT], score=[0.1, 0.2, 0.3])
    taken = labels[np.array([2, 0])]
    assert taken.boxes.tolist() == [RIGHT, LEFT]
    np.testing.assert_allclose(taken.score, [0.3, 0.1])
    assert taken.names == NAMES


ROWS, SAME, APART = np.arange(3), np.ones((2, 2), np.bool_), np.eye(2, dtype=np.bool_)
WHOLE, PART, AROUND = [10, 10, 50, 50], [11, 11, 20, 20], [5, 5, 90, 90]


def test_a_part_of_an_object_and_what_is_around_it_go() -> None:
    labels = make_labels([WHOLE, PART, AROUND])
    assert without_parts(labels, ROWS, 0.9, APART).tolist() == [0]
    assert without_parts(labels, ROWS, 1, APART).tolist() == [0, 1, 2]
    assert without_parts(labels, ROWS[::-1], 0.9, APART).tolist() == [2]


def test_parts_of_other_words_stay() -> None:
    labels = make_labels([WHOLE, PART, AROUND], class_id=[0, 1, 1])
    assert without_parts(labels, ROWS, 0.9, APART).tolist() == [0, 1]
    assert without_parts(labels, ROWS, 0.9, SAME).tolist() == [0]


def test_masks_tell_what_is_in_front_from_a_part() -> None:
    labels = make_labels([WHOLE, PART])
    whole, front = (np.zeros((60, 60), np.bool_) for _ in range(2))
    whole[10:50, 10:50] = True
    front[11:20, 11:20] = True
    both = encode_mask(whole), encode_mask(front)
    assert without_parts(replace(labels, masks=both), ROWS[:2], 0.9, APART).tolist() == [0]
    apart = encode_mask(whole & ~front), encode_mask(front)
    assert without_parts(replace(labels, masks=apart), ROWS[:2], 0.9, APART).tolist() == [0, 1]
