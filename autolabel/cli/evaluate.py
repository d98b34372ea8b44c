"""`autolabel evaluate`: predictions in a file, or of a model, against ground truth."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import app
from autolabel.cli.options import OUTPUT
from autolabel.options import Options, absolute_model

if TYPE_CHECKING:
    from autolabel.evaluation.evaluate import EvaluationResult
    from autolabel.evaluation.pairing import MatchImages
    from autolabel.evaluation.predictor import BenchmarkRequest, PredictionWorkers
    from integrations.annotations import Tally
    from integrations.output import Output

FILES, MODEL = "Predictions in a file", "Predictions of a model"
RESAMPLES = 200


class ImageKey(StrEnum):
    """What images are matched by."""

    path = "path"
    name = "name"
    id = "id"


@app.command()
def evaluate(
    gt: Annotated[
        Path | None,
        typer.Option(
            help="Ground truth: COCO or LVIS JSON, or a folder of Parquet.", rich_help_panel=FILES
        ),
    ] = None,
    pred: Annotated[
        Path | None,
        typer.Option(
            help="Predictions: COCO JSON, a folder of Parquet, or a list of results.",
            rich_help_panel=FILES,
        ),
    ] = None,
    vocab: Annotated[
        Path | None,
        typer.Option(
            help="Vocabulary file: evaluate only the classes that its words stand for; a model "
            "predicts these alone.",
        ),
    ] = None,
    match_images: Annotated[
        ImageKey | None,
        typer.Option(
            help="How images of two files are matched: by path; by name, which is by path and then "
            "by a file name that is unique in both; or by id.",
            show_default="name; id for a list of results",
            rich_help_panel=FILES,
        ),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="Ground truth: COCO or LVIS JSON.", rich_help_panel=MODEL),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of its images.", rich_help_panel=MODEL)
    ] = None,
    model: shared.Model = Options.model,
    checkpoint: shared.Checkpoint = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            help="gt, proposals, or FILE.json of another detector; may be given again.",
            show_default="gt and proposals",
            rich_help_panel=MODEL,
        ),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(help="Evaluate the encoder alone, on crops.", rich_help_panel=MODEL),
    ] = True,
    device: shared.Device = Options.device,
    runtime: shared.Runtime = Options.runtime,
    out: Annotated[Path, typer.Option(help="Folder of the report.", rich_help_panel=OUTPUT)] = Path(
        "report"
    ),
    bootstrap: Annotated[
        int,
        typer.Option(
            help="Bootstrap resamples of the images for 95% confidence intervals; "
            "0: no intervals and no calibration, but faster.",
            rich_help_panel=OUTPUT,
        ),
    ] = RESAMPLES,
    draws: Annotated[
        int | None, typer.Option(hidden=True, help="The former name of --bootstrap.")
    ] = None,
    overwrite: shared.Overwrite = False,
    limit: shared.Limit = None,
    workers: shared.Workers = 0,
    ray: shared.RayAddress = "",
    gpus_per_worker: shared.GpusPerWorker = 0.0,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Evaluate predictions against ground truth, and write a report.

    The report is one page, `index.html`, besides metrics as JSON and classes as CSV. The upper
    bound is what oracle labels reach on the same boxes: each box has the class of the ground truth
    that it overlaps. A model is evaluated on ground-truth boxes and on proposals, beside the
    paper's baselines; the same command again resumes where it was stopped.
    """
    from integrations.output import Output
    from regionspot.errors import InputError
    from regionspot.files import check_free

    with Output(as_json, quiet) as output:
        resamples = bootstrap if draws is None else draws
        if resamples < 0:
            raise InputError(f"--bootstrap must be 0 or more, got {resamples}")
        if gt or dataset:
            check_free(out, ["index.html"], overwrite)
        by: MatchImages | None = match_images.value if match_images else None
        if (workers or ray or gpus_per_worker) and not dataset:
            raise InputError("--workers, --ray and --gpus-per-worker go with --dataset GT.json")
        if gt and pred and not dataset:
            files = Files(gt, pred, out, resamples, overwrite, by, limit, vocab)
            show_files(files, output)
        elif dataset and images and not (gt or pred):
            from autolabel.cluster.prediction_workers import ray_predictions
            from autolabel.evaluation.predictor import BOXES, BenchmarkRequest
            from integrations.vocabulary_file import read_words

            request = BenchmarkRequest(
                ground_truth=dataset,
                images=images,
                model=absolute_model(model),
                boxes=tuple(boxes or BOXES),
                out=out,
                baselines=baselines,
                resamples=resamples,
                device=device,
                runtime=runtime,
                overwrite=overwrite,
                checkpoint=checkpoint,
                limit=limit,
                match_by=by,
                words=read_words(vocab) if vocab else None,
            )
            show_benchmark(request, ray_predictions(workers, ray, gpus_per_worker), output)
        else:
            raise InputError(
                "give --gt GT.json with --pred PRED.json, or --dataset GT.json with --images DIR"
            )


