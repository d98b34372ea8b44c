"""How well a detector's proposals cover the boxes that people drew.

    python -m autolabel.evaluation.proposals --data DIR --detector nanodet

DIR holds `instances.json` (COCO) and `images/`.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from faster_coco_eval import COCO, COCOeval_faster
from rich.console import Console
from rich.progress import track

from integrations.annotations import LabelledImage
from integrations.detectors import DETECTORS, Detector, build_detector
from integrations.formats.coco import read_coco
from integrations.images import read_image
from regionspot.boxes import xyxy_to_xywh
from regionspot.device import resolve_device
from regionspot.errors import InputError
from regionspot.localizers.sam import build_sam
from regionspot.types import Proposals

BOXES_PER_IMAGE = 100
_ALL, _SMALL = 0, 1  # COCO's area ranges; small is below 32 x 32 pixels


@dataclass(frozen=True)
class Coverage:
    """Class-agnostic figures in COCO's way: one box answers to one label, crowds are ignored.

    Attributes:
        images: measured.
        boxes_an_image: proposals, on average.
        recall_50: share of labels found at IoU 0.5 by the best 100 proposals of each image.
        average_recall: AR@100, the mean over IoU 0.5 to 0.95.
        small_recall_50, small_average_recall: the same of labels under 32 x 32 pixels.
        average_precision: AP@100, the mean over IoU 0.5 to 0.95.
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


def _ground_truth(images: Sequence[LabelledImage]) -> COCO:
    """Labels with every category made the same one."""
    boxes = [
        {
            "image_id": image.id,
            "category_id": 1,
            "bbox": xyxy_to_xywh(np.array([label.box]))[0].tolist(),
            "area": label.area,
            "iscrowd": int(label.is_crowd),
        }
        for image in images
        for label in image.annotations
    ]
    return COCO(
        {
            "images": [{"id": image.id} for image in images],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": [{"id": row, **box} for row, box in enumerate(boxes, start=1)],
        }
    )


def _detection_rows(
    images: Sequence[LabelledImage], found: Sequence[Proposals]
) -> npt.NDArray[np.float64]:
    """(N, 7): image id, left, top, width, height, score and the one category."""
    rows = [
        np.column_stack(
            [
                np.full(len(proposals), image.id),
                xyxy_to_xywh(proposals.boxes),
                proposals.score,
                np.ones(len(proposals)),
            ]
        )
        for image, proposals in zip(images, found, strict=True)
    ]
    return np.concatenate(rows).astype(np.float64)


def coverage(
    images: Sequence[LabelledImage], found: Sequence[Proposals], seconds: float
) -> Coverage:
    """Figures of proposals against labels.

    Args:
        images: labelled, with sizes known.
        found: the proposals of each image.
        seconds: that detection took, all images together.

    Raises:
        InputError: there is no image, or no proposal at all.
    """
    rows = _detection_rows(images, found) if images else np.zeros((0, 7))
    if not len(rows):
        raise InputError("nothing to measure: there are no images, or no proposals in any")
    truth = _ground_truth(images)
    evaluation = COCOeval_faster(truth, truth.loadRes(rows), "bbox")
    evaluation.params.maxDets = [BOXES_PER_IMAGE]
    evaluation.evaluate()
    evaluation.accumulate()
    # (IoU, category, area, boxes an image) and, for precision, recall after IoU; -1: no labels.
    recall = evaluation.eval["recall"][:, 0, :, 0]
    precision = evaluation.eval["precision"][:, :, 0, _ALL, 0]
    return Coverage(
        images=len(images),
        boxes_an_image=len(rows) / len(images),
        recall_50=float(recall[0, _ALL]),
        average_recall=float(recall[:, _ALL].mean()),
        small_recall_50=float(recall[0, _SMALL]),
        small_average_recall=float(recall[:, _SMALL].mean()),
        average_precision=float(precision.mean()),
        seconds_an_image=seconds / len(images),
    )


def measure(detector: Detector, folder: Path, max_images: int | None = None) -> Coverage:
    """Run a detector over a folder of labelled images.

    Args:
        detector: to measure.
        folder: with `instances.json` and `images/`.
        max_images: the first so many images, by id; None for all.

    Raises:
        InputError: the labels or an image cannot be read.
    """
    labelled = read_coco(folder / "instances.json", folder / "images").images
    images = sorted(labelled, key=lambda image: image.id)[:max_images]
    found, seconds = [], 0.0
    for image in track(images, detector.name, console=Console(stderr=True)):
        pixels = read_image(folder / "images" / image.file_name)
        start = time.perf_counter()
        found.append(detector.detect(pixels))
        seconds += time.perf_counter() - start
    return coverage(images, found, seconds)


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with instances.json and images/.")],
    detector: Annotated[str, typer.Option(help=f"One of {', '.join(DETECTORS)}.")] = "nanodet",
    max_images: Annotated[int | None, typer.Option(min=1, help="First images only.")] = None,
    sam: Annotated[str, typer.Option(help="The model behind sam-grid.")] = "mobile-sam",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Recall and precision of a detector's boxes, whatever their class, as JSON."""
    try:
        where = resolve_device(device)
        model = build_sam(sam).to(where) if "sam-grid" in detector else None
        figures = measure(build_detector(detector, sam=model, device=where), data, max_images)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(json.dumps({"detector": detector, **asdict(figures)}, indent=2))


if __name__ == "__main__":
    app()
