"""YOLO, Pascal VOC, CVAT, Label Studio and FiftyOne's own: nothing is lost that they can hold."""

import dataclasses
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet, as_rle
from integrations.fiftyone.labels import window
from integrations.formats.registry import FORMATS, format_named, write_folder
from integrations.formats.xml import attribute_text, parse_attribute
from regionspot.errors import InputError
from regionspot.types import decode_mask, encode_mask
from tests.integrations.formats.factories import labelled_sets, small_set

NEW = [name for name in FORMATS if name not in ("coco", "lvis")]
_HARD = re.compile("[^ \x21-\x7e\u00a1-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]")


def plain(data: LabelledSet) -> LabelledSet:
    """The set with names that XML can hold, that differ, and that are no hidden files."""

    def text(name: str) -> str:
        return _HARD.sub("_", name)

    def clean(values: dict[str, object]) -> dict[str, object]:
        return {k: text(v) if isinstance(v, str) else v for k, v in values.items()}

    categories = tuple(
        dataclasses.replace(each, name=f"{text(each.name)}{index}")
        for index, each in enumerate(data.categories)
    )
    images = []
    for image in data.images:
        parts = [f"ä{text(part)}ü" for part in image.file_name.split("/")]
        annotations = tuple(
            dataclasses.replace(each, attributes=clean(each.attributes), area=None)
            for each in image.annotations
        )
        images.append(
            dataclasses.replace(
                image,
                file_name="/".join([*parts[:-1], f"{parts[-1]}-{image.id}.png"]),
                annotations=annotations,
                attributes=clean(image.attributes),
            )
        )
    return LabelledSet(categories, tuple(images))


def blank(image: LabelledImage, path: Path) -> None:
    Image.new("1", (image.width, image.height)).save(path)


def through(name: str, data: LabelledSet) -> LabelledSet:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sub" / "über"
        format = format_named(name)
        write_folder(out, format, data.categories, data.images, {"model": "m"}, blank)
        for entry in (*format.entries, format.images):
            assert (out / entry).exists() or not data.images
        return format.read(out, out / format.images)


def names(data: LabelledSet) -> dict[int, str]:
    return {category.id: category.name for category in data.categories}


def assert_holds(
    found: LabelledSet,
    data: LabelledSet,
    keep: Callable[[Annotation], bool],
    pixels: float,
    compare: Callable[[Annotation, Annotation, LabelledImage], None],
) -> None:
    by_name = {image.file_name: image for image in found.images}
    assert len(by_name) == len(data.images)
    for image in data.images:
        one = by_name[image.file_name]
        assert (one.width, one.height) == (image.width, image.height)
        kept = [each for each in image.annotations if keep(each)]
        assert len(one.annotations) == len(kept)
        for label, expected in zip(one.annotations, kept, strict=True):
            assert names(found)[label.category_id] == names(data)[expected.category_id]
            assert label.box == pytest.approx(expected.box, abs=pixels)
            compare(label, expected, image)


