"""What a person changed is told from what a run wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from integrations.annotations import LabelledImage
from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.changes import Changes, changes_of_field, samples_by_id
from integrations.fiftyone.dataset import LabelField
from tests.integrations.fiftyone.factories import (
    NAMES,
    add_labels,
    make_annotation,
    make_image,
    write_samples,
)

BOXES = [(1, 2, 11, 12), (3.5, 4.25, 20.125, 18), (0, 0, 37, 23)]


def rename(labels: list[Any]) -> None:
    labels[0].label = "dog"


def draw(labels: list[Any]) -> None:
    labels.append(fo.Detection(label="cat", bounding_box=[0, 0, 0.5, 0.5]))


def move(labels: list[Any]) -> None:
    labels[1].bounding_box[0] += 0.1


def paint(labels: list[Any]) -> None:
    labels[2].mask = np.ones_like(labels[2].mask)


def delete(labels: list[Any]) -> None:
    del labels[1]


def tag(labels: list[Any]) -> None:
    labels[0].tags.append("good")


def check(labels: list[Any]) -> None:
    labels[1]["reviewed"] = True


def many(labels: list[Any]) -> None:
    move(labels)
    rename(labels)
    draw(labels)
    del labels[2]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (len, Changes()),
        (rename, Changes(renamed=1)),
        (draw, Changes(drawn=1)),
        (move, Changes(edited=1)),
        (paint, Changes(edited=1)),
        (delete, Changes(deleted=1)),
        (tag, Changes(tagged=1)),
        (check, Changes(tagged=1)),
        (many, Changes(renamed=1, drawn=1, edited=1, deleted=1)),
        (list.clear, Changes(deleted=3)),
    ],
)
def test_each_change_is_counted(
    target: LabelField,
    tmp_path: Path,
    change: Callable[[list[Any]], object],
    expected: Changes,
) -> None:
    samples = write_samples(tmp_path, 2)
    images = [make_image(1, *map(make_annotation, BOXES)), make_image(2, make_annotation())]
    add_labels(target, samples, images)
    dataset = fiftyone_dataset.load_dataset(target.dataset)
    written = samples_by_id(target.dataset, zip(samples, images, strict=True))
    sample = dataset.one({"filepath": str(samples[0].path)})
    labels = list(sample.predictions.detections)
    change(labels)
    sample.predictions.detections = labels
    sample.save()
    names = dict(enumerate(NAMES, start=1))
    assert changes_of_field(target, written, names) == expected
    assert bool(expected) == (str(expected) != "")
    unknown: dict[str, LabelledImage] | None = None
    without = Changes(renamed=expected.renamed, drawn=expected.drawn, tagged=expected.tagged)
    assert changes_of_field(target, unknown, {}) == without


def test_a_field_of_another_kind_has_values(target: LabelField, tmp_path: Path) -> None:
    add_labels(target, write_samples(tmp_path, 2), [make_image(1), make_image(2)])
    dataset = fiftyone_dataset.load_dataset(target.dataset)
    dataset.set_values("note", ["mine", None])
    assert str(changes_of_field(LabelField(target.dataset, "note", ""), None, {})) == (
        "1 values in other fields"
    )
