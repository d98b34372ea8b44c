"""What commands print of a run, and the parts of summaries that several commands share."""

import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from autolabel.cli.app import EXIT_ALL_LABELLED, EXIT_SOME_SKIPPED

if TYPE_CHECKING:
    from autolabel.audit.audit import Audit
    from autolabel.review.acceptance import Accepted
    from autolabel.run.images import SkippedEntry
    from autolabel.run.manifest import Manifest, RunFolder
    from autolabel.run.plan import Plan
    from integrations.output import Output

WORDS_SHOWN = 15


def show_run(
    run: "RunFolder", output: "Output", limit: int | None = None, launch: bool = False
) -> None:
    """Print the summary of a run, open the review if asked, and exit with the run's code."""
    print_run(run, output, limit)
    if launch:
        from autolabel.cli.review import review

        review(run.folder)
    raise typer.Exit(EXIT_SOME_SKIPPED if run.manifest.counts["skipped"] else EXIT_ALL_LABELLED)


def print_run(run: "RunFolder", output: "Output", limit: int | None = None) -> None:
    """Print the counts of a complete run, what was skipped and where its files are."""
    from autolabel.run.growth import describe_growth
    from autolabel.run.manifest import COCO, CONTACT_SHEET, LVIS, SKIPPED
    from autolabel.run.outputs import read_skipped, thresholds_of
    from integrations.fiftyone.carrying import Carried

    manifest = run.manifest
    counts, seconds = manifest.counts, manifest.seconds
    skipped = read_skipped(run.folder)
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in seconds.items())
    rows = {
        "images": f"{counts['images']}{_of_all(manifest)}",
        "labelled": str(counts["labelled"]),
        "skipped": f"{len(skipped)}, listed in {run.folder / SKIPPED}" if skipped else "0",
        "labels": str(counts["labels"]),
        "labels a word": _by_word(counts["by_word"]),
        **_background(counts.get("background", {})),
        **_thresholds(thresholds_of(manifest)),
        "seconds": stages,
    }
    if manifest.growth:
        rows["images"] += f": {describe_growth(manifest.growth)}"
    if manifest.carried:
        rows["reviewed"] = str(Carried(**manifest.carried))
    absent = [word for word, count in counts["by_word"].items() if not count]
    if absent:
        rows["words not found"] = f"{len(absent)}: {_shown(absent)}"
    output.show(_facts(rows))
    _note_skipped(skipped, output)
    output.line(f"contact sheet: {run.folder / CONTACT_SHEET}")
    if manifest.fiftyone:
        output.line(f"to review:     autolabel review {shlex.quote(str(run.folder))}")
    files = {"coco": COCO, "lvis": LVIS, "skipped": SKIPPED, "contact_sheet": CONTACT_SHEET}
    output.summary(
        {
            "run_folder": run.folder,
            "images": counts["images"],
            "limit": limit,
            "labelled": counts["labelled"],
            "skipped": counts["skipped"],
            "skipped_images": [_described(each) for each in skipped],
            "labels": counts["labels"],
            "by_word": counts["by_word"],
            "words_not_found": absent,
            "background": counts.get("background", {}),
            "thresholds": thresholds_of(manifest),
            "seconds": seconds,
            "growth": dataclasses.asdict(manifest.growth) if manifest.growth else None,
            "carried": dict(manifest.carried) or None,
            "files": {name: run.folder / file for name, file in files.items()},
            "fiftyone": dataclasses.asdict(manifest.fiftyone) if manifest.fiftyone else None,
        }
    )


def show_plan(plan: "Plan", output: "Output") -> None:
    """Print what a run would do."""
    missing = plan.missing_weights()
    weights = f"fetched first: {', '.join(missing)}" if missing else "here"
    written, thresholds = plan.words.names[: plan.words.written], plan.words.own_thresholds()
    background = plan.words.names[plan.words.written :]
    request, skipped, images = plan.request, plan.source.skipped, len(plan.source.images)
    output.show(
        _facts(
            {
                "images": f"{images}{_of_all(plan.wanted)} in {plan.source.root}",
                "skipped": str(len(skipped)),
                "words": f"{len(written)}: {_shown(written)}",
                **({"not written": f"background: {_shown(background)}"} if background else {}),
                **_thresholds(thresholds),
                "model": f"{request.options.model}, weights {weights}",
                "run folder": f"{plan.folder}, {plan.state}",
                "FiftyOne": f"field {request.label_field!r}" if request.fiftyone else "no",
                "disk": f"about {plan.megabytes():.0f} MB",
            }
        )
    )
    _note_skipped(skipped, output)
    if not_there := plan.source.missing():
        output.notice(f"not there: {len(not_there)} of the images, the first is {not_there[0]}")
    if plan.source.other_files:
        output.line(f"no images:   {_counted(plan.source.other_files)}")
    output.line("nothing was written")
    output.summary(
        {
            "dry_run": True,
            "run_folder": plan.folder,
            "state": plan.state,
            "growth": dataclasses.asdict(plan.growth) if plan.growth else None,
            "root": plan.source.root,
            "images": images,
            "limit": request.limit,
            "skipped": len(skipped),
            "skipped_images": [_described(each) for each in skipped],
            "missing": len(not_there),
            "other_files": plan.source.other_files,
            "words": written,
            "background": background,
            "thresholds": thresholds,
            "model": request.options.model,
            "weights_to_fetch": missing,
            "label_field": request.label_field if request.fiftyone else None,
            "megabytes": plan.megabytes(),
        }
    )


