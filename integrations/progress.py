"""How a long task reports its progress, and the reporter that draws it with rich."""

from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from integrations.text import printable


class Reporter(Protocol):
    """What library functions report to; one task at a time."""

    def message(self, text: str) -> None:
        """Report one line."""

    def start(self, task: str, total: int, completed: int = 0) -> None:
        """Begin a task of `total` steps, of which an earlier run completed some."""

    def advance(self, steps: int = 1, detail: str = "") -> None:
        """Report steps of the current task, and a detail that stands beside its name."""


class NullReporter:
    """Reports nothing."""

    def message(self, text: str) -> None:
        """See `Reporter`."""

    def start(self, task: str, total: int, completed: int = 0) -> None:
        """See `Reporter`."""

    def advance(self, steps: int = 1, detail: str = "") -> None:
        """See `Reporter`."""


class Throughput(ProgressColumn):
    """Mean steps a second; of a resumed task, of its present part."""

    def render(self, task: Task) -> Text:
        """Rich calls this at every refresh."""
        steps = task.completed - task.fields["resumed_at"]
        speed = f"{steps / task.elapsed:.2f}" if steps and task.elapsed else "?"
        return Text(f"{speed:>6}/s", style="cyan")


class RichReporter:
    """Draws messages and the current task's bar on a console; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description} {task.fields[detail]}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Throughput(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "RichReporter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:  # a bar that never started would print an empty line
            self._progress.stop()

    def message(self, text: str) -> None:
        """See `Reporter`."""
        self._console.print(Text(printable(text)), style="dim", highlight=False, soft_wrap=True)

    def start(self, task: str, total: int, completed: int = 0) -> None:
        """See `Reporter`; the bar of the task before goes."""
        if completed:
            self.message(f"{task}: resuming after {completed} of {total}")
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._progress.start()
        self._task = self._progress.add_task(
            printable(task), total=total, completed=completed, resumed_at=completed, detail=""
        )

    def advance(self, steps: int = 1, detail: str = "") -> None:
        """See `Reporter`."""
        assert self._task is not None, "start comes before advance"
        self._progress.update(self._task, advance=steps, detail=printable(detail))
