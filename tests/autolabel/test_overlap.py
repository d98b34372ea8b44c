"""Steps that work on different items at the same time give what they give one after the other."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from autolabel.overlap import overlapped

WAIT_S = 30
SEEN = ["0", "10", "20", "30", "40"]


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 / (item + 1))
        return item * 10

    assert list(overlapped(range(5), [slow_at_first, str], ahead=3)) == SEEN
    assert list(overlapped([], [str], ahead=1)) == []


def test_all_steps_work_at_once() -> None:
    """Each waits for the other two, which have to be in the middle of an item as well."""
    together = threading.Barrier(3)

    def meeting_at(meeting: int) -> Callable[[int], int]:
        def step(item: int) -> int:
            if item == meeting:
                together.wait(WAIT_S)
            return item

        return step

    steps = [meeting_at(item) for item in (2, 1, 0)]
    assert list(overlapped(range(5), steps, ahead=3)) == [0, 1, 2, 3, 4]


def test_items_are_taken_when_there_is_room() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(9):
            taken.append(item)
            yield item

    results = overlapped(items(), [str, str], ahead=2)
    assert next(results) == "0"
    assert taken == [0, 1, 2]
    assert next(results) == "1"
    assert taken == [0, 1, 2, 3]
    results.close()


def test_a_failure_comes_after_the_results_before_it_and_ends_the_threads() -> None:
    def fail(item: int) -> int:
        if item == 2:
            raise ValueError("the third")
        return item

    results = overlapped(range(9), [fail, str], ahead=3)
    assert [next(results), next(results)] == ["0", "1"]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert not [each for each in threading.enumerate() if each.name.startswith("step-")]


def test_where_the_caller_stops_no_other_item_is_begun() -> None:
    begun: list[int] = []
    has_begun, may_end = threading.Event(), threading.Event()

    def step(item: int) -> int:
        begun.append(item)
        if item > 0:
            has_begun.set()
            assert may_end.wait(WAIT_S)
        return item

    results = overlapped(range(9), [step], ahead=4)
    assert next(results) == 0
    assert has_begun.wait(WAIT_S)
    threading.Timer(0.05, may_end.set).start()
    results.close()
    assert begun == [0, 1]
