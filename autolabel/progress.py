"""What a person sees of a run: a progress bar while it goes, a table at its end."""

import shlex
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from autolabel.run.manifest import CONTACT_SHEET, SKIPPED, Manifest
from autolabel.run.plan import Plan

WORDS_SHOWN = 15


class ImagesASecond(ProgressColumn):
    """Mean speed; of a run that goes on, that of its present part."""

    def render(self, task: Task) -> Text:
        """Rich asks for this at every refresh."""
        new = task.completed - task.fields["before"]
        speed = f"{new / task.elapsed:.2f}" if new and task.elapsed else "?"
        return Text(f"{speed:>6} images/s", style="cyan")


class ConsoleReporter:
    """Shows a run on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("labelling"),
            BarColumn(),
            MofNCompleteColumn(),
            ImagesASecond(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("labelling", start=False, visible=False, before=0)

    def say(self, line: str) -> None:
        """See `Reporter`."""
        self._console.print(line, style="dim", highlight=False, markup=False)

    def begin_images(self, total: int, done: int) -> None:
        """See `Reporter`."""
        if done:
            self.say(f"going on after {done} of {total} images")
        self._progress.update(self._task, total=total, completed=done, before=done, visible=True)
        self._progress.start_task(self._task)
        self._progress.start()

    def advance(self, images: int) -> None:
        """See `Reporter`."""
        self._progress.advance(self._task, images)

    def end_images(self) -> None:
        """See `Reporter`."""
        self._progress.stop()


def print_result(console: Console, folder: Path, manifest: Manifest) -> None:
    """Print the table that a run ends with."""
    counts = manifest.counts
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    table.add_row("images", f"{counts['images']}")
    table.add_row("labelled", f"{counts['labelled']}")
    skipped = f"{counts['skipped']}"
    table.add_row(
        "skipped",
        f"[yellow]{skipped}[/], listed in {escape(str(folder / SKIPPED))}"
        if counts["skipped"]
        else skipped,
    )
    table.add_row("labels", f"{counts['labels']}")
    table.add_row("labels a word", escape(_by_word(counts["by_word"])))
    seconds = manifest.seconds
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in seconds.items())
    table.add_row("seconds", f"{sum(seconds.values()):.1f} ({stages})")
    console.print(table)
    lines = [f"contact sheet: {folder / CONTACT_SHEET}"]
    if manifest.fiftyone:
        lines.append(f"to review:     autolabel review {shlex.quote(str(folder))}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _by_word(counts: dict[str, int]) -> str:
    common = [item for item in Counter(counts).most_common() if item[1]]
    shown = ", ".join(f"{word} {count}" for word, count in common[:WORDS_SHOWN])
    if len(common) > WORDS_SHOWN:
        shown += f" and {len(common) - WORDS_SHOWN} more words"
    never = sum(not count for count in counts.values())
    return (shown or "none") + (f"; {never} words not found" if never else "")


def print_plan(console: Console, plan: Plan) -> None:
    """Print what a run would do."""
    missing = plan.missing_weights()
    weights = f"fetched first: {', '.join(each.name for each in missing)}" if missing else "here"
    words = ", ".join(plan.words.names[:WORDS_SHOWN])
    if len(plan.words.names) > WORDS_SHOWN:
        words += ", ..."
    request = plan.request
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    for name, value in (
        ("images", f"{len(plan.dataset.images)} in {plan.dataset.root}"),
        ("left out", f"{len(plan.dataset.omitted)}"),
        ("words", f"{len(plan.words.names)}: {words}"),
        ("model", f"{request.options.model}, weights {weights}"),
        ("run folder", f"{plan.folder}, {plan.state}"),
        ("FiftyOne", f"field {request.label_field!r}" if request.fiftyone else "no"),
        ("disk", f"about {plan.megabytes():.0f} MB"),
    ):
        table.add_row(name, escape(value))
    console.print(table)
    for each in plan.dataset.omitted[:WORDS_SHOWN]:
        console.print(escape(f"left out: {each.file_name}: {each.reason}"), highlight=False)
    console.print("nothing was written", highlight=False)
