"""Label spaces of several data sets, merged by name."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regionspot.checkpoint import load_head
from regionspot.config import preset
from regionspot.model import find_checkpoint
from regionspot.names import name_key
from tests.train.data.contents import lvis, two_photos
from tests.train.written import annotation, coco, image, write_json
from train.data.dataset import Dataset, merge_label_spaces
from train.data.registry import open_dataset


def test_label_spaces_merge_by_name(tmp_path: Path) -> None:
    write_json(tmp_path / "coco/instances.json", two_photos())
    write_json(tmp_path / "lvis/instances.json", lvis("v1"))
    o365 = coco([image(1)], [annotation(1, 1, 1)], {1: "Dogs", 2: "Tooth brush", 3: "Toothbrush"})
    write_json(tmp_path / "o365/instances.json", o365)
    before = [
        open_dataset(f"{kind}:{tmp_path / name}")
        for kind, name in (("coco", "coco"), ("lvis", "lvis"), ("objects365", "o365"))
    ]
    classes, datasets = merge_label_spaces(before)
    assert list(classes) == [
        "person",
        "dog",
        "cup",
        "toothbrush",
        "bus",
        "bow (weapon)",
        "bow (decorative ribbons)",
        "zebra",
        "Tooth brush",
    ]
    assert classes["dog"] == ("dog", "hound", "Dogs")
    assert datasets[2].images[0].names == ("dog",)
    assert datasets[1].images[0].verified == {"bus", "dog", "bow (weapon)"}
    assert datasets[0] is before[0]


def opened(folder: Path, *label_spaces: Sequence[str]) -> list[Dataset]:
    """A data set of one image with a box of each class, for each list of class names."""
    found = []
    for number, names in enumerate(label_spaces):
        boxes = [annotation(row, 1, row) for row in range(1, len(names) + 1)]
        content = coco([image(1)], boxes, dict(enumerate(names, start=1)))
        path = write_json(folder / f"{number}.json", content)
        found.append(open_dataset(f"coco:{path},images={folder}"))
    return found


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_two_classes_of_one_data_set_never_become_one(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    spaces = (("A", "a", "traffic light"), ("a", "Cups", "Traffic_Light"), ("A", "cups", "cup"))
    classes, datasets = merge_label_spaces(opened(tmp_path, *(spaces[i] for i in order)))
    merged = {spaces[i]: each.images[0].names for i, each in zip(order, datasets, strict=True)}
    (light,) = {name for name in classes if name.lower().startswith("traffic")}
    assert merged == {
        ("A", "a", "traffic light"): ("A", "a", light),
        ("a", "Cups", "Traffic_Light"): ("a", "Cups", light),
        ("A", "cups", "cup"): ("A", "cups", "cup"),
    }
    assert sorted(classes) == sorted(["A", "a", light, "Cups", "cups", "cup"])


names = st.lists(
    st.text("aAsS_- (1)", min_size=1, max_size=5).filter(str.strip),
    min_size=1,
    max_size=6,
    unique=True,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(spaces=st.lists(names, min_size=1, max_size=3))
def test_merging_never_makes_a_label_space_smaller(tmp_path: Path, spaces: list[list[str]]) -> None:
    datasets = opened(tmp_path, *spaces)
    assert [list(each.classes) for each in datasets] == spaces
    classes, renamed = merge_label_spaces(datasets)
    for before, after in zip(spaces, renamed, strict=True):
        assert len(set(after.images[0].names)) == len(before)
        assert set(after.images[0].names) <= classes.keys()
        for old, new in zip(before, after.images[0].names, strict=True):
            assert name_key(old) == name_key(new)


def test_the_label_space_of_the_shipped_head_is_that_of_coco(tmp_path: Path) -> None:
    seen = load_head(find_checkpoint("mini"), preset("mini")).seen_classes
    assert len(seen) == 80
    (dataset,) = opened(tmp_path, seen)
    classes, (merged,) = merge_label_spaces([dataset])
    assert tuple(classes) == merged.images[0].names == seen


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
