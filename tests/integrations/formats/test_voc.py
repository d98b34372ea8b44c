"""Pascal VOC: whole pixels there and back, refusals."""

import math
from pathlib import Path
from typing import Any

import pytest
import supervision
from hypothesis import given, settings
from PIL import Image

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    ReadOptions,
)
from integrations.formats.voc import read_voc, write_voc
from integrations.formats.xml import attribute_text, parse_attribute
from regionspot.errors import InputError
from tests.integrations.formats.factories import labelled_sets
from tests.integrations.formats.helpers import (
    BAD_XML,
    assert_holds,
    assert_refused,
    plain,
    through,
)


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


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Annotations/a.xml", BAD_XML, "declares a document type"),
        (
            "Annotations/a.xml",
            "<annotation><filename>../a.jpg</filename></annotation>",
            "leaves the images' folder",
        ),
        ("Annotations/a.txt", "", "no XML file"),
        ("Annotations/a.xml", "<annotation>\n<x", "line 2 is not XML"),
        (
            "Annotations/a.xml",
            "<annotation><filename>a.jpg</filename><size><width>x</width></size></annotation>",
            "must be a number",
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    assert_refused(tmp_path, "voc", file, content, message)


def voc_file(folder: Path, name: str, inside: str) -> Path:
    path = folder / "Annotations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{inside}</annotation>", encoding="utf-8")
    return path


def photo(folder: Path, name: str) -> None:
    path = folder / "JPEGImages" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (100, 80)).save(path)


SIZE = "<size><width>100</width><height>80</height><depth>3</depth></size>"
BOX = "<bndbox><xmin>11</xmin><ymin>21.0</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"


def an_object(inside: str = BOX, name: str = "cat") -> str:
    return f"<object><name>{name}</name>{inside}</object>"


@pytest.mark.parametrize("with_images", [False, True])
def test_the_place_of_the_file_says_which_image_is_meant(tmp_path: Path, with_images: bool) -> None:
    names = ("a.xml", "b.xml", "x/1.xml", "y/1.xml")
    for name, other, word in zip(
        names, ("a.jpg", "a.jpg", "1.jpg", "1.jpg"), ("cat", "dog", "cat", "dog"), strict=True
    ):
        inside = f"<filename>{other}</filename>{SIZE}{an_object(name=word)}"
        voc_file(tmp_path, name, inside)
        if with_images:
            photo(tmp_path, name.replace(".xml", ".jpg"))
    data = read_voc(tmp_path, tmp_path / "JPEGImages" if with_images else None)
    words = {category.id: category.name for category in data.categories}
    found = {
        image.file_name: [words[each.category_id] for each in image.annotations]
        for image in data.images
    }
    assert found == {"a.jpg": ["cat"], "b.jpg": ["dog"], "x/1.jpg": ["cat"], "y/1.jpg": ["dog"]}
    (line,) = data.tally.lines()
    assert line.startswith("changed: 1 x <filename>")
    assert line.endswith("b.xml")


@pytest.mark.parametrize(
    "given", ["C:\\photos\\a.jpg", "/home/me/photos/a.jpg", "\\\\host\\s\\a.jpg"]
)
def test_a_file_name_of_another_machine_counts_without_its_folder(
    tmp_path: Path, given: str
) -> None:
    voc_file(tmp_path, "a.xml", f"<filename>{given}</filename>{SIZE}{an_object()}")
    data = read_voc(tmp_path, None)
    assert [image.file_name for image in data.images] == ["a.jpg"]
    assert [kind for kind, _ in data.tally.changed] == ["<filename>"]


def test_the_suffix_is_that_of_the_image_that_is_there(tmp_path: Path) -> None:
    voc_file(tmp_path, "a.xml", f"<filename>a.jpg</filename>{SIZE}{an_object()}")
    voc_file(tmp_path, "b.xml", f"{SIZE}{an_object()}")
    photo(tmp_path, "a.png")
    photo(tmp_path, "b.bmp")
    photo(tmp_path, "c.png")
    data = read_voc(tmp_path, tmp_path / "JPEGImages")
    assert [image.file_name for image in data.images] == ["a.png", "b.bmp"]
    left_out = [(kind, reason) for kind, reason in data.tally.left_out]
    assert left_out == [("image", "it has no XML file")]


@pytest.mark.parametrize(
    "size", ["", "<size/>", "<size><width></width><height> </height></size>", SIZE.replace("8", "")]
)
def test_a_size_that_is_missing_is_that_of_the_image(tmp_path: Path, size: str) -> None:
    size = size.replace("100", "0")
    path = voc_file(tmp_path, "a.xml", f"<filename>a.jpg</filename>{size}{an_object()}")
    with pytest.raises(InputError, match=r"<size> is missing.*give the folder of the images"):
        read_voc(tmp_path)
    photo(tmp_path, "a.jpg")
    (image,) = read_voc(tmp_path, tmp_path / "JPEGImages").images
    assert (image.width, image.height, len(image.annotations)) == (100, 80, 1)
    assert path.is_file()


