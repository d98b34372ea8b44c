"""`autolabel review`, `autolabel audit` and `autolabel accept`."""

from typing import Annotated

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import app

PORT = 5151
ADDRESS = "127.0.0.1"


@app.command()
def review(
    run: shared.Run,
    port: Annotated[int, typer.Option(help="Port of the App.", min=1, max=65535)] = PORT,
    address: Annotated[
        str,
        typer.Option(
            help="Address or name of this machine to listen on; 0.0.0.0: all. The network can read "
            "what is sent: prefer an SSH tunnel, `ssh -L 5151:127.0.0.1:5151 HOST`."
        ),
    ] = ADDRESS,
    browser: Annotated[bool, typer.Option(help="Whether to open a browser window.")] = True,
    diverse: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Open at N labels that are uncertain and unlike each other and what was reviewed.",
            show_default="all of low confidence",
        ),
    ] = None,
) -> None:
    """Review the labels of low confidence in FiftyOne.

    Click an image, then "Annotate", to change labels. An image leaves the view once each of its
    labels is renamed, deleted or marked `reviewed`, or the image is tagged `reviewed`. `autolabel
    export` writes the labels as they stand. The App answers only to the address that is printed,
    which has a token: keep it to yourself. Ctrl-C ends the App.
    """
    from autolabel.audit.diverse import save_diverse_view
    from autolabel.review.app import serve_review
    from integrations.output import print_line

    view = ""
    if diverse is not None:
        view, count = save_diverse_view(run, diverse)
        print_line(f"{count} labels to review first: view {view!r}")
    serve_review(run, address, port, browser, print_line, view)


@app.command()
def audit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_DATASET",
            help="A run folder, or the FiftyOne dataset that a run labelled.",
            show_default=False,
        ),
    ],
    field: Annotated[
        str,
        typer.Option(
            help="Another field of detections of RUN's dataset, such as a person's.",
            show_default="RUN's labels",
        ),
    ] = "",
    limit: shared.Limit = None,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """List labels that are likely wrong, badly placed or missing: RUN's audit.csv, audit.html.

    Labels are taken as they stand in FiftyOne. Their words are compared with the nearest regions on
    other images and with the words that the model gave, their boxes with masks; the model's labels
    on which nobody has a label are likely missing. Images are read for crops alone, and no model is
    loaded.
    """
    from autolabel.audit.audit import audit_run, find_audited_run, save_audit_view, write_audit
    from autolabel.audit.page import write_page
    from autolabel.cli.tables import first_images, show_audit
    from integrations.output import Output

    with Output(as_json, quiet) as output:
        run = find_audited_run(source, field)
        found = audit_run(run, field, limit)
        path, page = write_audit(run, found), write_page(run, found)
        view = save_audit_view(run, found, field)
        show_audit(found, output)
        if found.unmatched:
            output.notice(
                f"{found.unmatched} labels have no score: no region of {run} overlaps them"
            )
        counts = f"{found.labels} labels of {found.images} images{first_images(limit)}"
        output.line(f"{len(found.suspects)} findings in {counts}: {path}")
        output.line(f"with crops: {page}")
        if view:
            output.line(f"view {view!r} in FiftyOne")
        kinds = [each.kind for each in found.suspects]
        output.summary(
            {
                "path": path,
                "page": page,
                "images": found.images,
                "labels": found.labels,
                "limit": limit,
            }
            | {"unmatched": found.unmatched, "view": view or None}
            | {kind: kinds.count(kind) for kind in ("word", "place", "missing")}
        )


@app.command()
def accept(
    run: shared.Run,
    precision: Annotated[
        float,
        typer.Option(help="Proportion of right labels to guarantee among the accepted ones."),
    ] = 0.95,
    confidence: Annotated[
        float, typer.Option(help="Confidence of the guarantee, for each word.")
    ] = 0.95,
    budget: Annotated[
        int,
        typer.Option(
            min=1, help="Maximum number of labels to review, those sampled before included."
        ),
    ] = 300,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Accept the labels of RUN whose precision a reviewed random sample guarantees.

    The first call samples labels by word and score. Review them (in FiftyOne's view `to review
    FIELD`, the labels whose `acceptance` is "to review": tick `reviewed`, rename or delete; without
    FiftyOne in RUN's acceptance.csv, column `right`: yes or no), and give the command again. Of
    each word it accepts the labels above the lowest score that still guarantees the precision;
    words of less than 30 labels are pooled. `export --only-accepted` writes them.
    """
    from autolabel.cli.tables import show_accepted
    from autolabel.review.acceptance import STATE, accept_run
    from integrations.output import Output

    with Output(as_json, quiet) as output:
        done = accept_run(run, precision, confidence, budget)
        show_accepted(done, budget, output)
        groups = [
            {"words": each.words, "labels": each.labels, "reviewed": each.reviewed}
            | {"wrong": each.wrong, "accepted": each.accepted, "lowest_score": each.lowest_score}
            for each in done.state.groups
        ]
        output.summary(
            {"path": run / STATE, "review": done.review, "precision": precision}
            | {"confidence": confidence, "budget": budget, "labels": done.labels}
            | {"sampled": len(done.state.sampled), "open": done.open}
            | {"accepted": len(done.state.accepted), "groups": groups}
            | {"further_reviewed": done.more, "further_accepted": done.gain}
        )