def same_mask(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
    assert (label.mask is None) == (expected.mask is None)
    if label.mask is not None and expected.mask is not None:
        size = (image.width, image.height)
        assert as_rle(label.mask, *size) == as_rle(expected.mask, *size)


@pytest.mark.parametrize("name", ["yolo", "yolo-scores"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=labelled_sets().map(plain))
def test_yolo(name: str, data: LabelledSet) -> None:
    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        assert label.score == (expected.score if name == "yolo-scores" else None)

    found = through(name, data)
    assert [each.name for each in found.categories] == [each.name for each in data.categories]
    assert_holds(found, data, lambda each: not each.is_crowd, 0.01, compare)


@settings(max_examples=25, deadline=None)
@given(data=labelled_sets().filter(lambda data: data.images).map(plain))
def test_voc(data: LabelledSet) -> None:
    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        assert label.score == expected.score
        assert label.attributes.get("occluded") == (
            parse_attribute(attribute_text(expected.attributes.get("occluded")))
        )

    found = through("voc", data)
    assert_holds(found, data, lambda each: not each.is_crowd, 1, compare)


@settings(max_examples=40, deadline=None)
@given(data=labelled_sets().map(plain))
def test_cvat(data: LabelledSet) -> None:
    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        assert (label.score, label.is_crowd) == (expected.score, expected.is_crowd)
        assert label.attributes == {
            key: parse_attribute(attribute_text(value))
            for key, value in expected.attributes.items()
        }
        same_mask(label, expected, image)

    found = through("cvat", data)
    assert [each.name for each in found.categories] == [each.name for each in data.categories]
    assert [each.id for each in found.images] == [each.id for each in data.images]
    assert_holds(found, data, lambda each: True, 0.01, compare)


@settings(max_examples=40, deadline=None)
@given(data=labelled_sets().map(plain))
def test_label_studio(data: LabelledSet) -> None:
    numbered = number_labels(data)

    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        kept = dataclasses.replace(label, box=expected.box, mask=expected.mask)
        assert dataclasses.replace(kept, category_id=expected.category_id) == expected
        same_mask(label, expected, image)

    found = through("label-studio", numbered)
    assert [each.name for each in found.categories] == [each.name for each in data.categories]
    for one, image in zip(found.images, data.images, strict=True):
        assert dataclasses.replace(one, annotations=image.annotations) == image
    assert_holds(found, numbered, lambda each: True, 0.01, compare)


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


def number_labels(data: LabelledSet) -> LabelledSet:
    """With ids, counted over all images."""
    images, first = [], 1
    for image in data.images:
        numbered = tuple(
            dataclasses.replace(each, id=number)
            for number, each in enumerate(image.annotations, start=first)
        )
        first += len(numbered)
        images.append(dataclasses.replace(image, annotations=numbered))
    return LabelledSet(data.categories, tuple(images))


@pytest.mark.parametrize(
    ("name", "importer"),
    [
        ("yolo", "YOLOv5Dataset"),
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
    if name == "yolo":
        options = {"yaml_path": "data.yaml", "split": "val", "include_all_data": True}
    dataset = fo.Dataset.from_dir(str(out), getattr(fo.types, importer), progress=False, **options)
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


@pytest.mark.parametrize("name", NEW)
def test_two_words_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    categories = [Category(1, "cat"), Category(2, "cat")]
    with pytest.raises(InputError, match="two categories are named 'cat'"):
        write_folder(tmp_path / "out", format_named(name), categories, [])


BAD_XML = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
BAD_FILES = {
    "voc-entities": ("voc", "Annotations/a.xml", BAD_XML, "declares a document type"),
    "voc-climbs": (
        "voc",
        "Annotations/a.xml",
        "<annotation><filename>../a.jpg</filename></annotation>",
        "leaves the images' folder",
    ),
    "voc-empty": ("voc", "Annotations/a.txt", "", "no XML file"),
    "voc-cut": ("voc", "Annotations/a.xml", "<annotation>\n<x", "line 2 is not XML"),
    "voc-number": (
        "voc",
        "Annotations/a.xml",
        "<annotation><filename>a.jpg</filename><size><width>x</width></size></annotation>",
        "must be a number",
    ),
    "cvat-entities": ("cvat", "annotations.xml", BAD_XML, "declares a document type"),
    "cvat-other": ("cvat", "annotations.xml", "<a/>", "no CVAT for images"),
    "cvat-climbs": (
        "cvat",
        "annotations.xml",
        '<annotations><image id="1" name="/a.jpg" width="1" height="1"/></annotations>',
        "is absolute",
    ),
    "cvat-runs": (
        "cvat",
        "annotations.xml",
        '<annotations><image id="1" name="a.jpg" width="2" height="2"><mask label="cat" rle="3" '
        'left="0" top="0" width="2" height="2"/></image></annotations>',
        "must add up",
    ),
    "cvat-leaves": (
        "cvat",
        "annotations.xml",
        '<annotations><image id="1" name="a.jpg" width="2" height="2"><mask label="cat" rle="3" '
        'left="0" top="0" width="99999" height="99999"/></image></annotations>',
        "leaves the image",
    ),
    "yolo-class": ("yolo", "labels/a.txt", "7 .5 .5 1 1", "line 1: class 7 is not among"),
    "yolo-short": ("yolo", "labels/a.txt", "\n0 .5 .5 1", "line 2 must be"),
    "yolo-text": ("yolo", "labels/a.txt", "cat .5 .5 1 1", "must be numbers"),
    "yolo-yaml": ("yolo", "data.yaml", "names: [", "is not YAML"),
    "yolo-object": ("yolo", "data.yaml", "names: !!python/object:a.b {}", "is not YAML"),
    "yolo-climbs": ("yolo", "data.yaml", "names: [a]\ntrain: ../b\nval: images", "leaves the"),
    "label-studio-json": ("label-studio", "tasks.json", "[\n{", "line 2 is not JSON"),
    "label-studio-list": ("label-studio", "tasks.json", "{}", "no list"),
    "label-studio-data": ("label-studio", "tasks.json", "[{}]", r"tasks\[0\] must be an object"),
    "label-studio-climbs": (
        "label-studio",
        "tasks.json",
        '[{"data": {"image": "/data/local-files/?d=images/../../a.jpg"}}]',
        "leaves the images' folder",
    ),
    "fiftyone-none": ("fiftyone", "metadata.json", "{}", "no folder of FiftyOne's"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_broken_files_are_named(tmp_path: Path, case: str) -> None:
    name, file, content, message = BAD_FILES[case]
    (tmp_path / "images").mkdir()
    if name == "yolo":
        Image.new("1", (4, 4)).save(tmp_path / "images/a.png")
        (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\nval: images\n")
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        format_named(name).read(tmp_path, None)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(InputError, match="unknown format 'tfrecord'; known are coco, lvis, yolo"):
        format_named("tfrecord")


def test_yolo_polygons_become_masks(tmp_path: Path) -> None:
    write_folder(tmp_path, format_named("yolo"), [Category(1, "cat")], [], None)
    (tmp_path / "images").mkdir()
    Image.new("1", (10, 10)).save(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels/a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.6\n")
    (annotation,) = format_named("yolo").read(tmp_path, None).images[0].annotations
    assert annotation.box == (1, 1, 5, 6)
    assert annotation.mask == ((1.0, 1.0, 5.0, 1.0, 5.0, 6.0),)


def test_label_studio_prefers_what_a_person_drew(tmp_path: Path) -> None:
    def result(word: str) -> dict[str, object]:
        value = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": [word]}
        size = {"original_width": 10, "original_height": 20}
        return {"id": "aB3", "type": "rectanglelabels", "value": value, **size}

    task = {
        "id": 4,
        "data": {"image": "/data/upload/1/ab-a%20b.jpg"},
        "annotations": [
            {"was_cancelled": True, "result": [result("dog")]},
            {"result": [result("cat")]},
        ],
        "predictions": [{"result": [result("cow")]}],
    }
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([task]))
    data = format_named("label-studio").read(path, None)
    assert names(data) == {1: "cat"}
    (image,) = data.images
    assert (image.file_name, image.width, image.height) == ("ab-a b.jpg", 10, 20)
    assert image.annotations == (Annotation(1, (0, 0, 5, 10)),)
