"""Where the seconds of a run go."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

STAGES = ("reading", "detector", "localizer", "encoder+head", "writing")


class Clock:
    """Adds up wall-clock seconds by stage.

    Args:
        before: seconds of an earlier part of the same run.
    """

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float, before or {})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block for one of STAGES."""
        assert name in STAGES
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - start

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, to a millisecond, in the order of STAGES."""
        return {name: round(self._seconds[name], 3) for name in STAGES}
