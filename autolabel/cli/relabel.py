"""`autolabel relabel`."""

from pathlib import Path
from typing import Annotated

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import app
from autolabel.cli.options import INPUT, MODEL


@app.command()
def relabel(
    source: shared.Run,
    vocab: shared.Vocab[Path | None] = None,
    learn_from_review: Annotated[
        bool,
        typer.Option(
            "--learn-from-review",
            help="Reviewed labels of RUN are examples of their words; without --vocab the words "
            "are RUN's and those that the review added.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    out: shared.RunOut = None,
    label_field: shared.LabelField[str | None] = None,
    overwrite: shared.Overwrite = False,
    discard_review: shared.DiscardReview = False,
    carry_reviewed: shared.CarryReviewed = False,
    launch: shared.Launch = False,
    conf_threshold: shared.ConfThreshold[float | None] = None,
    presence_threshold: shared.PresenceThreshold[float | None] = None,
    iou: shared.Iou[float | None] = None,
    containment: shared.Containment[float | None] = None,
    detector_weight: shared.DetectorWeight[float | None] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The head that RUN was made with, where its file was moved.",
            show_default="RUN's",
            rich_help_panel=MODEL,
        ),
    ] = None,
    limit: shared.Limit = None,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Label the images of a complete run with other words or examples, from its stored regions.

    No image is read by the model again, and the first run and its labels are not changed. What is
    not given is as in RUN; the label field is RUN's with the name of the words.
    """
    from autolabel.cli.tables import show_run
    from autolabel.review.learn import words_to_relabel
    from autolabel.run.relabel import RelabelRequest
    from autolabel.run.relabel import relabel as relabel_run
    from integrations.output import Output

    with Output(as_json, quiet) as output:
        with output.progress() as reporter:
            words, reviewed = words_to_relabel(source, vocab, learn_from_review, reporter)
            request = RelabelRequest(
                run=source,
                words=words,
                reviewed=reviewed,
                out=out,
                label_field=label_field,
                conf_threshold=conf_threshold,
                presence_threshold=presence_threshold,
                iou=iou,
                containment=containment,
                detector_weight=detector_weight,
                overwrite=overwrite,
                discard_review=discard_review,
                carry_reviewed=carry_reviewed,
                checkpoint=checkpoint,
                limit=limit,
            )
            done = relabel_run(request, reporter)
        show_run(done, output, limit, launch)
