"""Data sets as they are named on the command line."""

from pathlib import Path

import pytest

from regionspot.errors import InputError
from tests.train.data.contents import two_photos
from tests.train.written import write_json
from train.data.registry import open_dataset


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("voc:here", "unknown kind of data 'voc'"),
        ("coco:", "does not say where"),
        ("coco:here,size=3", "expected each of images, words at most once"),
        ("coco:here,images=", "as KEY=VALUE"),
        ("nowhere", "instances.json cannot be read"),
        ("openimages:nowhere", "cannot be read"),
    ],
)
def test_what_was_asked_for_wrongly(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset(spec)


def test_a_data_set_in_some_of_its_classes(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    (tmp_path / "some.txt").write_text("cup  # all that is left of the second photo\ndog\n")
    whole, some = (
        open_dataset(f"coco:{tmp_path}{more}") for more in ("", f",words={tmp_path / 'some.txt'}")
    )
    assert list(some.classes) == ["dog", "cup"]
    assert some.is_limited
    # The key of the features is made of all boxes.
    assert [each.boxes.tolist() for each in some.images] == [
        each.boxes.tolist() for each in whole.images
    ]


@pytest.mark.parametrize("name", ["C#", "#1", "ratio 1:2", "a, b", "bolt (M6)", "caf\u0065\u0301"])
def test_a_class_is_listed_as_the_data_writes_it(tmp_path: Path, name: str) -> None:
    content = two_photos()
    content["categories"][1]["name"] = name
    write_json(tmp_path / "instances.json", content)
    (tmp_path / "some.txt").write_text(f"# some\n  {name}\n", encoding="utf-8")
    some = open_dataset(f"coco:{tmp_path},words={tmp_path / 'some.txt'}")
    assert list(some.classes) == [name]


def test_classes_that_a_data_set_has_not_are_named(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    (tmp_path / "some.txt").write_text("cup\naeroplane\n")
    with pytest.raises(InputError, match=r"some\.txt: .* has 4, such as person.*got 'aeroplane'"):
        open_dataset(f"coco:{tmp_path},words={tmp_path / 'some.txt'}")
