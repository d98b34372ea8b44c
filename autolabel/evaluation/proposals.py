"""How well a detector's proposals cover the ground-truth boxes, whatever their class.

    python -m autolabel.evaluation.proposals --data DIR --detector nanodet

DIR holds `instances.json` (COCO) and `images/`.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autolabel.evaluation.matching import pair_images
from autolabel.evaluation.metrics import evaluate_coco
from autolabel.evaluation.predict import vocabulary_of
from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from integrations.detectors import Detector, build_detector
from integrations.detectors.base import MAX_BOXES
from integrations.failures import reported
from integrations.formats.coco import read_coco
from integrations.images import read_image
from integrations.progress import Reporter, RichReporter
from regionspot.config import resolve_device
from regionspot.devices.runtime import TORCH, build_runtime, resolve_runtime
from regionspot.errors import InputError
from regionspot.localizers.sam import build_sam
from regionspot.types import Proposals

PRESET = "mini"  # whose detector NanoDet is
_OBJECT = Category(1, "object")


@dataclass(frozen=True)
class ProposalMetrics:
    """COCO's metrics with all categories made one; crowds are ignored. NaN: nothing to measure.

    Attributes:
        images: number of them.
        boxes_an_image: proposals, on average.
        recall_50: recall at IoU 0.5 of the best proposals of each image.
        average_recall: the mean recall over IoU 0.5 to 0.95.
        small_recall_50, small_average_recall: the same of ground truth under 32 x 32 pixels.
        average_precision: the mean over IoU 0.5 to 0.95.
        seconds_an_image: of detection alone.
    """

    images: int
    boxes_an_image: float
    recall_50: float
    average_recall: float
    small_recall_50: float
    small_average_recall: float
    average_precision: float
    seconds_an_image: float


def proposal_metrics(
    images: Sequence[LabelledImage],
    found: Sequence[Proposals],
    seconds: float,
    max_boxes: int = MAX_BOXES,
) -> ProposalMetrics:
    """Metrics of proposals against ground truth.

    Args:
        images: labelled, with sizes known.
        found: the proposals of each image.
        seconds: that detection took, all images together.
        max_boxes: only so many of the best proposals of an image count.

    Raises:
        InputError: there is no image, or no proposal at all.
    """
    total = sum(len(proposals) for proposals in found)
    if not total:
        raise InputError("nothing to measure: there are no images, or no proposals in any")
    ground_truth, predictions = [], []
    for image, proposals in zip(images, found, strict=True):
        labels = tuple(replace(each, category_id=_OBJECT.id) for each in image.annotations)
        rows = zip(proposals.boxes.tolist(), proposals.score.tolist(), strict=True)
        boxes = tuple(Annotation(_OBJECT.id, tuple(box), score) for box, score in rows)
        ground_truth.append(replace(image, annotations=labels))
        predictions.append(replace(image, annotations=boxes))
    labelled, proposed = (
        LabelledSet((_OBJECT,), tuple(each)) for each in (ground_truth, predictions)
    )
    pairs = pair_images(labelled, proposed, federated=False, by="id")
    result = evaluate_coco(pairs, "bbox", (max_boxes,))
    (precision,), (recall,) = result.precision, result.recall[-1]  # (A, T) each
    return ProposalMetrics(
        images=len(images),
        boxes_an_image=total / len(images),
        recall_50=float(recall[0, 0]),
        average_recall=float(recall[0].mean()),
        small_recall_50=float(recall[1, 0]),
        small_average_recall=float(recall[1].mean()),
        average_precision=float(precision[0].mean()),
        seconds_an_image=seconds / len(images),
    )


def evaluate_detector(
    detector: Detector,
    folder: Path,
    reporter: Reporter,
    max_images: int | None = None,
    max_boxes: int = MAX_BOXES,
) -> ProposalMetrics:
    """Run a detector over a folder of labelled images.

    Args:
        detector: to evaluate.
        folder: with `instances.json` and `images/`.
        reporter: is told of each image.
        max_images: the first so many images, by id; None for all.
        max_boxes: only so many of the best proposals of an image count.

    Raises:
        InputError: the labels or an image cannot be read.
    """
    labelled = read_coco(folder / "instances.json", folder / "images").images
    images = sorted(labelled, key=lambda image: image.id)[:max_images]
    found, seconds = [], 0.0
    reporter.start(detector.name, len(images))
    for image in images:
        pixels = read_image(folder / "images" / image.file_name)
        start = time.perf_counter()
        found.append(detector.detect(pixels))
        seconds += time.perf_counter() - start
        reporter.advance()
    return proposal_metrics(images, found, seconds, max_boxes)


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with instances.json and images/.")],
    detector: Annotated[
        str, typer.Option(help="As of autolabel run; several with commas between them.")
    ] = "nanodet",
    max_images: Annotated[int | None, typer.Option(min=1, help="First images only.")] = None,
    max_boxes: Annotated[int, typer.Option(min=1, help="Proposals per image.")] = MAX_BOXES,
    min_score: Annotated[
        float | None,
        typer.Option(help="Minimum score of a proposal.", show_default="the detector's own"),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(min=1, help="Detect on tiles of so many pixels, too.")
    ] = None,
    sam: Annotated[str, typer.Option(help="The model behind sam-grid.")] = "mobile-sam",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    runtime: Annotated[str, typer.Option(help="What computes NanoDet, as of autolabel run.")] = (
        TORCH.name
    ),
) -> None:
    """Recall and precision of a detector's boxes, whatever their class, as JSON."""
    with reported():
        where = resolve_device(device)
        categories = read_coco(data / "instances.json", data / "images").categories
        built = build_detector(
            detector,
            sam=lambda: build_sam(sam).to(where),
            device=where,
            max_boxes=max_boxes,
            words=[string for each in vocabulary_of(categories).values() for string in each],
            min_score=min_score,
            tile=tile,
            runtime=build_runtime(resolve_runtime(runtime, where, PRESET)),
        )
        with RichReporter(Console(stderr=True)) as reporter:
            metrics = asdict(evaluate_detector(built, data, reporter, max_images, max_boxes))
    # JSON has no NaN: what could not be measured is null.
    numbers = {name: None if math.isnan(value) else value for name, value in metrics.items()}
    typer.echo(json.dumps({"detector": detector} | numbers, indent=2))


if __name__ == "__main__":
    app()