@dataclass(frozen=True)
class Files:
    """The arguments of an evaluation of one file against another, as `evaluate` describes them."""

    gt: Path
    pred: Path
    out: Path
    resamples: int
    overwrite: bool
    by: "MatchImages | None"
    limit: int | None
    vocab: Path | None


def show_benchmark(
    request: "BenchmarkRequest", workers: "PredictionWorkers | None", output: "Output"
) -> None:
    """Evaluate a model, write the report and show the table."""
    from rich.table import Table

    from autolabel.evaluation.benchmark import run_benchmark
    from autolabel.evaluation.report import percent, seconds
    from integrations.output import cells

    with output.progress() as reporter:
        found = run_benchmark(request, reporter, workers)
    names = [each.name for each in found.rows[0].metrics]
    table = Table("classifier", "boxes", *names, "s/image", box=None, padding=(0, 1, 0, 0))
    for each in found.rows:
        values = (percent(metric.value) for metric in each.metrics)
        table.add_row(*cells(each.classifier, each.boxes, *values, seconds(each.seconds)))
    output.show(table)
    show_report(found.page, found.images, request.limit, found.tally, output)


def show_files(files: Files, output: "Output") -> None:
    """Evaluate a file against another, write the report and show the metrics."""
    from autolabel.evaluation.evaluate import evaluate_files
    from autolabel.evaluation.report import write_report
    from integrations.vocabulary_file import read_words

    words = read_words(files.vocab) if files.vocab else None
    with output.progress() as reporter:
        result = evaluate_files(
            files.gt, files.pred, files.resamples, reporter, files.by, files.limit, words
        )
    facts = {"ground truth": str(files.gt), "predictions": str(files.pred)}
    if files.vocab:
        facts["classes of"] = str(files.vocab)
    title = f"Predictions {files.pred.name}"
    page = write_report(files.out, title, [result], (), facts, files.overwrite)
    show_metrics(result, output)
    show_report(page, len(result.pairs.images), files.limit, result.tally, output)


def show_report(
    page: Path, images: int, limit: int | None, tally: "Tally", output: "Output"
) -> None:
    """Print where a report is and what was left out; as JSON, the report's metrics."""
    from autolabel.cli.tables import first_images
    from autolabel.evaluation.report import METRICS

    output.line(f"{images} images{first_images(limit)}; report: {page}")
    for line in tally.lines():
        output.notice(line)
    metrics = json.loads((page.parent / METRICS).read_text(encoding="utf-8"))
    output.summary({"report": page, "images": images, "limit": limit, **tally.reading(), **metrics})


def show_metrics(result: "EvaluationResult", output: "Output") -> None:
    """Print the metrics of a result, and what was paired."""
    from rich.table import Table

    from autolabel.evaluation.report import classes_without_predictions, interval, percent

    table = Table(box=None, padding=(0, 2, 0, 0))
    columns = [*(each.metrics for each in result.sections), result.upper_bound]
    with_intervals = any(interval(each) for each in columns[0])
    for column in ("per cent", *(each.kind for each in result.sections), "upper bound, boxes"):
        table.add_column(f"{column} (95% CI)" if with_intervals and table.columns else column)
    for rows in zip(*columns, strict=True):
        cells = (
            percent(each.value) + (f"  ({bounds})" if (bounds := interval(each, " to ")) else "")
            for each in rows
        )
        table.add_row(rows[0].name, *cells)
    output.show(table)
    output.line("upper bound: each box that overlaps a ground truth by half has its class")
    for line in (*result.warnings, *result.pairs.described()):
        output.notice(line)
    if missing := classes_without_predictions(result):
        what = "ground-truth classes in the images that no prediction can have"
        output.notice(f"{what}: {len(missing)}; the report lists them")
