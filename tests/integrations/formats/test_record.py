"""Records that do not hold together are refused with one line that names file and record."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integrations.formats.coco import read_coco
from regionspot.errors import InputError
from regionspot.types import decode_mask
from tests.integrations.formats.helpers import GOOD, written


def setting(group: str, **values: object) -> Callable[[Any], None]:
    return lambda top: top[group][0].update(values)


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (lambda top: top.pop("images"), "", "no label file"),
        (lambda top: top.update(images={}), "", '"images" must be a list, got dict'),
        (lambda top: top.update(annotations=[5]), "annotations[0]", "must be an object"),
        (lambda top: top["images"].append(top["images"][0]), "images[1]", "id 3 is there twice"),
        (
            lambda top: top["annotations"].append(top["annotations"][0]),
            "annotations[1]",
            "id 8 is there twice",
        ),
        (setting("images", id="3"), "images[0]", "\"id\" must be a number, got '3'"),
        (setting("images", id=True), "images[0]", '"id" must be a number'),
        (setting("images", id=1.5), "images[0]", '"id" must be a whole number'),
        (setting("images", width=-1), "images[0]", '"width" must be 1 or more'),
        (setting("images", file_name=None), "images[0]", '"file_name" must be a string'),
        (setting("images", file_name=""), "images[0]", "not the name of a file"),
        (setting("images", file_name="/etc/passwd"), "images[0]", "is absolute"),
        (setting("images", file_name="C:\\a.jpg"), "images[0]", "is absolute"),
        (setting("images", file_name="a/../../b.jpg"), "images[0]", "leaves the images' folder"),
        (setting("images", file_name="..\\b.jpg"), "images[0]", "leaves the images' folder"),
        (setting("images", file_name="a\0b"), "images[0]", "not the name of a file"),
        (setting("images", file_name="\ud800"), "images[0]", "not the name of a file"),
        (setting("images", neg_category_ids=3), "images[0]", "must be a list"),
        (setting("annotations", image_id=4), "annotations[0]", "image_id 4 is not among"),
        (setting("annotations", image_id=None), "annotations[0]", '"image_id" must be a number'),
        (setting("annotations", category_id=4), "annotations[0]", "category_id 4 is not among"),
        (setting("annotations", id=None), "annotations[0]", '"id" must be a number'),
        (setting("annotations", bbox=[1, 2, 3]), "annotations[0]", "left, top, width, height"),
        (setting("annotations", bbox=None), "annotations[0]", "left, top, width, height"),
        (setting("annotations", bbox=[0, 0, -1, 2]), "annotations[0]", "no negative width"),
        (setting("annotations", bbox=[0, 0, "1", 2]), "annotations[0]", "must be a number"),
        (setting("annotations", bbox=[0, 0, 10**400, 2]), "annotations[0]", "must be finite"),
        (setting("annotations", score="high"), "annotations[0]", '"score" must be a number'),
        (setting("annotations", segmentation="x"), "annotations[0]", "polygons or run lengths"),
        (setting("annotations", segmentation=[5]), "annotations[0]", "lists of x, y"),
        (setting("annotations", segmentation=[[1, 2, 3]]), "annotations[0]", "lists of x, y"),
        (setting("annotations", segmentation=[[1] * 4]), "annotations[0]", "three corners"),
        (
            setting("annotations", segmentation={"size": [4, 2], "counts": "08"}),
            "annotations[0]",
            "must have the size [2, 4]",
        ),
        (
            setting("annotations", segmentation={"size": [2, 4], "counts": [3]}),
            "annotations[0]",
            "add up to the size",
        ),
        (setting("annotations", segmentation={"size": [2, 4]}), "annotations[0]", "have counts"),
        (setting("categories", name=5), "categories[0]", '"name" must be a string'),
        (setting("categories", synonyms=[5]), "categories[0]", "list of strings"),
        (lambda top: top["categories"].append({"id": 1, "name": "x"}), "categories[1]", "twice"),
    ],
)
def test_record_is_named(
    tmp_path: Path, change: Callable[[Any], object], where: str, what: str
) -> None:
    path = written(tmp_path, change)
    with pytest.raises(InputError) as caught:
        read_coco(path)
    assert str(caught.value).startswith(f"{path}: {where}" if where else str(path))
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_linked_folder_out_of_the_images_folder_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, lambda top: None)
    folder, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a.jpg").touch()
    assert read_coco(path, folder).images[0].file_name == "sub/a.jpg"
    (folder / "sub").symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"images\[0\]: file_name 'sub/a.jpg' leaves .* by a link"):
        read_coco(path, folder)


def test_coco_without_labels_or_sizes(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"images": [{"id": 5, "file_name": "a.jpg"}]}')
    data = read_coco(path)
    assert data.categories == ()
    assert (data.images[0].width, data.images[0].height) == (0, 0)


def test_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert read_coco(path).images[0].id == 3


def test_uncompressed_run_lengths(tmp_path: Path) -> None:
    change = setting("annotations", iscrowd=1, segmentation={"size": [2, 4], "counts": [1, 2, 5]})
    (annotation,) = read_coco(written(tmp_path, change)).images[0].annotations
    assert annotation.is_crowd
    assert isinstance(annotation.mask, dict)
    assert decode_mask(annotation.mask).tolist() == [
        [False, True, False, False],
        [True, False, False, False],
    ]
