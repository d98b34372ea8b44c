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
    assert photo.verified == {"bus", "dog"}
    assert dataset.classes["bus"] == ("bus", "autobus")
    assert dataset.classes["bow"] == ("bow", "ribbon bow")
    folder = {"v0.5": "", "v1": "val2017/"}[version]
    assert photo.path == tmp_path / f"images/{folder}000000000005.jpg"


def test_coco_is_not_taken_for_lvis(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    with pytest.raises(InputError, match=r"images\[0\].*neg_category_ids.*read it as COCO"):
        open_dataset(f"lvis:{tmp_path}")
