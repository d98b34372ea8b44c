"""`autolabel train`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolabel.cli.app import Commands, app, out_console, progress_console

if TYPE_CHECKING:
    from autolabel.review.train import Trained

train = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Train the head of a model, or teach it a review."
)
app.add_typer(train, name="train")

CORES = os.cpu_count() or 1
REVIEW = "What is learnt"


@train.callback(invoke_without_command=True)
def from_review(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Option(
            "--from-review",
            metavar="DATASET",
            help="Fine-tune on what was corrected in a run folder or a FiftyOne dataset.",
            show_default=False,
            rich_help_panel=REVIEW,
        ),
    ] = None,
    run: Annotated[
        str,
        typer.Option(
            help="Folder or key of the run that labelled the dataset.",
            show_default="the last one",
            rich_help_panel=REVIEW,
        ),
    ] = "",
    label_field: Annotated[
        str,
        typer.Option(
            help="Field of the dataset.", show_default="predictions", rich_help_panel=REVIEW
        ),
    ] = "",
    replay: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with instances.json (COCO) and images/ that is trained on beside; "
            "may be given more than once.",
            rich_help_panel=REVIEW,
        ),
    ] = None,
    keep: Annotated[
        int,
        typer.Option(
            help="Images at most that nobody corrected, and of each replay.",
            rich_help_panel=REVIEW,
        ),
    ] = 500,
    out: Annotated[
        Path | None,
        typer.Option(help="The checkpoint to write.", show_default="RUN/reviewed.safetensors"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a checkpoint that is there.")
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The head to begin from.", show_default="the run's, or the model's own"),
    ] = None,
    model: Annotated[
        str, typer.Option(help="mini, bb, bl or bl-336.", show_default="the run's, or mini")
    ] = "",
    epochs: Annotated[int, typer.Option(help="Passes over the reviewed images.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the order of images, and of those held out.")] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where features are kept.", show_default="in the user's cache"),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes for the frozen towers.")] = CORES,
) -> None:
    """Train the head of a model, or teach it a review.

    With --from-review it learns the labels that you gave another word, drew, moved or tagged
    `reviewed` (or all of an image that you tagged so), and is held to what it says of all others.
    `autolabel run --checkpoint FILE` labels with what it has learnt.
    """
    if context.invoked_subcommand is not None:
        return
    from regionspot.errors import InputError

    if source is None:
        raise InputError("say --from-review DATASET, or what to train: `autolabel train --help`")
    for name, value in (("--epochs", epochs), ("--keep", keep), ("--workers", workers)):
        if value < 1:
            raise InputError(f"{name} must be 1 or more, got {value}")
    from autolabel.review.train import TrainRequest, train_from_review
    from train.finetune.losses import ReviewSettings

    request = TrainRequest(
        source,
        run,
        label_field,
        tuple(replay or ()),
        out,
        checkpoint,
        model,
        keep,
        cache,
        workers,
        overwrite,
        ReviewSettings(epochs=epochs, seed=seed),
    )
    with TrainingProgress() as progress:
        trained = train_from_review(request, progress)
    show_trained(trained)


# Their options are the training's own, --help too.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
RECIPES = {
    "stage1": "The paper's first stage: warm up region-word alignment on one data set.",
    "stage2": "The paper's second stage: go on from stage 1's head over several data sets.",
    "mini": "Train the head of the preset mini.",
    "extract": "Compute the frozen towers' features of data sets.",
    "ablations": "The paper's Tables 3 to 5: what a head loses with each of its parts.",
    "measure": "Top-1 and top-5 of a head on the given boxes of data sets.",
}


def recipe(context: typer.Context) -> None:
    """Run one of RECIPES as `python -m train` does."""
    from train.__main__ import app as training

    assert context.info_name is not None
    training([context.info_name, *context.args], prog_name="autolabel train", standalone_mode=False)


for name, summary in RECIPES.items():
    train.command(name, help=summary, context_settings=PASSED_ON)(recipe)


class TrainingProgress:
    """A bar for each part of the work."""

    def __init__(self) -> None:
        from rich.progress import Progress, TaskID

        self._progress = Progress(console=progress_console())
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "TrainingProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """See `Reporter`."""
        self._progress.console.print(line, style="dim", highlight=False, markup=False)

    def at(self, what: str, done: int, total: int) -> None:
        """See `Reporter`."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what)
        self._progress.update(self._tasks[what], completed=done, total=total)


def show_trained(trained: "Trained") -> None:
    """Print what was learnt, what was kept, and where the checkpoint is."""
    from rich.markup import escape
    from rich.table import Table

    outcome, console = trained.outcome, out_console()
    table = Table("", "corrections", "right before", "right after", box=None, padding=(0, 2, 0, 0))
    before, after = outcome.before, outcome.after
    for word, count in trained.corrections.items():
        cells = (str(figures.corrected.get(word, "none")) for figures in (before, after))
        table.add_row(escape(word), str(count), *cells)
    total = str(sum(trained.corrections.values()))
    table.add_row("all corrected", total, str(before.all_corrected), str(after.all_corrected))
    table.add_row("found right by you", "", str(before.confirmed), str(after.confirmed))
    table.add_row("left alone, as before", "", str(before.left_alone), str(after.left_alone))
    table.add_row("replayed", "", str(before.replayed), str(after.replayed))
    console.print(table)
    if outcome.held_out:
        said = f"measured on {outcome.held_out} corrected images that a rehearsal did not see"
    else:
        said = "measured on what was learnt: too few corrected images to hold some out"
    console.print(said, soft_wrap=True, highlight=False)
    console.print(f"wrote {trained.path}", soft_wrap=True, highlight=False, markup=False)
