"""`autolabel train`."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from autolabel.cli import options as shared
from autolabel.cli.app import Commands, app
from autolabel.cli.options import MODEL, OUTPUT

if TYPE_CHECKING:
    from autolabel.review.train import Finetuned
    from integrations.output import Output
    from train.metrics import Accuracy


class TrainCommands(Commands):
    """The commands of `python -m train`, which are imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands."""
        return self._training().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name; None if there is none."""
        return self._training().get_command(ctx, cmd_name)

    @staticmethod
    def _training() -> TyperGroup:
        from train.__main__ import app as training

        return typer.main.get_group(training)


train = typer.Typer(
    cls=TrainCommands,
    no_args_is_help=True,
    help="Train the head of a model, or fine-tune it on a review.",
)
app.add_typer(train, name="train")

CORES = os.cpu_count() or 1
REVIEW = "Fine-tuning on a review"


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
            help="Folder with instances.json (COCO) and images/ to train on, too; may be given "
            "more than once.",
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
        typer.Option(
            help="The checkpoint to write.",
            show_default="RUN/reviewed.safetensors",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: shared.Overwrite = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The head to begin from.",
            show_default="the run's, or the model's own",
            rich_help_panel=MODEL,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="mini, bb, bl or bl-336.", show_default="the run's, or mini", rich_help_panel=MODEL
        ),
    ] = "",
    epochs: Annotated[int, typer.Option(help="Passes over the reviewed images.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the order of images, and of those held out.")] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where features are kept.", show_default="in the user's cache"),
    ] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the state that a stopped fine-tuning resumes from.",
            show_default="no state is kept",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes for the frozen towers.")] = CORES,
    limit: shared.Limit = None,
    strict: shared.Strict = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Train the head of a model, or fine-tune it on a review.

    With --from-review it is trained on the labels that you gave another word, drew, moved or tagged
    `reviewed` (or all of an image that you tagged so), and keeps its predictions on all others. An
    image that you tagged so and that has no label is an example that shows none of the words.
    `autolabel run --checkpoint FILE` labels with the fine-tuned head. The model is the run's, or
    else mini.
    """
    if context.invoked_subcommand is not None:
        return
    from integrations.output import Output
    from regionspot.errors import InputError

    with Output(as_json, quiet) as output:
        if source is None:
            raise InputError(
                "say --from-review DATASET, or what to train: `autolabel train --help`"
            )
        for name, value in (("--epochs", epochs), ("--keep", keep), ("--workers", workers)):
            if value < 1:
                raise InputError(f"{name} must be 1 or more, got {value}")
        from autolabel.review.train import FinetuneRequest, finetune_on_review
        from train.config import FinetuneConfig

        request = FinetuneRequest(
            source=source,
            run=run,
            label_field=label_field,
            replay=tuple(replay or ()),
            out=out,
            checkpoint=checkpoint,
            model=model,
            keep=keep,
            cache=cache,
            run_folder=run_folder,
            workers=workers,
            overwrite=overwrite,
            limit=limit,
            strict=strict,
            config=FinetuneConfig(epochs=epochs, seed=seed),
        )
        with output.progress() as reporter:
            finetuned = finetune_on_review(request, reporter)
        show_finetuned(finetuned, limit, output)


def show_finetuned(finetuned: "Finetuned", limit: int | None, output: "Output") -> None:
    """Print the accuracy before and after, and where the checkpoint is."""
    from rich.table import Table

    from integrations.output import cells

    result = finetuned.result
    before, after = result.before, result.after
    table = Table("", "corrections", "right before", "right after", box=None, padding=(0, 2, 0, 0))
    for word, count in finetuned.corrections.items():
        pair = (_percent(metrics.corrected.get(word)) for metrics in (before, after))
        table.add_row(*cells(word, str(count), *pair))
    total = str(sum(finetuned.corrections.values()))
    rows = {
        "all corrected": (total, before.all_corrected, after.all_corrected),
        "confirmed by you": ("", before.confirmed, after.confirmed),
        "left alone, as before": ("", before.left_alone, after.left_alone),
        "replayed": ("", before.replayed, after.replayed),
    }
    for name, (corrections, *both) in rows.items():
        table.add_row(name, corrections, *map(_percent, both))
    output.show(table)
    if result.held_out:
        note = f"measured on {result.held_out} corrected images, by a head trained without them"
    else:
        note = "measured on the training images: too few corrected images to hold some out"
    output.line(note)
    output.line(f"wrote {finetuned.path}")
    for line in finetuned.tally.lines():
        output.notice(line)
    output.summary(
        {
            "checkpoint": finetuned.path,
            "limit": limit,
            "corrections": finetuned.corrections,
            "held_out_images": result.held_out,
            "before": dataclasses.asdict(before),
            "after": dataclasses.asdict(after),
            **finetuned.tally.reading(),
        }
    )


def _percent(accuracy: "Accuracy | None") -> str:
    if accuracy is None or not accuracy.total:
        return "none"
    return f"{accuracy.value:.1f} % of {accuracy.total}"
