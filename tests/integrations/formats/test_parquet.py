"""Parquet: everything comes back, in parts, and other readers find COCO's names in it."""

import random
import shutil
import tempfile
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings

from integrations.annotations import LabelledImage, LabelledSet
from integrations.formats import parquet
from integrations.formats.coco import bbox
from integrations.formats.parquet import CATEGORIES, LABELS, read_parquet, write_parquet
from integrations.formats.registry import format_named, read_labels, write_folder
from regionspot.errors import InputError
from regionspot.types import decode_mask
from tests.integrations.formats.factories import labelled_sets, small_set
from tests.integrations.formats.helpers import as_read, assert_same_image

FORMAT = format_named("parquet")


@given(labelled_sets())
@settings(max_examples=40, deadline=None)
def test_everything_comes_back(data: LabelledSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "labels"
        write_parquet(out, data.categories, iter(data.images), {"model": "m"})
        found = read_parquet(out)
    assert (found.categories, found.info) == (data.categories, {"model": "m"})
    assert not found.tally.lines()
    first_id = 1
    for one, image in zip(found.images, data.images, strict=True):
        assert_same_image(one, as_read(image, first_id))
        first_id += len(image.annotations)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    data = small_set()
    write_folder(tmp_path / "out", FORMAT, data.categories, data.images)
    return tmp_path / "out"


def test_pandas_finds_cocos_names(out: Path) -> None:
    images = pandas.read_parquet(out / LABELS)
    assert list(images.columns[:5]) == ["image_id", "file_name", "width", "height", "objects"]
    assert images["file_name"].tolist() == ["a b/ñandú.jpg", "empty.jpg"]
    objects = images["objects"][0]
    first = small_set().images[0].annotations[0]
    assert objects["category"].tolist() == ["cat", "Äpfel", "cat"]
    assert tuple(objects["bbox"][0]) == bbox(first)
    assert objects["score"].tolist() == [0.75, 0.5, 0.25]
    mask = decode_mask({"size": [30, 40], "counts": objects["rle"][0]})
    assert mask.sum() == objects["area"][0]
    words = pandas.read_parquet(out / CATEGORIES).set_index("id")["name"]
    assert words[objects["category_id"]].tolist() == ["cat", "Äpfel", "cat"]


def test_images_are_in_parts_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "IMAGES_PER_GROUP", 2)
    monkeypatch.setattr(parquet, "GROUPS_PER_PART", 2)
    images = [LabelledImage(number, f"{number}.jpg", 4, 4) for number in range(9)]
    for name in ("first", "second"):
        tally = write_parquet(tmp_path / name, (), iter(images))
    assert tally.images == 9
    parts = sorted((tmp_path / "first" / LABELS).iterdir())
    assert [pyarrow.parquet.read_metadata(each).num_rows for each in parts] == [4, 4, 1]
    assert [each.name for each in parts][-1] == "part-00002.parquet"
    assert list(read_parquet(tmp_path / "first").images) == images
    for part in parts:
        assert part.read_bytes() == (tmp_path / "second" / LABELS / part.name).read_bytes()


def test_a_set_without_images_is_a_table_without_rows(tmp_path: Path) -> None:
    write_parquet(tmp_path, small_set().categories, ())
    assert pandas.read_parquet(tmp_path / LABELS).empty
    assert read_parquet(tmp_path).categories == small_set().categories


def test_a_column_of_others_is_left_out_and_counted(out: Path) -> None:
    part = out / LABELS / "part-00000.parquet"
    table = pyarrow.parquet.read_table(part)
    split = pyarrow.array(["train", "val"])
    pyarrow.parquet.write_table(table.append_column("split", split).drop_columns("extra"), part)
    data = read_labels(FORMAT, out)
    assert data.images == read_labels(FORMAT, out).images
    (line,) = data.tally.lines()
    assert line.startswith("left out: 1 x column split: it is none of this format's; first: ")


def test_what_does_not_fit_is_refused_with_its_row(out: Path) -> None:
    part = out / LABELS / "part-00000.parquet"
    rows = pyarrow.parquet.read_table(part).to_pylist()
    rows[0]["objects"]["bbox"].pop()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), part)
    with pytest.raises(InputError, match=r"rows\[0\]: \"objects\" must hold lists of one length"):
        read_parquet(out)
    rows[0]["objects"] = None
    rows[1]["file_name"] = "../b.jpg"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), part)
    with pytest.raises(InputError, match=r"rows\[1\]: file_name '\.\./b\.jpg' leaves"):
        read_parquet(out)
    (out / CATEGORIES).unlink()
    rows[1]["file_name"] = "b.jpg"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), part)
    with pytest.raises(InputError, match=r"categories\.parquet cannot be read as Parquet"):
        read_parquet(out)
    with pytest.raises(InputError, match=r"expected a folder with labels\.parquet and"):
        read_parquet(out / LABELS)


def test_damaged_bytes_are_refused_in_one_line(tmp_path: Path, out: Path) -> None:
    rng, read = random.Random(0), 0
    for number in range(120):
        damaged = tmp_path / str(number)
        shutil.copytree(out, damaged)
        path = damaged / rng.choice([CATEGORIES, f"{LABELS}/part-00000.parquet"])
        content = bytearray(path.read_bytes())
        for _ in range(rng.choice((1, 3, 20))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice((len(content), rng.randrange(len(content))))])
        message = refusal(damaged)
        read += not message
        assert not message or (str(damaged) in message and len(message.splitlines()) == 1)
    assert read < 20  # bytes that say nothing, such as the name of the library


def refusal(folder: Path) -> str:
    try:
        read_parquet(folder)
    except InputError as error:
        return str(error)
    return ""
