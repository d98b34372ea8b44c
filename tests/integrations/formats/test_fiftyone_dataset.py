"""FiftyOne's own format: all that a label holds there and back, refusals."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from integrations.annotations import Annotation, LabelledImage, LabelledSet, as_rle
from integrations.fiftyone.labels import window
from regionspot.types import decode_mask, encode_mask
from tests.integrations.formats.factories import labelled_sets
from tests.integrations.formats.helpers import (
    assert_holds,
    assert_refused,
    number_labels,
    plain,
    through,
)


@settings(max_examples=8, deadline=None)
@given(data=labelled_sets().map(plain))
def test_fiftyone(data: LabelledSet) -> None:
    numbered = number_labels(data)

    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        given = {key: value for key, value in expected.attributes.items() if value is not None}
        kept = dataclasses.replace(label, box=expected.box, mask=expected.mask)
        assert kept == dataclasses.replace(expected, attributes=given)
        left, top, right, bottom = window(expected.box, image.width, image.height)
        if expected.mask is not None and right > left and bottom > top:
            inside = np.zeros((image.height, image.width), np.bool_)
            inside[top:bottom, left:right] = True
            inside &= decode_mask(as_rle(expected.mask, image.width, image.height))
            assert label.mask == encode_mask(inside)

    found = through("fiftyone", numbered)
    assert found.categories == data.categories
    for one, image in zip(found.images, data.images, strict=True):
        assert dataclasses.replace(one, annotations=image.annotations) == image
    assert_holds(found, numbered, lambda each: True, 0.01, compare)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metadata.json", "{}", "no folder of FiftyOne's"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    assert_refused(tmp_path, "fiftyone", file, content, message)
