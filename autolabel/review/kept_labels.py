"""Precision and recall of the labels that a run keeps, by the options that decide which.

    python -m autolabel.review.kept_labels --run RUN --gt COCO.json [--detector-weight W ...]

RUN is a run with low thresholds, whose stored regions are labelled again with each combination of
`--detector-weight` and `--containment`. AP is over all labels that the run kept the boxes of;
precision and recall are of labels at the thresholds, class and IoU 0.5.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from autolabel.evaluation.matching import Matches, PairedImages, match_predictions, pair_images
from autolabel.evaluation.metrics import evaluate_coco
from autolabel.options import Options
from autolabel.review.learn import words_of_run
from autolabel.run.examples import words_with_examples
from autolabel.run.manifest import read_complete
from autolabel.run.postprocess import Labeller
from autolabel.run.shards import read_shards
from integrations.annotations import LabelledSet, vocabulary_categories
from integrations.failures import reported
from integrations.formats.coco import read_coco
from regionspot import load_model

PRECISION = 0.6  # at which recall is measured
ALL_SIZES, IOU_50 = 0, 0


@dataclass(frozen=True)
class KeptLabels:
    """Figures of one combination of options, in percent where they are no numbers of labels.

    Attributes:
        detector_weight, containment: as of `Options`.
        ap, ap50: of all labels above the lowest confidence of the run.
        recall_at_precision: the highest recall at which precision is `PRECISION` or more.
        labels: number of labels at the thresholds.
        precision, recall: of these.
        missed: number of ground-truth boxes without one.
    """

    detector_weight: float
    containment: float
    ap: float
    ap50: float
    recall_at_precision: float
    labels: int
    precision: float
    recall: float
    missed: int


def kept_labels(
    run: Path, truth: LabelledSet, weights: Sequence[float], containments: Sequence[float]
) -> Iterator[KeptLabels]:
    """Label the stored regions of a run with each combination of options.

    Args:
        run: folder of a complete run.
        truth: ground truth of its photos.
        weights: of the detector's class scores.
        containments: as of `Options.containment`.

    Raises:
        InputError: a run that cannot be read.
    """
    manifest = read_complete(run)
    images = list(read_shards(run, manifest.shards))
    model = load_model(manifest.options.model, "cpu", manifest.options.checkpoint or None)
    words = words_of_run(manifest)
    vocabulary = model.vocabulary(words_with_examples(words, model))
    categories = vocabulary_categories(words.names, words.synonyms)

    def pairs(options: Options) -> PairedImages:
        labeller = Labeller(model, vocabulary, options, words.thresholds, words.background)
        labelled = labeller.label(images)
        return pair_images(truth, LabelledSet(categories, tuple(image for _, image in labelled)))

    for weight, containment in product(weights, containments):
        every = replace(manifest.options, detector_weight=weight, containment=containment)
        default = replace(
            every,
            conf_threshold=Options.conf_threshold,
            presence_threshold=Options.presence_threshold,
        )
        found = pairs(every)
        metrics = evaluate_coco(found, "bbox")
        ap = np.nanmean(metrics.precision[:, ALL_SIZES], axis=0)  # (K, A, T) to (T,)
        hits, truths = _hits(match_predictions(found, "bbox"))
        right, total = _hits(match_predictions(pairs(default), "bbox"))
        precision = hits.cumsum() / np.arange(1, len(hits) + 1)
        reached = np.flatnonzero(precision >= PRECISION)
        yield KeptLabels(
            detector_weight=weight,
            containment=containment,
            ap=_percent(float(ap.mean())),
            ap50=_percent(float(ap[IOU_50])),
            recall_at_precision=_percent(
                hits[: reached[-1] + 1].sum() / truths if len(reached) else 0
            ),
            labels=len(right),
            precision=_percent(right.mean() if len(right) else 0),
            recall=_percent(right.sum() / total),
            missed=int(total - right.sum()),
        )


def _hits(matches: Matches) -> tuple[np.ndarray, int]:
    """Whether each label is right, most confident first; and the number of ground-truth boxes."""
    counted = ~matches.ignored[:, ALL_SIZES, IOU_50]
    order = np.argsort(-matches.score[counted], kind="stable")
    hits = matches.matched[:, ALL_SIZES, IOU_50][counted][order]
    return hits, int(matches.ground_truth_counts[..., ALL_SIZES].sum())


def _percent(share: float) -> float:
    return round(100 * float(share), 1)


app = typer.Typer(add_completion=False)


@app.command()
def main(
    run: Annotated[Path, typer.Option(help="Folder of a run of the photos.")],
    gt: Annotated[Path, typer.Option(help="The photos' ground truth, as COCO or LVIS JSON.")],
    detector_weight: Annotated[
        list[float] | None, typer.Option(help="Weights of the detector's class scores.")
    ] = None,
    containment: Annotated[list[float] | None, typer.Option(help="As of `autolabel run`.")] = None,
) -> None:
    """Figures of each combination of options, as JSON, one a line."""
    weights = detector_weight or [Options.detector_weight]
    containments = containment or [Options.containment]
    with reported():
        for figures in kept_labels(run, read_coco(gt), weights, containments):
            typer.echo(json.dumps(asdict(figures)))


if __name__ == "__main__":
    app()
