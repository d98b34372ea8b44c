"""COCO: what is written is read back, and by pycocotools; results; old files stay on errors."""

import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools.coco import COCO

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
)
from integrations.formats.coco import read_coco, read_coco_results, write_coco
from integrations.formats.lvis import read_lvis, write_lvis
from regionspot.errors import InputError
from regionspot.types import encode_mask
from tests.integrations.formats.factories import labelled_sets, small_set
from tests.integrations.formats.helpers import Write, as_read, assert_same_image, through_file


@settings(max_examples=60, deadline=None)
@given(labelled_sets())
def test_coco_keeps_all_that_it_can_hold(data: LabelledSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = through_file(Path(folder) / "labels.json", write_coco, read_coco, data)
        COCO(str(Path(folder) / "labels.json"))
    assert [(one.id, one.name, one.supercategory) for one in found.categories] == [
        (one.id, one.name, one.supercategory) for one in data.categories
    ]
    first_id = 1
    for one, image in zip(found.images, data.images, strict=True):
        bare = dataclasses.replace(image, absent=(), unverified=())
        assert_same_image(one, as_read(bare, first_id))
        first_id += len(image.annotations)


@settings(max_examples=20, deadline=None)
@given(labelled_sets())
def test_same_input_same_bytes(data: LabelledSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for write, read in ((write_coco, read_coco), (write_lvis, read_lvis)):
            files = [Path(folder) / f"{number}.json" for number in range(3)]
            again = through_file(files[0], write, read, data)
            write(files[1], data.categories, data.images)
            write(files[2], again.categories, again.images)
            assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


def test_coco_through_pycocotools(tmp_path: Path) -> None:
    data = small_set()
    write_coco(tmp_path / "labels.json", data.categories, data.images, {"run": "r1"})
    coco = COCO(str(tmp_path / "labels.json"))
    assert coco.getCatIds() == [1, 2, 3]
    assert coco.getImgIds() == [7, 9]
    assert coco.loadImgs(7)[0]["file_name"] == "a b/ñandú.jpg"
    first, second, third = coco.loadAnns(coco.getAnnIds(7))
    assert (first["id"], first["bbox"], first["score"]) == (1, [10, 5, 20, 10], 0.75)
    assert first["area"] == coco.annToMask(first).sum() == 190
    assert second["area"] == 1200
    assert second["segmentation"] == [[0, 0, 0, 30, 40, 30, 40, 0]]
    assert third["bbox"] == [39, 29, 1, 1]
    assert coco.dataset["info"] == {"run": "r1"}


def one_image(**values: object) -> LabelledImage:
    return LabelledImage(**{"id": 1, "file_name": "a.jpg", "width": 4, "height": 4, **values})


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (one_image(width=0), "expected a width and a height"),
        (one_image(file_name="../a.jpg"), "leaves the images' folder"),
        (one_image(attributes={"width": 3}), "may not be named width"),
        (one_image(annotations=(Annotation(2, (0, 0, 1, 1)),)), "category 2 is not in the"),
        (one_image(annotations=(Annotation(1, (3, 0, 1, 1)),)), "expected a box"),
        (one_image(annotations=(Annotation(1, (0, 0, float("nan"), 1)),)), "expected a box"),
        (one_image(annotations=(Annotation(1, (0, 0, 1, 1), float("nan")),)), "must be finite"),
        (
            one_image(annotations=(Annotation(1, (0, 0, 1, 1), mask=encode_mask(np.eye(5) > 0)),)),
            r"expected a mask of size \[4, 4\]",
        ),
        (
            one_image(annotations=(Annotation(1, (0, 0, 1, 1), id=5), Annotation(1, (0, 0, 1, 1)))),
            "either all annotations have an id",
        ),
    ],
)
@pytest.mark.parametrize("write", [write_coco, write_lvis])
def test_what_cannot_be_written_leaves_the_old_file(
    tmp_path: Path, write: Write, image: LabelledImage, expected: str
) -> None:
    path = tmp_path / "labels.json"
    path.write_text("old")
    with pytest.raises(InputError, match=expected):
        write(path, [Category(1, "cat")], [image])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_stop_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def images():
        yield one_image()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_coco(tmp_path / "labels.json", [Category(1, "cat")], images())
    assert not list(tmp_path.iterdir())


def test_no_images_is_a_valid_file(tmp_path: Path) -> None:
    write_coco(tmp_path / "new folder/labels.json", [Category(1, "cat")], [])
    top = json.loads((tmp_path / "new folder/labels.json").read_text())
    assert top["images"] == top["annotations"] == []
    assert COCO(str(tmp_path / "new folder/labels.json")).getCatIds() == [1]


def results_of(*values: dict[str, object]) -> str:
    return json.dumps(
        [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], **v} for v in values]
    )


def test_results_are_read_with_the_ids_of_the_ground_truth(tmp_path: Path) -> None:
    truth, path = small_set(), tmp_path / "results.json"
    path.write_text(results_of({"score": 0.5}, {"score": 1, "category_id": 1}))
    found = read_coco_results(path, truth)
    first, second = found.images
    assert found.categories == truth.categories
    assert first.annotations == (Annotation(2, (1, 2, 4, 6), 0.5), Annotation(1, (1, 2, 4, 6), 1.0))
    assert (first.id, first.unverified, second.id, second.annotations) == (7, (), 9, ())
    path.write_text("[]")
    assert not any(image.annotations for image in read_coco_results(path, truth).images)


def test_predictions_may_be_a_label_file_too(tmp_path: Path) -> None:
    data = small_set()
    write_coco(tmp_path / "labels.json", data.categories, data.images)
    assert read_coco_results(tmp_path / "labels.json", data) == read_coco(tmp_path / "labels.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[5]", r"results\[0\] must be an object, got 5"),
        (results_of({"score": 0.5}, {}), r'results\[1\]: "score" must be a number, got None'),
        (results_of({"score": 1, "image_id": 8}), r"results\[0\]: image_id or category_id is not"),
        (results_of({"score": 1, "bbox": [1, 2, 3]}), r"results\[0\]: .bbox. must be left, top"),
        ('[{"image_id": 7,', "line 1 is not JSON"),
        ("[] []", "there is more behind the end"),
        ('{"annotations": []}', 'no label file: expected an object with "images"'),
    ],
)
def test_a_broken_list_of_results_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_coco_results(path, small_set())
    assert str(caught.value).startswith(str(path))
