"""Ground truth and predictions as LVIS has them, made up from a seed."""

import dataclasses

import numpy as np

from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from regionspot.types import Rle, encode_mask

SIDE = 240


def ellipse(box: tuple[float, float, float, float]) -> Rle:
    """The mask of the ellipse inside a box."""
    x1, y1, x2, y2 = box
    rows, columns = np.ogrid[:SIDE, :SIDE]
    across = (columns + 0.5 - (x1 + x2) / 2) / max((x2 - x1) / 2, 0.5)
    down = (rows + 0.5 - (y1 + y2) / 2) / max((y2 - y1) / 2, 0.5)
    return encode_mask(across**2 + down**2 <= 1)


def random_box(
    generator: np.random.Generator, near: tuple[float, ...] | None = None
) -> tuple[float, float, float, float]:
    """A box of any size, or one close to another."""
    if near is None:
        side = generator.choice([16, 50, 140])
        corner = generator.uniform(0, SIDE - side, 2)
        size = generator.uniform(0.4, 1, 2) * side
        values = np.concatenate([corner, corner + size])
    else:
        values = np.array(near) + generator.normal(0, 0.08 * (near[2] - near[0]), 4)
        values[2:] = np.maximum(values[2:], values[:2] + 1)
    x1, y1, x2, y2 = np.clip(values, 0, SIDE).round(2).tolist()
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def random_sets(
    seed: int, images: int = 12, classes: int = 9, federated: bool = True
) -> tuple[LabelledSet, LabelledSet]:
    """Predictions are the ground-truth boxes moved, some of another class, and some elsewhere.

    Scores repeat, classes are missing, images are empty, and COCO's have crowds.
    """
    generator = np.random.default_rng(seed)
    ids = (generator.permutation(classes) * 3 + 2).tolist()
    categories = tuple(
        Category(number, f"class {number}", frequency="rcf"[index % 3])
        for index, number in enumerate(ids)
    )
    ground_truth, predicted = [], []
    for index in range(images):
        present = generator.choice(ids, 4, replace=False).tolist()
        labels = [] if index == 1 else make_labels(generator, present, federated)
        absent = tuple(i for i in ids if i not in present and generator.random() < 0.5)
        image = LabelledImage(100 - 2 * index, f"{index}.jpg", SIDE, SIDE, tuple(labels))
        if federated:
            unverified = tuple(i for i in present if generator.random() < 0.3)
            image = dataclasses.replace(image, absent=absent, unverified=unverified)
        ground_truth.append(image)
        guesses = make_predictions(generator, labels, ids)
        predicted.append(LabelledImage(index, f"{index}.jpg", SIDE, SIDE, tuple(guesses)))
    return LabelledSet(categories, tuple(ground_truth)), LabelledSet(categories, tuple(predicted))


def make_labels(
    generator: np.random.Generator, present: list[int], federated: bool
) -> list[Annotation]:
    """Some labels of the classes that are present."""
    labels = []
    for _ in range(int(generator.integers(1, 12))):
        box = random_box(generator)
        crowd = not federated and generator.random() < 0.15
        category = int(generator.choice(present))
        labels.append(Annotation(category, box, mask=ellipse(box), is_crowd=crowd))
    return labels


def make_predictions(
    generator: np.random.Generator, labels: list[Annotation], ids: list[int]
) -> list[Annotation]:
    """Predictions that a detector might give for these labels."""
    guesses = []
    for label in [*labels, *labels, *[None] * 8]:
        if label is not None and generator.random() < 0.2:
            continue
        box = random_box(generator, None if label is None else label.box)
        right = label is not None and generator.random() < 0.8
        category = label.category_id if right and label else int(generator.choice(ids))
        score = round(float(generator.random()), 1)
        guesses.append(Annotation(category, box, score, ellipse(box)))
    return guesses
