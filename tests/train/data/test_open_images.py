"""Open Images V6, read from a small split in its true form."""

from pathlib import Path
from typing import Any

import pytest

from integrations.annotations import Tally
from integrations.images import UnreadableImage, read_image
from regionspot.config import preset
from regionspot.errors import InputError
from tests.train.written import HEIGHT, WIDTH, write_image, write_json
from train.data.dataset import merge_label_spaces
from train.data.registry import open_dataset
from train.features.cache import FeatureSet

ONE, TWO = "000002b66c9c498e", "fffc6543b32da1dd"
BOX_HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
    "IsDepiction,IsInside,XClick1X,XClick2X,XClick3X,XClick4X,XClick1Y,XClick2Y,XClick3Y,XClick4Y"
)
CLASSES = {
    "/m/0jbk": "Animal",
    "/m/0bt9lr": "Dog",
    "/m/01yrx": "Cat",
    "/m/0k4j": "Car",
    "/m/083wq": "Wheel",
    "/m/02p0tk3": "Human body",
}


def leaf(label: str) -> dict[str, Any]:
    return {"LabelName": label}


def box(image: str, label: str, group: int = 0, depiction: int = 0) -> str:
    clicks = ",".join(["-1"] * 8)
    return f"{image},xclick,{label},1,0.25,0.5,0,0.5,0,0,{group},{depiction},0,{clicks}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hierarchy = {
        "LabelName": "/m/0bl9f",
        "Subcategory": [
            {"LabelName": "/m/0jbk", "Subcategory": [leaf("/m/0bt9lr"), leaf("/m/01yrx")]},
            {"LabelName": "/m/0k4j", "Part": [leaf("/m/083wq")]},
            leaf("/m/02p0tk3"),
        ],
    }
    write_json(tmp_path / "bbox_labels_600_hierarchy.json", hierarchy)
    rows = [*CLASSES.items(), ("/m/011q46kg", "Container, not boxed")]
    (tmp_path / "class-descriptions-boxable.csv").write_text(
        "".join(f'{label},"{name}"\n' for label, name in rows)
    )
    boxes = [
        box(TWO, "/m/0k4j"),
        box(ONE, "/m/02p0tk3"),
        box(ONE, "/m/0bt9lr", group=1),
        box(TWO, "/m/083wq", depiction=1),
        box(TWO, "/m/0k4j"),
    ]
    (tmp_path / "oidv6-train-annotations-bbox.csv").write_text("\n".join([BOX_HEADER, *boxes, ""]))
    labels = [
        f"{TWO},verification,/m/0jbk,0",  # no animal, so neither dog nor cat
        f"{TWO},machine,/m/02p0tk3,0",  # a guess
        f"{TWO},crowdsource-verification,/m/083wq,1",
        f"{ONE},verification,/m/0k4j,0",
        f"{ONE},verification,/m/0jbk,1",  # there, but without boxes of its own
        f"{ONE},crowdsource-verification,/m/01yrx,0",
        f"{ONE},verification,/m/011q46kg,0",
    ]
    (tmp_path / "train-annotations-human-imagelabels-boxable.csv").write_text(
        "\n".join(["ImageID,Source,LabelName,Confidence", *labels, ""])
    )
    for image in (ONE, TWO):
        write_image(tmp_path / f"train/{image}.jpg")
    return tmp_path


def test_an_image_that_cannot_be_read_leaves_the_others(folder: Path) -> None:
    (folder / f"train/{ONE}.jpg").write_bytes(b"no image")
    two, one = open_dataset(f"openimages:{folder},split=train").images
    assert (two.width, two.height) == (WIDTH, HEIGHT)
    assert one.names == ("human body",)
    assert FeatureSet.of(preset("mini"), [two, one], folder / "cache").regions.tolist() == [2, 1]
    with pytest.raises(UnreadableImage, match=f"{ONE}.jpg"):
        read_image(one.path)  # as extraction does, which leaves it out and lists it


def test_boxes_classes_and_what_was_verified(folder: Path) -> None:
    dataset = open_dataset(f"openimages:{folder},split=train")
    two, one = dataset.images
    assert (two.id, one.path.name) == (int(TWO, 16), f"{ONE}.jpg")
    assert (two.width, two.height) == (WIDTH, HEIGHT)
    assert two.names == ("car", "car")
    assert two.boxes[0].tolist() == [WIDTH / 4, 0, WIDTH / 2, HEIGHT / 2]
    assert one.names == ("human body",)
    assert two.verified == {"car", "animal", "dog", "cat"}
    # A group of dogs: neither dogs nor animals are negatives, and parts are no kinds.
    assert one.verified == {"human body", "car", "cat"}
    assert list(dataset.classes) == ["animal", "dog", "cat", "car", "wheel", "human body"]
    assert dataset.ancestors == {"dog": {"animal"}, "cat": {"animal"}}
    assert merge_label_spaces([dataset])[1] == [dataset]


def test_what_is_left_out_is_counted(folder: Path) -> None:
    tally, path = Tally(), folder / "oidv6-train-annotations-bbox.csv"
    with path.open("a") as file:
        file.write(box(TWO, "/m/none") + "\n")
    assert len(open_dataset(f"openimages:{folder}", tally=tally)) == 2
    found = {(kind, entry.count) for (kind, _), entry in tally.left_out.items()}
    assert found == {("group of objects", 1), ("depiction of an object", 1), ("label", 1)}
    assert all(f"{path}: image " in line for line in tally.lines())
    limited = Tally()
    assert len(open_dataset(f"openimages:{folder}", 1, limited)) == 1
    assert limited.lines() == tally.lines()
    with pytest.raises(InputError, match=f"{ONE}: group of objects.*--strict"):
        open_dataset(f"openimages:{folder}", tally=Tally(strict=True))


def test_class_descriptions_with_a_header(folder: Path) -> None:
    path = folder / "class-descriptions-boxable.csv"
    before = open_dataset(f"openimages:{folder}").classes
    path.write_text("LabelName,DisplayName\n" + path.read_text())
    assert open_dataset(f"openimages:{folder}").classes == before


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("oidv6-train-annotations-bbox.csv", "IsGroupOf", "Group", "the columns IsGroupOf are"),
        ("oidv6-train-annotations-bbox.csv", ",0.25,", ",left,", "XMin must be a number"),
        ("oidv6-train-annotations-bbox.csv", ONE, "../../x", "16 hexadecimal digits"),
        ("oidv6-train-annotations-bbox.csv", ",0.25,", ",16.5,", "XMin must be a fraction of the"),
        ("oidv6-train-annotations-bbox.csv", "/m/0", "/m/none", "no box to train on: .* LabelName"),
        ("oidv6-train-annotations-bbox.csv", ",-1\n", "\n", "line 2: expected 21 columns, got 20"),
        ("class-descriptions-boxable.csv", ",", ";", "line 1: expected a label and its name"),
        ("bbox_labels_600_hierarchy.json", "LabelName", "Label", "is not the hierarchy"),
        ("bbox_labels_600_hierarchy.json", "}", "", "is not JSON"),
    ],
)
def test_what_is_no_open_images(folder: Path, name: str, old: str, new: str, message: str) -> None:
    path = folder / name
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        open_dataset(f"openimages:{folder}")
