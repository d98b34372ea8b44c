"""A chain of functions, each on a thread of its own, so that they compute different items at once.

torch, OpenVINO and the decoders of images release Python's lock, so threads use several cores.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

Step = Callable[[Any], Any]


def overlapped(
    items: Iterable[Any], steps: Sequence[Step], ahead: int
) -> Generator[Any, None, None]:
    """What the last of some steps gives for each item, in order.

    Each step takes what the step before it gave, and one item at a time. Where the caller stops
    early, `close` the generator: it waits for the steps that are running, and begins no other.

    Args:
        items: taken on the caller's thread, when there is room for one more.
        steps: one or more.
        ahead: items that are on their way, at most, while the caller holds a result.

    Raises:
        Exception: whatever a step raised, once the results before it were given.
    """
    threads = [ThreadPoolExecutor(1, f"step-{i}") for i in range(len(steps))]
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(_submit(threads, steps, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for thread in threads:
            thread.shutdown(wait=False, cancel_futures=True)
        for thread in threads:
            thread.shutdown()


def _submit(
    threads: Sequence[ThreadPoolExecutor], steps: Sequence[Step], item: object
) -> "Future[Any]":
    """The last step's result for an item. A thread takes items in the order they are given."""
    done = threads[0].submit(steps[0], item)
    for thread, step in zip(threads[1:], steps[1:], strict=True):
        done = thread.submit(_after, done, step)
    return done


def _after(before: "Future[Any]", step: Step) -> Any:
    return step(before.result())
