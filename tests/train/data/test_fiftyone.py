"""A field of detections of a FiftyOne dataset as training data."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrations.annotations import Tally
from regionspot.errors import InputError
from tests.train.written import HEIGHT, WIDTH, write_image
from train.data.registry import open_dataset


@pytest.fixture
def fiftyone_name(tmp_path: Path) -> Iterator[str]:
    import fiftyone as fo

    name = f"train-{uuid.uuid4()}"
    dataset = fo.Dataset(name)
    for number in range(3):
        write_image(tmp_path / f"{number}.jpg", seed=number)
    cup = fo.Detection(label="cup", bounding_box=[0.25, 0, 0.25, 0.5])
    dogs = fo.Detection(label="dog", bounding_box=[0, 0, 1, 1], iscrowd=1)
    nameless = fo.Detection(bounding_box=[0, 0, 1, 1])
    boxless = fo.Detection(label="cup")
    # A quarter of a turn about its centre: 16 x 24 pixels become 24 x 16.
    turned = fo.Detection(label="pen", bounding_box=[0.25, 0.25, 0.25, 0.5], rotation=90.0)
    cat = fo.Detection(label="cat (big)", bounding_box=[0.5, 0.5, 0.75, 0.5], iscrowd=0)
    dataset.add_samples(
        [
            fo.Sample(str(tmp_path / "2.jpg"), truth=fo.Detections(detections=[cup, dogs, cat])),
            fo.Sample(str(tmp_path / "1.jpg"), weather=fo.Classification(label="rain")),
            fo.Sample(str(tmp_path / "0.jpg"), truth=fo.Detections(detections=[cup, nameless])),
            fo.Sample(str(tmp_path / "0.jpg"), truth=fo.Detections(detections=[boxless, turned])),
        ]
    )
    yield name
    dataset.delete()


def test_a_field_of_fiftyone(fiftyone_name: str) -> None:
    tally = Tally()
    dataset = open_dataset(f"fiftyone:{fiftyone_name},field=truth", tally=tally)
    first, second, third = dataset.images
    assert third.boxes.tolist() == [[12, 16, 36, 32]]
    assert {(kind, reason) for kind, reason in tally.left_out} == {
        ("crowd region", "training takes single objects"),
        ("label", "it has no class"),
        ("label", "it has no box of four finite numbers"),
    }
    assert {kind for kind, _ in tally.changed} == {"rotated box", "box"}
    assert (first.path.name, second.path.name) == ("2.jpg", "0.jpg")
    assert first.names == ("cup", "cat (big)")
    assert first.boxes.tolist() == [
        [WIDTH / 4, 0, WIDTH / 2, HEIGHT / 2],
        [WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT],
    ]
    assert set(dataset.classes) == {"cup", "cat (big)", "pen"}
    assert first.verified is None
    for field in ("weather", "none"):
        with pytest.raises(InputError, match=rf"no field '{field}' of detections.*truth"):
            open_dataset(f"fiftyone:{fiftyone_name},field={field}")
