"""The tables that `run` and `relabel` print."""

import shlex
from collections import Counter

import typer
from rich.markup import escape
from rich.table import Table

from autolabel.cli.app import EXIT_ALL_LABELLED, EXIT_SOME_SKIPPED, out_console, print_line
from autolabel.run.manifest import CONTACT_SHEET, SKIPPED, RunFolder
from autolabel.run.plan import Plan

WORDS_SHOWN = 15


def show_run(run: RunFolder, launch: bool = False) -> None:
    """Print the table of a run, open the review if asked, and exit with the run's code."""
    print_run(run)
    if launch:
        from autolabel.cli.review import review

        review(run.folder)
    raise typer.Exit(EXIT_SOME_SKIPPED if run.manifest.counts["skipped"] else EXIT_ALL_LABELLED)


def print_run(run: RunFolder) -> None:
    """Print the counts of a complete run and where its files are."""
    counts, seconds = run.manifest.counts, run.manifest.seconds
    skipped = str(counts["skipped"])
    if counts["skipped"]:
        skipped = f"[yellow]{skipped}[/], listed in {escape(str(run.folder / SKIPPED))}"
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in seconds.items())
    rows = {
        "images": str(counts["images"]),
        "labelled": str(counts["labelled"]),
        "skipped": skipped,
        "labels": str(counts["labels"]),
        "labels a word": escape(_by_word(counts["by_word"])),
        "seconds": f"{sum(seconds.values()):.1f} ({stages})",
    }
    out_console().print(_facts(rows))
    print_line(f"contact sheet: {run.folder / CONTACT_SHEET}")
    if run.manifest.fiftyone:
        print_line(f"to review:     autolabel review {shlex.quote(str(run.folder))}")


def print_plan(plan: Plan) -> None:
    """Print what a run would do."""
    console = out_console()
    missing = plan.missing_weights()
    weights = f"fetched first: {', '.join(each.name for each in missing)}" if missing else "here"
    words = ", ".join(plan.words.names[:WORDS_SHOWN])
    if len(plan.words.names) > WORDS_SHOWN:
        words += ", ..."
    request, skipped = plan.request, plan.source.skipped
    rows = {
        "images": f"{len(plan.source.images)} in {plan.source.root}",
        "skipped": str(len(skipped)),
        "words": f"{len(plan.words.names)}: {words}",
        "model": f"{request.options.model}, weights {weights}",
        "run folder": f"{plan.folder}, {plan.state}",
        "FiftyOne": f"field {request.label_field!r}" if request.fiftyone else "no",
        "disk": f"about {plan.megabytes():.0f} MB",
    }
    console.print(_facts({name: escape(value) for name, value in rows.items()}))
    for each in skipped[:WORDS_SHOWN]:
        console.print(escape(f"skipped: {each.file_name}: {each.reason}"), highlight=False)
    console.print("nothing was written", highlight=False)


def _facts(rows: dict[str, str]) -> Table:
    """A table of names and values, both in rich's markup."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _by_word(counts: dict[str, int]) -> str:
    common = [item for item in Counter(counts).most_common() if item[1]]
    shown = ", ".join(f"{word} {count}" for word, count in common[:WORDS_SHOWN])
    if len(common) > WORDS_SHOWN:
        shown += f" and {len(common) - WORDS_SHOWN} more words"
    absent = sum(not count for count in counts.values())
    return (shown or "none") + (f"; {absent} words not found" if absent else "")
