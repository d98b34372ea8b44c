"""What is written is what was meant: read back, and by the packages that the field uses."""

import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from lvis import LVIS
from pycocotools.coco import COCO

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    area,
    as_rle,
    labelled_image,
    vocabulary_categories,
)
from integrations.formats.coco import read_coco, write_coco
from integrations.formats.lvis import read_lvis, write_lvis
from regionspot.errors import InputError
from regionspot.types import Labels, decode_mask, encode_mask
from tests.integrations.formats.factories import labelled_sets, small_set

Write = Callable[..., object]


def through(file: Path, write: Write, read: Callable[[Path], LabelledSet], data: LabelledSet):
    write(file, data.categories, iter(data.images))
    return read(file)


def as_read(
    image: LabelledImage, first_id: int, keep: Callable[[Annotation], bool] = lambda _: True
) -> LabelledImage:
    """The image as a reader gives it: ids counted, areas worked out."""
    kept = [each for each in image.annotations if keep(each)]
    return dataclasses.replace(
        image,
        annotations=tuple(
            dataclasses.replace(each, id=number, area=area(each, image.width, image.height))
            for number, each in enumerate(kept, start=first_id)
        ),
    )


def assert_same_image(found: LabelledImage, expected: LabelledImage) -> None:
    assert len(found.annotations) == len(expected.annotations)
    for one, other in zip(found.annotations, expected.annotations, strict=True):
        assert one.box == pytest.approx(other.box, abs=1e-4)
        assert dataclasses.replace(one, box=other.box) == other
    assert dataclasses.replace(found, annotations=expected.annotations) == expected


@settings(max_examples=60, deadline=None)
@given(labelled_sets())
def test_coco_keeps_all_that_it_can_hold(data: LabelledSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = through(Path(folder) / "labels.json", write_coco, read_coco, data)
        COCO(str(Path(folder) / "labels.json"))
    assert [(one.id, one.name, one.supercategory) for one in found.categories] == [
        (one.id, one.name, one.supercategory) for one in data.categories
    ]
    first_id = 1
    for one, image in zip(found.images, data.images, strict=True):
        bare = dataclasses.replace(image, absent=(), unverified=())
        assert_same_image(one, as_read(bare, first_id))
        first_id += len(image.annotations)


@settings(max_examples=60, deadline=None)
@given(labelled_sets())
def test_lvis_keeps_all_that_it_can_hold(data: LabelledSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = through(Path(folder) / "labels.json", write_lvis, read_lvis, data)
        LVIS(str(Path(folder) / "labels.json"))
    for one, category in zip(found.categories, data.categories, strict=True):
        known = dataclasses.replace(category, supercategory="")
        assert dataclasses.replace(one, frequency=category.frequency) == known
        assert one.frequency == (category.frequency or "r")
    first_id = 1
    for one, image in zip(found.images, data.images, strict=True):
        crowds = {each.category_id for each in image.annotations if each.is_crowd}
        assert set(one.unverified) == crowds.union(image.unverified)
        expected = as_read(image, first_id, lambda each: not each.is_crowd)
        named = {**image.attributes, "coco_url": image.file_name}
        expected = dataclasses.replace(expected, unverified=one.unverified, attributes=named)
        assert_same_image(one, expected)
        first_id += len(one.annotations)


@settings(max_examples=20, deadline=None)
@given(labelled_sets())
def test_same_input_same_bytes(data: LabelledSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for write, read in ((write_coco, read_coco), (write_lvis, read_lvis)):
            files = [Path(folder) / f"{number}.json" for number in range(3)]
            again = through(files[0], write, read, data)
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
    assert "segmentation" not in second
    assert third["bbox"] == [39, 29, 1, 1]
    assert coco.dataset["info"] == {"run": "r1"}


def test_lvis_through_the_lvis_package(tmp_path: Path) -> None:
    data = small_set()
    write_lvis(tmp_path / "labels.json", data.categories, data.images)
    lvis = LVIS(str(tmp_path / "labels.json"))
    first = lvis.load_anns(lvis.get_ann_ids(img_ids=[7]))[0]
    assert lvis.ann_to_mask(first).sum() == 190
    for image in lvis.load_imgs([7, 9]):
        assert image["neg_category_ids"] == []
        assert image["not_exhaustive_category_ids"] == [1, 2, 3]
        assert image["coco_url"] == image["file_name"]
    assert lvis.load_cats([1]) == [
        {
            "id": 1,
            "name": "cat",
            "synonyms": ["cat", "kitty"],
            "synset": "",
            "def": "",
            "frequency": "r",
            "image_count": 1,
            "instance_count": 2,
        }
    ]
    assert (lvis.cats[3]["image_count"], lvis.cats[3]["instance_count"]) == (0, 0)


@pytest.mark.parametrize(("images", "frequency"), [(10, "r"), (11, "c"), (100, "c"), (101, "f")])
def test_frequency_follows_the_paper(tmp_path: Path, images: int, frequency: str) -> None:
    one = LabelledImage(0, "a.jpg", 4, 4, (Annotation(1, (0, 0, 4, 4)),))
    many = (dataclasses.replace(one, id=number) for number in range(images))
    write_lvis(tmp_path / "labels.json", [Category(1, "cat")], many)
    category = read_lvis(tmp_path / "labels.json").categories[0]
    assert category.frequency == frequency


def test_labels_of_a_model_become_annotations(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.bool_)
    mask[5:15, 10:30] = True
    labels = Labels(
        boxes=np.array([[10.12345, 5, 30, 15], [0, 0, 40, 30]], np.float32),
        class_id=np.array([1, 0]),
        score=np.array([0.9, 0.8], np.float32),
        runner_up=np.array([0, 1]),
        margin=np.array([0.5, 0.25], np.float32),
        presence=np.array([0.7, 0.1], np.float32),
        names=("cat", "Äpfel"),
        masks=(encode_mask(mask), encode_mask(~mask)),
    )
    image = labelled_image(labels, np.array([0.45, 0.4], np.float32), 5, "a.jpg", 40, 30)
    first, second = image.annotations
    assert first.box == (10.123, 5, 30, 15)
    assert (first.category_id, first.score) == (2, 0.45)
    assert first.attributes == {"runner_up": "cat", "margin": 0.5, "presence": 0.7}
    assert second.category_id == 1
    assert image.unverified == (1, 2)
    assert image.absent == ()
    categories = vocabulary_categories(labels.names)
    write_lvis(tmp_path / "labels.json", categories, [image])
    (found,) = read_lvis(tmp_path / "labels.json").images
    rle = as_rle(found.annotations[0].mask, 40, 30)
    assert (decode_mask(rle) == mask).all()


def test_vocabulary_gives_stable_ids() -> None:
    categories = vocabulary_categories(["dog", "cat"], [("dog",), ("cat", "kitty")])
    assert [(one.id, one.name, one.synonyms) for one in categories] == [
        (1, "dog", ()),
        (2, "cat", ("kitty",)),
    ]


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
