"""The images of each kind of source, and what is refused before any work."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from autolabel.run.images import is_same_content, open_source
from regionspot.errors import InputError


def write_image(path: Path, size: tuple[int, int] = (4, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def write_coco(path: Path, *names: str) -> Path:
    images = [
        {"id": 10 * number, "file_name": name, "width": 4, "height": 3}
        for number, name in enumerate(names, start=1)
    ]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return path


def test_a_folder_is_searched_through_and_counted_from_1(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/ä ö.png", "a/notes.txt.webp", "c/d/e.JPEG"):
        write_image(tmp_path / "pets" / name)
    (tmp_path / "pets" / "readme.md").write_text("no image")
    source = open_source(str(tmp_path / "pets"))
    found = [(image.id, image.file_name) for image in source.images]
    assert found == [(1, "a/notes.txt.webp"), (2, "a/ä ö.png"), (3, "b.jpg"), (4, "c/d/e.JPEG")]
    assert source.name == "pets"
    assert all(source.path(image).is_file() for image in source.images)


def test_an_image_that_label_files_may_not_name_is_skipped(tmp_path: Path) -> None:
    odd = "a\\..\\x.jpg"
    for name in ("1:30.jpg", odd):
        write_image(tmp_path / name)
    (tmp_path / "list.txt").write_text(f"1:30.jpg\n{odd}\n")
    for source in (open_source(str(tmp_path)), open_source(str(tmp_path / "list.txt"))):
        assert [image.file_name for image in source.images] == ["1:30.jpg"]
        (skipped,) = source.skipped
        assert skipped.file_name == odd
        assert skipped.reason.endswith("leaves the images' folder; rename it")


def test_a_coco_file_keeps_its_ids(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "x.jpg")
    path = write_coco(tmp_path / "instances.json", "x.jpg", "gone.jpg")
    source = open_source(str(path), tmp_path / "images")
    assert [(image.id, image.file_name) for image in source.images] == [
        (10, "x.jpg"),
        (20, "gone.jpg"),
    ]


def test_the_sizes_that_a_coco_file_states_are_kept_and_hashed(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "x.jpg")
    path = write_coco(tmp_path / "instances.json", "x.jpg")
    before = open_source(str(path), tmp_path / "images")
    assert [(image.width, image.height) for image in before.images] == [(4, 3)]
    path.write_text(path.read_text().replace('"height": 3', '"height": 30'))
    after = open_source(str(path), tmp_path / "images")
    assert after.images == before.images
    assert after.sha256() != before.sha256()


def test_the_hash_tells_other_images(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png")
    before = open_source(str(tmp_path)).sha256()
    assert open_source(str(tmp_path)).sha256() == before
    write_image(path, (90, 90))
    changed = open_source(str(tmp_path)).sha256()
    write_image(tmp_path / "b.png")
    assert len({before, changed, open_source(str(tmp_path)).sha256()}) == 3


def test_what_is_no_source_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    image = write_image(tmp_path / "images" / "x.jpg")
    notes = tmp_path / "images" / "notes.md"
    notes.write_text("no image")
    twice = write_coco(tmp_path / "twice.json", "x.jpg", "x.jpg")
    outside = write_coco(tmp_path / "outside.json", "../x.jpg")
    for given, images, message in (
        (tmp_path / "none", None, "none is not there: give a folder of images"),
        (tmp_path / "empty", None, "empty holds no image"),
        (notes, None, "notes.md is no image; give a folder of images, an image"),
        (tmp_path / "none.json", tmp_path, "none.json cannot be read"),
        (twice, None, "needs --images DIR"),
        (twice, tmp_path / "no", "no is not there: give the folder of the images with --images"),
        (twice, image.parent, "lists 'x.jpg' under more than one id"),
        (outside, image.parent, "leaves the images' folder"),
        (image.parent, image.parent, "--images goes with a COCO JSON"),
        ("fiftyone:no such dataset", None, "no dataset 'no such dataset'"),
    ):
        with pytest.raises(InputError) as caught:
            open_source(str(given), images)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_image_replaced_by_one_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"  # uncompressed: images of one size have as many bytes
    Image.new("RGB", (200, 200), "red").save(path)
    before, size = open_source(str(tmp_path)).sha256(), path.stat().st_size
    Image.new("RGB", (200, 200), "blue").save(path)
    assert path.stat().st_size == size
    assert open_source(str(tmp_path)).sha256() != before


def test_a_single_image_is_a_source(tmp_path: Path) -> None:
    image = write_image(tmp_path / "pets" / "my cat.jpg")
    write_image(tmp_path / "pets" / "other.jpg")
    source = open_source(str(image))
    assert [(each.id, each.file_name) for each in source.images] == [(1, "my cat.jpg")]
    assert (source.kind, source.name, source.root) == ("files", "my cat", image.parent)


@pytest.mark.parametrize(
    "content",
    [
        b"./b.jpg\na/c d.png\n",
        b"./b.jpg\na/c d.png",
        b"\xef\xbb\xbfb.jpg\r\n\r\na/../a/c d.png\r\n",
        b"b.jpg\0a/c d.png\0",
    ],
)
def test_a_list_keeps_its_order_from_a_file_and_from_standard_input(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "pets" / "b.jpg")
    write_image(tmp_path / "pets" / "a" / "c d.png")
    listed = tmp_path / "pets" / "new.txt"
    listed.write_bytes(content)
    expected = [(1, "b.jpg"), (2, "a/c d.png")]
    source = open_source(str(listed))
    assert [(each.id, each.file_name) for each in source.images] == expected
    assert (source.kind, source.name, source.root) == ("files", "new", tmp_path / "pets")
    monkeypatch.chdir(tmp_path / "pets")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    source = open_source("-")
    assert [(each.id, each.file_name) for each in source.images] == expected
    assert (source.name, source.root) == ("pets", tmp_path / "pets")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "new.txt holds no image"),
        (b"x.jpg\n\nnone.jpg\n", "new.txt: line 3: {folder}/none.jpg is not there"),
        (b"x.jpg\0none.jpg\0", "new.txt: entry 2: {folder}/none.jpg is not there"),
        (b"x.jpg\n.\n", "new.txt: line 2: {folder} is a folder"),
        (b"x.jpg\n\xff.jpg\n", "new.txt: line 2 is not UTF-8"),
        (b"x.jpg\n../images/x.jpg\n", "new.txt lists 'x.jpg' under more than one id"),
    ],
)
def test_a_wrong_list_is_refused_by_its_place(content: bytes, message: str, tmp_path: Path) -> None:
    folder = write_image(tmp_path / "images" / "x.jpg").parent
    (folder / "new.txt").write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_source(str(folder / "new.txt"))
    assert message.format(folder=folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_is_compared_by_all_bytes_where_both_sides_know_them() -> None:
    assert is_same_content("9-ab cd", "9-ab")
    assert is_same_content("9-ab cd", "9-ab cd")
    assert not is_same_content("9-ab cd", "9-ab ce")
    assert not is_same_content("9-ab cd", "9-ac")
    assert not is_same_content("9-ab", "9-ab"), "a run of before, whose bytes nobody knows"
