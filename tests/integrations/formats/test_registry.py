"""What holds for every format: all or nothing, names that stay inside, FiftyOne reads it."""

import dataclasses
from pathlib import Path

import pytest

from integrations.annotations import Category, LabelledImage
from integrations.formats.registry import FORMATS, format_named, read_labels, write_folder
from regionspot.errors import InputError
from tests.integrations.formats.factories import small_set
from tests.integrations.formats.helpers import (
    blank,
    names,
)

NEW = [name for name in FORMATS if name not in ("coco", "lvis")]
BY_NAME = [name for name in NEW if name != "parquet"]  # their classes have no ids


@pytest.mark.parametrize(
    ("name", "importer"),
    [
        ("yolo", "YOLOv5Dataset"),
        ("yolo-scores", "YOLOv5Dataset"),
        ("voc", "VOCDetectionDataset"),
        ("cvat", "CVATImageDataset"),
        ("fiftyone", "FiftyOneDataset"),
    ],
)
def test_fiftyone_reads_the_same_boxes(tmp_path: Path, name: str, importer: str) -> None:
    import fiftyone as fo

    data = small_set()
    out = tmp_path / "out"
    write_folder(out, format_named(name), data.categories, data.images, None, blank)
    options = {"data_path": "JPEGImages", "labels_path": "Annotations"} if name == "voc" else {}
    if name == "cvat":
        options = {"data_path": "images", "labels_path": "annotations.xml"}
    if name.startswith("yolo"):
        options = {"yaml_path": "data.yaml", "split": "val", "include_all_data": True}
    dataset = fo.Dataset.from_dir(str(out), getattr(fo.types, importer), progress=False, **options)
    if name.startswith("yolo"):  # its images are in two parts
        options["split"] = "train"
        kind = getattr(fo.types, importer)
        dataset.add_dir(dataset_dir=str(out), dataset_type=kind, progress=False, **options)
    try:
        found = []
        for sample in dataset:
            fields = [v for _, v in sample.iter_fields() if isinstance(v, fo.Detections)]
            for detection in (each for field in fields for each in field.detections):
                x, y, width, height = detection.bounding_box
                corners = (x * 40, y * 30, (x + width) * 40, (y + height) * 30)
                found.append((detection.label, corners))
        assert len(dataset) == 2
    finally:
        dataset.delete()
    expected = [(names(data)[each.category_id], each.box) for each in data.images[0].annotations]
    assert [word for word, _ in found] == [word for word, _ in expected]
    for (_, box), (_, corners) in zip(found, expected, strict=True):
        assert box == pytest.approx(corners, abs=1 if name == "voc" else 0.01)


@pytest.mark.parametrize("name", FORMATS)
def test_a_stop_on_the_way_leaves_nothing(tmp_path: Path, name: str) -> None:
    def images():
        yield small_set().images[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "out", format_named(name), small_set().categories, images())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_there_stays_unless_told_otherwise(tmp_path: Path, name: str) -> None:
    format, data, out = format_named(name), small_set(), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    write_folder(out, format, data.categories, data.images, None, blank)
    with pytest.raises(InputError, match="is there already"):
        write_folder(out, format, data.categories, data.images[:1], None, blank)
    write_folder(out, format, data.categories, data.images[:1], None, blank, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in out.iterdir()} == {*format.entries, format.images, "notes.txt"}
    labels = out / format.entries[0] if format.is_file else out
    assert len(format.read(labels, out / format.images).images) == 1


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("file_name", ["../a.jpg", "/etc/passwd", "C:\\a.jpg"])
def test_a_path_that_leaves_the_folder_is_not_written(
    tmp_path: Path, name: str, file_name: str
) -> None:
    image = LabelledImage(1, file_name, 4, 4)
    with pytest.raises(InputError):
        write_folder(
            tmp_path / "out", format_named(name), [Category(1, "cat")], [image], None, blank
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "file_name", ["a\nb.png", "\x1b]0;a.png", " b.png", ".b/c.png", "[/b].png"]
)
def test_an_image_whose_name_cannot_be_held_is_left_out_and_counted(
    tmp_path: Path, name: str, file_name: str
) -> None:
    data, out, format = small_set(), tmp_path / "out", format_named(name)
    odd = dataclasses.replace(data.images[0], id=99, file_name=file_name)
    tally = write_folder(out, format, data.categories, [odd, *data.images], None, blank)
    left_out = sum(each.count for (kind, _), each in tally.left_out.items() if kind == "image")
    found = format.read(out / format.entries[0] if format.is_file else out, out / format.images)
    assert len(found.images) == tally.images == len(data.images) + 1 - left_out
    assert (file_name in {image.file_name for image in found.images}) == (left_out == 0)
    assert sum(path.is_file() for path in (out / format.images).rglob("*")) == tally.images
    assert left_out == 0 or name.startswith(("yolo", "voc", "cvat"))


@pytest.mark.parametrize("name", BY_NAME)
def test_two_words_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    categories = [Category(1, "cat"), Category(2, "cat")]
    with pytest.raises(InputError, match="two categories are named 'cat'"):
        write_folder(tmp_path / "out", format_named(name), categories, [])


@pytest.mark.parametrize("name", ["coco", "lvis", "label-studio"])
def test_the_only_json_file_of_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    format, data = format_named(name), small_set()
    write_folder(tmp_path, format, data.categories, data.images)
    (tmp_path / format.entries[0]).rename(tmp_path / "project-1-at-2026-11-26.json")
    assert len(read_labels(format, tmp_path).images) == len(data.images)
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"got other\.json, project-1-at-2026-11-26\.json"):
        read_labels(format, tmp_path)


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(InputError, match="unknown format 'tfrecord'; known are coco, lvis, yolo"):
        format_named("tfrecord")


@pytest.mark.parametrize("name", BY_NAME)
def test_a_refusal_names_the_folder_that_was_asked_for(tmp_path: Path, name: str) -> None:
    categories = [Category(1, "cup"), Category(2, "cup")]
    out = tmp_path / "out"
    with pytest.raises(InputError, match=rf"^{out}: two categories are named 'cup'"):
        write_folder(out, format_named(name), categories, [LabelledImage(1, "a.jpg", 40, 30)])
    assert not list(tmp_path.iterdir())