def first_images(limit: int | None) -> str:
    """What a summary says of --limit, behind a number of images."""
    return f" (the first {limit} at most: --limit)" if limit else ""


def _of_all(manifest: "Manifest") -> str:
    dataset = manifest.dataset
    return f" (the first of {dataset['of']}: --limit)" if "of" in dataset else ""


def _described(skipped: "SkippedEntry") -> dict[str, str]:
    return {"file_name": skipped.file_name, "reason": skipped.reason}


def _note_skipped(skipped: Sequence["SkippedEntry"], output: "Output") -> None:
    for each in skipped[:WORDS_SHOWN]:
        output.notice(f"skipped: {each.file_name}: {each.reason}")
    if len(skipped) > WORDS_SHOWN:
        output.notice(f"skipped: and {len(skipped) - WORDS_SHOWN} more")


def _facts(rows: dict[str, str]) -> Table:
    """A table of names and values."""
    from integrations.output import cells

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows.items():
        table.add_row(*cells(name, value))
    return table


def _shown(items: Sequence[str]) -> str:
    """The first items of a list, and how many more there are."""
    more = len(items) - WORDS_SHOWN
    return ", ".join(items[:WORDS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _by_word(counts: dict[str, int]) -> str:
    common = [f"{word} {count}" for word, count in Counter(counts).most_common() if count]
    return _shown(common) or "none"


def _background(counts: dict[str, int]) -> dict[str, str]:
    """The row of background words, if there are any."""
    return {"not written": f"background: {_by_word(counts)}"} if counts else {}


def _thresholds(thresholds: Mapping[str, float]) -> dict[str, str]:
    """The row of words with a threshold of their own, if there are any."""
    shown = _shown([f"{word} {value:g}" for word, value in thresholds.items()])
    return {"own threshold": shown} if thresholds else {}


def _counted(files: Mapping[str, int]) -> str:
    """Other files of a folder, as "3 (2 .txt, 1 without suffix)"."""
    kinds = [f"{count} {suffix or 'without suffix'}" for suffix, count in files.items()]
    return f"{sum(files.values())} other files ({_shown(kinds)})"


def show_audit(audit: "Audit", output: "Output", rows: int = 10) -> None:
    """Print the most suspicious labels of each kind."""
    from integrations.output import cells

    table = Table("kind", "score", "image", "label", "suggestion")
    shown: Counter[str] = Counter()
    for each in audit.suspects:
        shown[each.kind] += 1
        if shown[each.kind] <= rows:
            score = f"{each.score:.2f}"
            table.add_row(*cells(each.kind, score, each.file_name, each.label, each.suggestion))
    output.show(table)


def show_accepted(done: "Accepted", budget: int, output: "Output") -> None:
    """Print what was accepted of each word, and what there is to review."""
    from integrations.output import cells

    state = done.state
    table = Table("word", "labels", "reviewed", "wrong", "accepted", "score from")
    for each in state.groups:
        name = _pooled(each.words) if each.is_pooled else each.words[0]
        counts = map(str, (each.labels, each.reviewed, each.wrong, each.accepted))
        score = "" if each.lowest_score is None else f"{each.lowest_score:.2f}"
        table.add_row(*cells(name, *counts, score))
    output.show(table)
    output.line(
        f"{len(state.accepted)} of {done.labels} labels accepted: of each row, at least "
        f"{state.precision:.0%} are right (confidence {state.confidence:.0%})"
    )
    if done.open:
        output.line(f"{done.open} of {len(state.sampled)} sampled labels to review: {done.review}")
        output.line("then give the command again")
    elif done.more:
        output.line(
            f"{done.more} more reviewed labels are expected to accept about {done.gain} more: "
            f"--budget {max(budget, len(state.sampled) + done.more)}"
        )
    else:
        output.line("no further review of a few hundred labels is expected to accept more")


def _pooled(words: Sequence[str]) -> str:
    """How a row of rare words is called."""
    from autolabel.review.risk_control import POOLED_BELOW

    return f"{len(words)} words of less than {POOLED_BELOW} labels, pooled: {_shown(words)}"
