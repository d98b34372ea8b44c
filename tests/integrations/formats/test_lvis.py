"""LVIS: what it can hold there and back, as its own package reads it; frequencies; refusals."""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from lvis import LVIS

from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from integrations.formats.coco import read_coco_images
from integrations.formats.lvis import read_lvis, stream_lvis, write_lvis
from regionspot.errors import InputError
from tests.integrations.formats.factories import labelled_sets, small_set
from tests.integrations.formats.helpers import as_read, assert_same_image, through_file, written


@settings(max_examples=60, deadline=None)
@given(labelled_sets())
def test_lvis_keeps_all_that_it_can_hold(data: LabelledSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = through_file(Path(folder) / "labels.json", write_lvis, read_lvis, data)
        LVIS(str(Path(folder) / "labels.json"))
    for one, category in zip(found.categories, data.categories, strict=True):
        assert dataclasses.replace(one, frequency=category.frequency) == category
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


def test_lvis_must_say_what_was_verified(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'"neg_category_ids" is missing, .* read it as COCO'):
        read_lvis(written(tmp_path, lambda top: None))


def test_lvis_v1_names_images_by_address(tmp_path: Path) -> None:
    def as_v1(top: Any) -> None:
        del top["images"][0]["file_name"]
        top["images"][0].update(
            coco_url="http://images.cocodataset.org/val2017/000000397133.jpg",
            neg_category_ids=[1],
            not_exhaustive_category_ids=[],
        )

    (image,) = read_lvis(written(tmp_path, as_v1)).images
    assert image.file_name == "000000397133.jpg"
    assert image.absent == (1,)


def test_images_of_two_splits_are_found_by_the_folder_of_their_address(tmp_path: Path) -> None:
    def as_v1(top: Any) -> None:
        first = top["images"][0]
        del first["file_name"]
        first.update(neg_category_ids=[], not_exhaustive_category_ids=[])
        address = "http://images.cocodataset.org"
        first["coco_url"] = f"{address}/val2017/000000000139.jpg"
        top["images"].append(first | {"id": 4, "coco_url": f"{address}/train2017/000000000139.jpg"})

    path = written(tmp_path, as_v1)
    for split in ("val2017", "train2017"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "000000000139.jpg").touch()
    names = ["val2017/000000000139.jpg", "train2017/000000000139.jpg"]
    assert [each.file_name for each in read_lvis(path, tmp_path).images] == names
    assert [each.file_name for each in read_coco_images(path, tmp_path)] == names
    assert read_lvis(path, tmp_path / "val2017").images[0].file_name == "000000000139.jpg"


def test_a_file_of_ours_is_read_in_the_memory_of_one_image(tmp_path: Path) -> None:
    path, data = tmp_path / "labels.json", small_set()
    write_lvis(path, data.categories, data.images[::-1])
    assert tuple(stream_lvis(path)) == read_lvis(path).images
    top = json.loads(path.read_text(encoding="utf-8"))
    top["annotations"][1]["image_id"] = 9
    path.write_text(json.dumps(top), encoding="utf-8")
    with pytest.raises(InputError, match=r"annotations\[\d\]: annotations must follow the order"):
        list(stream_lvis(path))
