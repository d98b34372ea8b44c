"""Pascal VOC: whole pixels there and back, refusals."""

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
    through,
)


@settings(max_examples=25, deadline=None)
@given(data=labelled_sets().filter(lambda data: data.images).map(plain))
def test_voc(data: LabelledSet) -> None:
    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        assert label.score == expected.score
        assert label.attributes.get("occluded") == (
            parse_attribute(attribute_text(expected.attributes.get("occluded")))
        )

    found = through("voc", data)
    assert_holds(found, data, lambda each: not each.is_crowd, 1, compare)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Annotations/a.xml", BAD_XML, "declares a document type"),
        (
            "Annotations/a.xml",
            "<annotation><filename>../a.jpg</filename></annotation>",
            "leaves the images' folder",
        ),
        ("Annotations/a.txt", "", "no XML file"),
        ("Annotations/a.xml", "<annotation>\n<x", "line 2 is not XML"),
        (
            "Annotations/a.xml",
            "<annotation><filename>a.jpg</filename><size><width>x</width></size></annotation>",
            "must be a number",
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    assert_refused(tmp_path, "voc", file, content, message)
