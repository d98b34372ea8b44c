"""LVIS: a box is scored only against the classes that were verified in its image."""

from pathlib import Path

import pytest

from regionspot.errors import InputError
from tests.train.data.contents import lvis, two_photos
from tests.train.written import write_json
from train.data import open_dataset


@pytest.mark.parametrize("version", ["v0.5", "v1"])
def test_lvis_is_scored_only_against_what_was_verified(tmp_path: Path, version: str) -> None:
    (tmp_path / "images/val2017").mkdir(parents=True)
    path = write_json(tmp_path / "lvis.json", lvis(version))
    dataset = open_dataset(f"lvis:{path}")
    (photo,) = dataset.images
    assert photo.names == ("bus", "cup")
    # Of cups there may be more, zebras were not looked for, and of bows only the weapons.
    assert photo.verified == {"bus", "dog", "bow (weapon)"}
    assert dataset.classes["bus"] == ("bus", "autobus")
    assert dataset.classes["bow (weapon)"] == ("bow (weapon)", "bow")
    assert dataset.classes["bow (decorative ribbons)"][1:] == ("ribbon bow",)
    folder = {"v0.5": "", "v1": "val2017/"}[version]
    assert photo.path == tmp_path / f"images/{folder}000000000005.jpg"


def test_lvis_has_its_classes_as_coco_too(tmp_path: Path) -> None:
    path = write_json(tmp_path / "lvis.json", lvis("v0.5"))
    assert open_dataset(f"coco:{path}").classes == open_dataset(f"lvis:{path}").classes


def test_a_file_of_words_may_say_what_lvis_writes(tmp_path: Path) -> None:
    path = write_json(tmp_path / "lvis.json", lvis("v0.5"))
    (tmp_path / "words.txt").write_text("bus_(vehicle)\ndog\nbow (weapon)\n")
    dataset = open_dataset(f"lvis:{path},words={tmp_path / 'words.txt'}")
    assert list(dataset.classes) == ["bus", "dog", "bow (weapon)"]


def test_coco_is_not_taken_for_lvis(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    with pytest.raises(InputError, match=r"images\[0\].*neg_category_ids.*read it as COCO"):
        open_dataset(f"lvis:{tmp_path}")
