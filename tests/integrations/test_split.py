"""Parts of a data set: shares, groups, and what stays when images come."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from integrations.split import Split, group_images, parse_shares, stem
from regionspot.errors import InputError

NAMES = [f"img {number:04d}.jpg" for number in range(3000)]


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("0.8", (0.8, 0.2, 0)),
        ("0.8,0.1", (0.8, 0.1, 0.1)),
        ("0.8,0.2", (0.8, 0.2, 0)),
        ("0.7, 0.2, 0.1", (0.7, 0.2, 0.1)),
    ],
)
def test_shares(text: str, shares: tuple[float, ...]) -> None:
    split = Split(parse_shares(text))
    assert split.shares == pytest.approx(shares)
    parts = [split.part(name) for name in NAMES]
    for part, share in zip(("train", "val", "test"), shares, strict=True):
        assert parts.count(part) / len(parts) == pytest.approx(share, abs=0.03)
    assert parts != [Split(split.shares, seed=1).part(name) for name in NAMES]


@pytest.mark.parametrize(
    "text", ["", "1", "0", "80", "-0.5", "a", "0.8,0.3", "nan", "0.5,0.2,0.1", "0.2,0.2,0.2,0.4"]
)
def test_what_is_no_split(text: str) -> None:
    with pytest.raises(InputError, match="--split must be"):
        parse_shares(text)


@pytest.mark.parametrize(
    "name",
    [
        "a/cat.jpg",
        "cat.png",
        "cat (1).jpg",
        "cat - Copy.jpg",
        "cat_copy2.jpg",
        "cat_jpg.rf.0a1bc.jpg",
    ],
)
def test_copies_have_one_stem(name: str) -> None:
    assert stem(name) == "cat"


@pytest.mark.parametrize("name", ["cat1.jpg", "IMG_0001.jpg", "photocopy.jpg"])
def test_numbers_are_no_copies(name: str) -> None:
    assert stem(name) == name.removesuffix(".jpg")


def test_images_that_look_alike_are_in_one_part() -> None:
    alike = list(zip(NAMES[::2], NAMES[1::2], strict=True))
    split = Split(groups=group_images(NAMES, None, alike))
    assert all(split.part(one) == split.part(other) for one, other in alike)
    more = [*NAMES, *(f"new {n}.jpg" for n in range(100))]
    pairs = [*alike, *((NAMES[n], f"new {n}.jpg") for n in range(100))]
    later = Split(groups=group_images(more, None, pairs))
    assert [later.part(name) for name in NAMES] == [split.part(name) for name in NAMES]


def test_bursts_are_in_one_group(tmp_path: Path) -> None:
    start, names = datetime(2024, 5, 1, 12), []
    for number, seconds in enumerate((0, 1, 3, 60)):
        exif = Image.Exif()
        exif[ExifTags.Base.Model] = "camera"
        taken = start + timedelta(seconds=seconds)
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken.strftime(
            "%Y:%m:%d %H:%M:%S"
        )
        names.append(f"{number}.jpg")
        Image.new("RGB", (4, 4)).save(tmp_path / names[-1], exif=exif)
    (tmp_path / "broken.jpg").write_bytes(b"x")
    groups = group_images([*names, "broken.jpg", "gone.jpg"], tmp_path)
    assert groups == {
        **dict.fromkeys(names[:3], "0"),
        "3.jpg": "3",
        "broken.jpg": "broken",
        "gone.jpg": "gone",
    }
