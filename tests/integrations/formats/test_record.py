"""Records that do not hold together are refused with one line that names file and record."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integrations.annotations import ReadOptions
from integrations.formats.coco import read_coco
from integrations.formats.record import Record
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
        (setting("annotations", bbox=[1, 2, 3]), "annotations[0]", "left, top, width, height"),
        (setting("annotations", bbox=[0, 0, "1", 2]), "annotations[0]", "must be a number"),
        (setting("annotations", bbox=[0, 0, 10**400, 2]), "annotations[0]", "must be finite"),
        (setting("annotations", score="high"), "annotations[0]", '"score" must be a number'),
        (setting("annotations", segmentation="x"), "annotations[0]", "polygons or run lengths"),
        (setting("annotations", segmentation=[5]), "annotations[0]", "lists of x, y"),
        (setting("annotations", segmentation=[[1, 2, 3]]), "annotations[0]", "lists of x, y"),
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
        *(
            (setting("annotations", segmentation={"size": [2, 4], "counts": counts}), *wrong)
            for counts, wrong in (
                ("b'R52^20n_7'", ("annotations[0]", "do not fill 2 x 4 pixels")),
                ("R52^20n_7", ("annotations[0]", "do not fill 2 x 4 pixels")),
                ("oooooooooooo0", ("annotations[0]", "a run is longer than any image")),
                ("oooooo0", ("annotations[0]", "do not fill 2 x 4 pixels")),
                ("8o", ("annotations[0]", "not compressed run lengths")),
                ("é", ("annotations[0]", "not compressed run lengths")),
                ("", ("annotations[0]", "not compressed run lengths")),
                ([9, -1], ("annotations[0]", "add up to the size")),
                ([10**30], ("annotations[0]", "at most 63 bits")),
            )
        ),
        *(
            (setting("annotations", segmentation={"size": size, "counts": "8"}), *wrong)
            for size, wrong in (
                ([2], ("annotations[0]", "must have the size [2, 4]")),
                ([-2, -4], ("annotations[0]", "must have the size [2, 4]")),
                ("24", ("annotations[0]", '"size" must be a list')),
                ([2, None], ("annotations[0]", '"size" must be a number')),
            )
        ),
        (setting("annotations", segmentation=[[1e10] * 6]), "annotations[0]", "no image can have"),
        (setting("annotations", bbox=[0, 0, 1e300, 2]), "annotations[0]", "near its image"),
        (setting("annotations", iscrowd="0"), "annotations[0]", '"iscrowd" must be 0 or 1'),
        (setting("annotations", area="9"), "annotations[0]", '"area" must be a number'),
        (setting("annotations", area=float("nan")), "", "NaN is not JSON"),
        (
            setting("annotations", attributes={"rotation": "x"}),
            "annotations[0]",
            "must be in degrees",
        ),
        (setting("annotations", note="\ud800"), "annotations[0]", "half of a character"),
        (setting("annotations", notes=["\ud800"]), "annotations[0]", "whole characters"),
        (setting("categories", name="\ud800"), "categories[0]", "half of a character"),
        (setting("images", width=10**12), "images[0]", "the side of an image"),
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


def test_ids_that_are_texts_are_numbered(tmp_path: Path) -> None:
    def change(top: Any) -> None:
        top["images"][0]["id"] = "3f-camera"
        top["categories"][0]["id"] = "7"
        top["annotations"][0] |= {"image_id": "3f-camera", "category_id": "7", "id": "a1"}

    data = read_coco(written(tmp_path, change))
    (image,) = data.images
    assert (image.id, data.categories[0].id) == (1, 7)
    assert [annotation.category_id for annotation in image.annotations] == [7]
    counted = " ".join(data.tally.lines())
    for what in ("id of an image: it is a text", "id of a category: its number", "an annotation"):
        assert what in counted


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (setting("annotations", image_id=4), "image_id is not among"),
        (setting("annotations", image_id=None), "image_id is not among"),
        (setting("annotations", category_id=4), "category_id is not among"),
        (setting("annotations", category_id=None), "category_id is not among"),
        (setting("annotations", bbox=None), "neither a box nor a mask"),
        (setting("annotations", bbox=[], segmentation=[]), "neither a box nor a mask"),
        (setting("annotations", bbox=[0, 0, -1, 2]), "negative width"),
    ],
)
def test_one_label_that_means_nothing_is_left_out_and_counted(
    tmp_path: Path, change: Callable[[Any], object], left: str
) -> None:
    def two(top: Any) -> None:
        top["annotations"].append(top["annotations"][0] | {"id": 9})
        change(top)

    path = written(tmp_path, two)
    data = read_coco(path)
    assert [each.id for each in data.images[0].annotations] == [9]
    (line,) = data.tally.lines()
    assert line.startswith("left out: 1 x label: ")
    assert left in line
    assert f"{path}: annotations[0]" in line
    with pytest.raises(InputError, match=r"annotations\[0\].*--strict"):
        read_coco(path, None, ReadOptions(strict=True))


POLYGON = [0, 0, 3, 0, 3, 2]


@pytest.mark.parametrize(
    ("change", "mended", "expected"),
    [
        (
            lambda top: top["annotations"].append(top["annotations"][0]),
            "changed: 1 x id of an annotation: it is there twice",
            [(8, (0, 0, 2, 2)), (9, (0, 0, 2, 2))],
        ),
        (
            setting("annotations", id=None),
            "changed: 1 x id of an annotation: it is missing or a text",
            [(1, (0, 0, 2, 2))],
        ),
        (
            setting("annotations", segmentation=[POLYGON, [1, 1, 2, 2]]),
            "left out: 1 x polygon: it has fewer than three corners",
            [(8, (0, 0, 2, 2))],
        ),
        (
            setting("annotations", bbox=[], segmentation=[POLYGON]),
            "changed: 1 x box: it is missing or reversed; that of the mask",
            [(8, (0, 0, 3, 2))],
        ),
        (
            setting("annotations", bbox=None, segmentation={"size": [2, 4], "counts": [2, 2, 4]}),
            "changed: 1 x box: it is missing or reversed; that of the mask",
            [(8, (1, 0, 2, 2))],
        ),
        (
            setting("annotations", area=-1),
            "changed: 1 x area: it is negative",
            [(8, (0, 0, 2, 2))],
        ),
    ],
)
def test_a_blemish_is_mended_and_counted(
    tmp_path: Path,
    change: Callable[[Any], object],
    mended: str,
    expected: list[tuple[int, tuple[float, ...]]],
) -> None:
    path = written(tmp_path, change)
    data = read_coco(path)
    assert [(each.id, each.box) for each in data.images[0].annotations] == expected
    (line,) = data.tally.lines()
    assert line.startswith(mended)
    with pytest.raises(InputError, match="--strict"):
        read_coco(path, None, ReadOptions(strict=True))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_of_unicode_are_read(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, setting("categories", name="Äpfel"))
    path.write_text(path.read_text(), encoding=encoding)
    assert read_coco(path).categories[0].name == "Äpfel"


@pytest.mark.parametrize("content", ["[" * 100_000, '{"images": ' + "9" * 6000 + "}"])
def test_what_no_parser_takes_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"labels\.json") as caught:
        read_coco(path)
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


def test_a_message_does_not_grow_with_the_value_that_it_quotes(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        Record(tmp_path / "a.json", "images", 3, {}).refuse("x" * 6000)
    assert str(caught.value).startswith(f"{tmp_path}/a.json: images[3]: xxx")
    assert len(str(caught.value)) < 1000