ROTATED = "<attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes>"
COLOUR = "<attributes><attribute><name>colour</name><value>red</value></attribute></attributes>"
POLYGON = "<polygon><x1>11</x1><y1>21</y1><x2>31</x2><y2>21</y2><x3>31</x3><y3>41</y3></polygon>"
POINTS = "<polygon>" + "".join(
    f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((11, 21), (31, 21), (31, 41))
)
ROBNDBOX = f"<cx>50</cx><cy>40</cy><w>60</w><h>20</h><angle>{math.pi / 2}</angle>"
TRIANGLE = ((10, 20, 30, 20, 30, 40),)
UPRIGHT = ((60, 10, 60, 70, 40, 70, 40, 10),)


@pytest.mark.parametrize(
    ("inside", "box", "mask", "counted"),
    [
        (f"{BOX}{POLYGON}", (10, 20, 30, 40), TRIANGLE, []),
        (f"{POINTS}</polygon>", (10, 20, 30, 40), TRIANGLE, []),
        (f"<robndbox>{ROBNDBOX}</robndbox>", (40, 10, 60, 70), UPRIGHT, ["rotated box"]),
        (
            "<bndbox><xmin>21</xmin><ymin>31</ymin><xmax>80</xmax><ymax>50</ymax></bndbox>"
            + ROTATED,
            (40, 10, 60, 70),
            UPRIGHT,
            ["rotated box"],
        ),
        (BOX + COLOUR, (10, 20, 30, 40), None, []),
        (BOX + "<part><name>head</name></part>", (10, 20, 30, 40), None, ["part of an object"]),
        (BOX + "<polygon><x1>1</x1><y1>2</y1></polygon>", (10, 20, 30, 40), None, ["polygon"]),
    ],
)
def test_more_than_a_box_is_read_or_counted(
    tmp_path: Path, inside: str, box: tuple[float, ...], mask: Any, counted: list[str]
) -> None:
    voc_file(tmp_path, "a.xml", f"<filename>a.jpg</filename>{SIZE}{an_object(inside)}")
    data = read_voc(tmp_path)
    (label,) = data.images[0].annotations
    assert (label.box, label.mask) == (pytest.approx(box), mask)
    assert label.attributes == ({"colour": "red"} if COLOUR in inside else {})
    assert [kind for kind, _ in (*data.tally.changed, *data.tally.left_out)] == counted


def test_objects_that_say_too_little_are_left_out(tmp_path: Path) -> None:
    reversed_box = BOX.replace("30", "3")
    objects = "".join(map(an_object, ("", reversed_box, BOX))) + f"<object>{BOX}</object>"
    voc_file(tmp_path, "a.xml", f"<filename>a.jpg</filename>{SIZE}{objects}")
    data = read_voc(tmp_path)
    assert len(data.images[0].annotations) == 1
    reasons = [reason for _, reason in data.tally.left_out]
    assert reasons == ["it has no <bndbox>", "its <bndbox> is reversed", "it has no <name>"]
    with pytest.raises(InputError, match=r"a\.xml.*--strict"):
        read_voc(tmp_path, None, ReadOptions(strict=True))


def test_all_classes_are_in_the_label_map(tmp_path: Path) -> None:
    labels = (Annotation(2, (0, 0, 4, 4), attributes={"truncated": True, "margin": 0.5}),)
    categories = (Category(1, "cat"), Category(2, "dog"), Category(3, "a:b"))
    tally = write_voc(tmp_path, categories, [LabelledImage(1, "a.jpg", 9, 9, labels)])
    assert (tmp_path / "labelmap.txt").read_text().splitlines() == [
        "# label:color_rgb:parts:actions",
        "background:0,0,0::",
        "cat:128,0,0::",
        "dog:0,128,0::",
    ]
    assert [kind for kind, _ in tally.left_out] == ["attribute 'margin'", "class of labelmap.txt"]
    data = read_voc(tmp_path)
    assert [category.name for category in data.categories] == ["cat", "dog"]
    assert data.images[0].annotations[0].attributes == {"truncated": True, "difficult": 0}


def test_supervision_reads_what_is_written(tmp_path: Path) -> None:
    image = LabelledImage(1, "a.jpg", 100, 80, (Annotation(1, (10, 20, 30, 40)),))
    write_voc(tmp_path, (Category(1, "cat"),), [image])
    photo(tmp_path, "a.jpg")
    folders = [str(tmp_path / name) for name in ("JPEGImages", "Annotations")]
    found = supervision.DetectionDataset.from_pascal_voc(*folders)
    ((_, _, detections),) = list(found)
    assert found.classes == ["cat"]
    assert detections.xyxy.tolist() == [[10, 20, 30, 40]]
