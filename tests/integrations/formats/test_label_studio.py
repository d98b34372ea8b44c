"""Label Studio's tasks: all but attributes of images there and back, refusals."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from integrations.annotations import Annotation, LabelledImage, LabelledSet
from integrations.formats.registry import format_named
from tests.integrations.formats.factories import labelled_sets
from tests.integrations.formats.helpers import (
    assert_holds,
    assert_refused,
    names,
    number_labels,
    plain,
    same_mask,
    through,
)


@settings(max_examples=40, deadline=None)
@given(data=labelled_sets().map(plain))
def test_label_studio(data: LabelledSet) -> None:
    numbered = number_labels(data)

    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        kept = dataclasses.replace(label, box=expected.box, mask=expected.mask)
        assert dataclasses.replace(kept, category_id=expected.category_id) == expected
        same_mask(label, expected, image)

    found = through("label-studio", numbered)
    assert [each.name for each in found.categories] == [each.name for each in data.categories]
    for one, image in zip(found.images, data.images, strict=True):
        assert dataclasses.replace(one, annotations=image.annotations) == image
    assert_holds(found, numbered, lambda each: True, 0.01, compare)


def test_label_studio_prefers_what_a_person_drew(tmp_path: Path) -> None:
    def result(word: str) -> dict[str, object]:
        value = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": [word]}
        size = {"original_width": 10, "original_height": 20}
        return {"id": "aB3", "type": "rectanglelabels", "value": value, **size}

    task = {
        "id": 4,
        "data": {"image": "/data/upload/1/ab-a%20b.jpg"},
        "annotations": [
            {"was_cancelled": True, "result": [result("dog")]},
            {"result": [result("cat")]},
        ],
        "predictions": [{"result": [result("cow")]}],
    }
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([task]))
    data = format_named("label-studio").read(path, None)
    assert names(data) == {1: "cat"}
    (image,) = data.images
    assert (image.file_name, image.width, image.height) == ("ab-a b.jpg", 10, 20)
    assert image.annotations == (Annotation(1, (0, 0, 5, 10)),)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tasks.json", "[\n{", "line 2 is not JSON"),
        ("tasks.json", "{}", "no list"),
        ("tasks.json", "[{}]", r"tasks\[0\] must be an object"),
        (
            "tasks.json",
            '[{"data": {"image": "/data/local-files/?d=images/../../a.jpg"}}]',
            "leaves the images' folder",
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    assert_refused(tmp_path, "label-studio", file, content, message)
