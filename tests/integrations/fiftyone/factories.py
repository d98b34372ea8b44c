"""Labels of a model in one image."""

from pathlib import Path

import numpy as np
from PIL import Image

from integrations.annotations import Annotation, LabelledImage
from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.dataset import LabelField, Sample
from integrations.fiftyone.labels import window
from regionspot.types import encode_mask

NAMES = ("cat", "hot dog")
WIDTH, HEIGHT = 37, 23
PROVENANCE = {"run": "photos", "model": "mini", "vocabulary": "abc"}


def make_annotation(
    box: tuple[float, float, float, float] = (1, 2, 11, 12),
    score: float = 0.5,
    margin: float = 0.5,
    category_id: int = 1,
    with_mask: bool = True,
) -> Annotation:
    left, top, right, bottom = window(box, WIDTH, HEIGHT)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[top:bottom, left:right] = (
        np.random.default_rng(0).random((bottom - top, right - left)) > 0.5
    )
    return Annotation(
        category_id=category_id,
        box=box,
        score=score,
        mask=encode_mask(mask) if with_mask else None,
        attributes={"runner_up": "cat", "margin": margin, "presence": 0.25},
    )


def make_image(number: int, *annotations: Annotation) -> LabelledImage:
    return LabelledImage(number, f"{number}.jpg", WIDTH, HEIGHT, annotations, unverified=(1, 2))


def write_samples(folder: Path, count: int) -> list[Sample]:
    samples = []
    for number in range(1, count + 1):
        path = folder / f"{number}.jpg"
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)
        samples.append(Sample(path))
    return samples


def add_labels(target: LabelField, samples: list[Sample], images: list[LabelledImage]) -> None:
    pairs = zip(samples, images, strict=True)
    fiftyone_dataset.add_labels(target, pairs, NAMES, PROVENANCE, new_samples=True)
