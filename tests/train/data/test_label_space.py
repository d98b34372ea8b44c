"""Label spaces of several data sets, merged by name."""

from pathlib import Path

import pytest

from regionspot.names import name_key
from tests.train.data.contents import lvis, two_photos
from tests.train.written import annotation, coco, image, write_json
from train.data import merge_label_spaces, open_dataset


def test_label_spaces_merge_by_name(tmp_path: Path) -> None:
    write_json(tmp_path / "coco/instances.json", two_photos())
    write_json(tmp_path / "lvis/instances.json", lvis("v1"))
    o365 = coco([image(1)], [annotation(1, 1, 1)], {1: "Dogs", 2: "Tooth brush", 3: "Toothbrush"})
    write_json(tmp_path / "o365/instances.json", o365)
    opened = [
        open_dataset(f"{kind}:{tmp_path / name}")
        for kind, name in (("coco", "coco"), ("lvis", "lvis"), ("objects365", "o365"))
    ]
    classes, datasets = merge_label_spaces(opened)
    assert list(classes) == [
        "person",
        "dog",
        "cup",
        "toothbrush",
        "bus",
        "bow",
        "zebra",
        "Tooth brush",
    ]
    assert classes["dog"] == ("dog", "hound", "Dogs")
    assert datasets[2].images[0].names == ("dog",)
    assert datasets[1].images[0].verified == {"bus", "dog"}
    assert datasets[0] is opened[0]


def test_a_class_left_out_stays_out_when_label_spaces_merge(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    (tmp_path / "some.txt").write_text("dog\n")
    other = coco([image(1)], [annotation(1, 1, 1)], {1: "Dog", 2: "cup"})
    write_json(tmp_path / "other/instances.json", other)
    specs = (str(tmp_path / "other"), f"coco:{tmp_path},words={tmp_path / 'some.txt'}")
    classes, (_, some) = merge_label_spaces([open_dataset(spec) for spec in specs])
    assert list(classes) == ["Dog", "cup"]
    assert (list(some.classes), some.is_limited) == (["Dog"], True)
    assert [each.names for each in some.images] == [("", "Dog"), ("",)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bus", "bus"),
        ("Traffic light", "traffic lights"),
        ("watch", "watches"),
        ("cherries", "cherry"),
        ("cookies", "cookie"),
        ("T-shirt", "t shirt"),
    ],
)
def test_one_word_in_two_spellings(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(("one", "other"), [("glass", "glasses"), ("bus", "bu"), ("cat", "car")])
def test_two_words_stay_two(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)
