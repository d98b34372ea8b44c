"""A field of detections of a FiftyOne dataset as training data."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    cat = fo.Detection(label="cat (big)", bounding_box=[0.5, 0.5, 0.75, 0.5], iscrowd=0)
    dataset.add_samples(
        [
            fo.Sample(str(tmp_path / "2.jpg"), truth=fo.Detections(detections=[cup, dogs, cat])),
            fo.Sample(str(tmp_path / "1.jpg"), weather=fo.Classification(label="rain")),
            fo.Sample(str(tmp_path / "0.jpg"), truth=fo.Detections(detections=[cup])),
        ]
    )
    yield name
    dataset.delete()


def test_a_field_of_fiftyone(fiftyone_name: str) -> None:
    dataset = open_dataset(f"fiftyone:{fiftyone_name},field=truth")
    first, second = dataset.images
    assert (first.path.name, second.path.name) == ("2.jpg", "0.jpg")
    assert first.names == ("cup", "cat (big)")
    assert first.boxes.tolist() == [
        [WIDTH / 4, 0, WIDTH / 2, HEIGHT / 2],
        [WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT],
    ]
    assert set(dataset.classes) == {"cup", "cat (big)"}
    assert first.verified is None
    for field in ("weather", "none"):
        with pytest.raises(InputError, match=rf"no field '{field}' of detections.*truth"):
            open_dataset(f"fiftyone:{fiftyone_name},field={field}")
