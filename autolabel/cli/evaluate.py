"""`autolabel evaluate`: predictions, or a model, against labels that people made."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolabel.cli.app import app, out_console, progress_console

if TYPE_CHECKING:
    from autolabel.evaluation.benchmark import ModelRequest
    from autolabel.evaluation.evaluate import Judgement

FILES, MODEL = "Predictions in a file", "Predictions of a model"
DRAWS = 200


@app.command()
def evaluate(
    gt: Annotated[
        Path | None,
        typer.Option(help="True labels: COCO or LVIS JSON.", rich_help_panel=FILES),
    ] = None,
    pred: Annotated[
        Path | None,
        typer.Option(help="Predictions: COCO JSON, or a list of results.", rich_help_panel=FILES),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="True labels: COCO or LVIS JSON.", rich_help_panel=MODEL),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of its images.", rich_help_panel=MODEL)
    ] = None,
    model: Annotated[
        str, typer.Option(help="mini, bb, bl or bl-336.", rich_help_panel=MODEL)
    ] = "mini",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The head to use, as `train` writes it.",
            show_default="the model's own",
            rich_help_panel=MODEL,
        ),
    ] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            help="gt, proposals, or FILE.json of another detector; may be said again.",
            show_default="gt and proposals",
            rich_help_panel=MODEL,
        ),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(help="Measure the encoder alone, on crops.", rich_help_panel=MODEL),
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=MODEL)] = "auto",
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    draws: Annotated[
        int, typer.Option(help="Sets of images drawn anew, for the intervals.")
    ] = DRAWS,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a report that is there.")
    ] = False,
) -> None:
    """Compare labels with what people drew, and write a report.

    The report is one page, `index.html`, besides figures as JSON and words as CSV. "True words" is
    what the same boxes would reach if each had the word of the true box that it overlaps. A model
    is measured on given boxes and on proposals, beside the paper's baselines; the same command
    again goes on where it was stopped.
    """
    from regionspot.errors import InputError

    if draws < 1:
        raise InputError(f"--draws must be 1 or more, got {draws}")
    refuse_report(out, overwrite)
    if gt and pred and not dataset:
        evaluate_files(gt, pred, out, draws, overwrite)
    elif dataset and images and not (gt or pred):
        from autolabel.evaluation.benchmark import BOXES, ModelRequest

        wanted = tuple(boxes or BOXES)
        request = ModelRequest(
            dataset, images, model, wanted, out, baselines, draws, device, overwrite, checkpoint
        )
        evaluate_with_model(request)
    else:
        raise InputError(
            "give --gt GT.json with --pred PRED.json, or --dataset GT.json with --images DIR"
        )


def refuse_report(out: Path, overwrite: bool) -> None:
    """Refuse a folder with a report in it before any work.

    Raises:
        InputError: there is one, and it may not be replaced.
    """
    from regionspot.errors import InputError

    if (out / "index.html").exists() and not overwrite:
        raise InputError(f"{out} holds a report; choose another --out, or say --overwrite")


def evaluate_with_model(request: "ModelRequest") -> None:
    """Measure a model, show the table and write the report."""
    from rich.table import Table

    from autolabel.evaluation.benchmark import evaluate_model
    from autolabel.evaluation.report import percent, seconds

    with EvaluationProgress() as progress:
        settings, page = evaluate_model(request, progress)
    names = [each.name for each in settings[0].figures]
    table = Table("words by", "boxes", *names, "s/image", box=None, padding=(0, 1, 0, 0))
    for each in settings:
        values = (percent(figure.value) for figure in each.figures)
        table.add_row(each.classifier, each.boxes, *values, seconds(each.seconds))
    out_console().print(table)
    out_console().print(f"report: {page}", soft_wrap=True, highlight=False)


class EvaluationProgress:
    """One bar, for what is going on now."""

    def __init__(self) -> None:
        from rich.progress import Progress, TaskID

        self._progress = Progress(console=progress_console())
        self._task: TaskID | None = None

    def __enter__(self) -> "EvaluationProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, what: str, total: int, done: int) -> None:
        """See `Reporter`."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=total, completed=done)

    def advance(self) -> None:
        """See `Reporter`."""
        assert self._task is not None, "something has begun"
        self._progress.advance(self._task)


def evaluate_files(gt: Path, pred: Path, out: Path, draws: int, overwrite: bool) -> None:
    """Compare two files, show the figures and write the report."""
    from autolabel.evaluation.evaluate import judge_files
    from autolabel.evaluation.report import write_report

    with EvaluationProgress() as progress:
        judgement = judge_files(gt, pred, draws, progress)
    facts = {"true labels": str(gt), "predictions": str(pred)}
    page = write_report(out, f"Predictions {pred.name}", [judgement], (), facts, overwrite)
    show_figures(judgement, page)


def show_figures(judgement: "Judgement", page: Path) -> None:
    """Print the figures of a judgement and where its page is."""
    from rich.table import Table

    from autolabel.evaluation.report import percent, words_that_cannot_be_found

    console = out_console()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("per cent", *(f"{each.kind}, middle 95%" for each in judgement.sections)):
        table.add_column(column)
    table.add_column("boxes with true words")
    columns = [*(each.figures for each in judgement.sections), judgement.reachable]
    for rows in zip(*columns, strict=True):
        cells = [
            f"{percent(each.value)}  ({percent(each.low)} to {percent(each.high)})"
            if isfinite(each.low)
            else percent(each.value)
            for each in rows
        ]
        table.add_row(rows[0].name, *cells)
    console.print(table)
    console.print("with true words: each box that overlaps a true one by half has its word")
    classes = judgement.paired.classes
    unknown, missing = len(classes.unmatched_predicted), words_that_cannot_be_found(judgement)
    for count, what in (
        (unknown, "predicted words that are not among the true ones"),
        (len(missing), "true words in the images that no prediction can have"),
    ):
        if count:
            console.print(f"{what}: {count}; the report lists them", highlight=False)
    console.print(f"report: {page}", soft_wrap=True, highlight=False)
