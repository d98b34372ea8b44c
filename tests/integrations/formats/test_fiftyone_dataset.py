"""FiftyOne's own format: all that a label holds there and back, refusals."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from integrations.annotations import Annotation, LabelledImage, LabelledSet, as_rle
from integrations.fiftyone.labels import window
from integrations.formats.registry import format_named, read_labels
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


def test_what_is_not_a_label_of_the_field_is_counted(tmp_path: Path) -> None:
    import fiftyone as fo

    box = [0.1, 0.1, 0.2, 0.2]
    (tmp_path / "data").mkdir()
    Image.new("L", (100, 80)).save(tmp_path / "data/a.jpg")
    dataset = fo.Dataset()
    try:
        sample = fo.Sample(str(tmp_path / "data/a.jpg"), weather="rain")
        sample["ground_truth"] = fo.Detections(
            detections=[
                fo.Detection(bounding_box=box),
                fo.Detection(label="car", bounding_box=[0.5, 0.1, 0.2, 0.2], index=4),
                fo.Detection(label="car", bounding_box=[float("nan"), 0, 1, 1]),
                fo.Detection(label="car"),
                fo.Detection(label="bus", bounding_box=[0.2, 0.375, 0.6, 0.25], rotation=90.0),
            ]
        )
        sample["other"] = fo.Detections(detections=[fo.Detection(label="x", bounding_box=box)] * 2)
        sample["pose"] = fo.Keypoints(keypoints=[fo.Keypoint(label="x", points=[(0, 0)])])
        sample["scene"] = fo.Classification(label="street")
        dataset.add_sample(sample)
        dataset.export(
            str(tmp_path), fo.types.FiftyOneDataset, export_media=False, rel_dir=str(tmp_path)
        )
    finally:
        dataset.delete()
    data = read_labels(format_named("fiftyone"), tmp_path)
    (image,) = data.images
    assert image.attributes == {"weather": "rain"}
    assert [each.box for each in image.annotations] == [
        pytest.approx((50, 8, 70, 24)),
        pytest.approx((40, 10, 60, 70)),
    ]
    counts = [(kind, entry.count) for (kind, _), entry in data.tally.left_out.items()]
    assert sorted(counts) == [
        ("Classification in a second field", 1),
        ("Detections in a second field", 2),
        ("Keypoints in a second field", 1),
        ("index of a label", 1),
        ("label", 1),
        ("label", 2),
    ]
    (first,) = [e.first for (_, reason), e in data.tally.left_out.items() if "no class" in reason]
    assert "'a.jpg'" in first
    assert "'ground_truth'" in first
