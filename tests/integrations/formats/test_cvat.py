"""CVAT for images: boxes, masks and attributes there and back, refusals."""

from pathlib import Path

import pytest
from hypothesis import given, settings

from integrations.annotations import Annotation, LabelledImage, LabelledSet
from integrations.formats.xml import attribute_text, parse_attribute
from tests.integrations.formats.factories import labelled_sets
from tests.integrations.formats.helpers import (
    BAD_XML,
    assert_holds,
    assert_refused,
    plain,
    same_mask,
    through,
)


@settings(max_examples=40, deadline=None)
@given(data=labelled_sets().map(plain))
def test_cvat(data: LabelledSet) -> None:
    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        assert (label.score, label.is_crowd) == (expected.score, expected.is_crowd)
        assert label.attributes == {
            key: parse_attribute(attribute_text(value))
            for key, value in expected.attributes.items()
        }
        same_mask(label, expected, image)

    found = through("cvat", data)
    assert [each.name for each in found.categories] == [each.name for each in data.categories]
    assert [each.id for each in found.images] == [each.id for each in data.images]
    assert_holds(found, data, lambda each: True, 0.01, compare)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("annotations.xml", BAD_XML, "declares a document type"),
        ("annotations.xml", "<a/>", "no CVAT for images"),
        (
            "annotations.xml",
            '<annotations><image id="1" name="/a.jpg" width="1" height="1"/></annotations>',
            "is absolute",
        ),
        (
            "annotations.xml",
            '<annotations><image id="1" name="a.jpg" width="2" height="2"><mask label="cat" '
            'rle="3" left="0" top="0" width="2" height="2"/></image></annotations>',
            "must add up",
        ),
        (
            "annotations.xml",
            '<annotations><image id="1" name="a.jpg" width="2" height="2"><mask label="cat" '
            'rle="3" left="0" top="0" width="99999" height="99999"/></image></annotations>',
            "leaves the image",
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    assert_refused(tmp_path, "cvat", file, content, message)
