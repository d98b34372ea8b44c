"""COCO, LVIS, Objects365 and V3Det, each read from a small file in its true form."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionspot.errors import InputError
from regionspot.names import name_key
from tests.train.written import HEIGHT, WIDTH, annotation, coco, image, write_json
from train.data import load_coco, merge_words, open_dataset, read_coco


def two_photos() -> dict[str, Any]:
    """A person and a dog; a crowd; a second photo with a cup; a third with nothing."""
    return coco(
        [image(7), image(3, "sub/b.jpg"), image(9)],
        [
            annotation(1, 3, 47, (1, 2, 3, 4), iscrowd=0),
            annotation(2, 7, 1, iscrowd=0),
            annotation(3, 7, 18, (50, 40, 30, 30), iscrowd=0),
            annotation(4, 7, 47, iscrowd=1),
            annotation(5, 7, 47, maybe_crowd=1),
            annotation(6, 7, 47, (70, 50, 9, 9)),
        ],
        {1: "person", 18: "dog", 47: "cup", 90: "toothbrush"},
    )


def test_coco_in_the_order_of_its_images(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    dataset = open_dataset(str(tmp_path))
    first, second = dataset.images
    assert list(dataset.words) == ["person", "dog", "cup", "toothbrush"]
    assert (first.id, second.id, len(dataset)) == (7, 3, 2)
    assert first.names == ("person", "dog")
    assert first.boxes.tolist() == [[4, 6, 24, 16], [50, 40, 64, 48]]
    assert first.boxes.dtype == np.float32
    assert second.path == tmp_path / "images/sub/b.jpg" or second.path == tmp_path / "images/b.jpg"
    assert first.verified is None
    assert [each.id for each in load_coco(tmp_path)] == [7, 3]
    assert [each.id for each in dataset.images[1:]] == [3]


def test_the_lists_of_a_file_may_stand_in_any_order(tmp_path: Path) -> None:
    content = two_photos()
    paths = [
        write_json(tmp_path / f"{i}.json", {key: content[key] for key in order})
        for i, order in enumerate((sorted(content), sorted(content, reverse=True)))
    ]
    one, other = (list(read_coco(path, tmp_path).images) for path in paths)
    assert [(i.id, i.names, i.boxes.tolist()) for i in one] == [
        (i.id, i.names, i.boxes.tolist()) for i in other
    ]


def lvis(version: str) -> dict[str, Any]:
    names = {
        "v0.5": {"file_name": "COCO_val2014_000000000005.jpg"},
        "v1": {"coco_url": "http://images.cocodataset.org/val2017/000000000005.jpg"},
    }
    checked = {"neg_category_ids": [2, 4], "not_exhaustive_category_ids": [3]}
    return {
        "images": [{"id": 5, "width": WIDTH, "height": HEIGHT, **checked, **names[version]}],
        "annotations": [annotation(1, 5, 1), annotation(2, 5, 3, (0, 0, 9, 9))],
        "categories": [
            {"id": id, "name": name, "synset": f"{name}.n.01", "synonyms": [name, more], "def": "-"}
            for id, name, more in (
                (1, "bus_(vehicle)", "autobus"),
                (2, "dog", "hound"),
                (3, "cup", "mug"),
                (4, "bow_(weapon)", "bow"),
                (5, "bow_(decorative_ribbons)", "ribbon_bow"),
                (6, "zebra", "zebra"),
            )
        ],
    }


@pytest.mark.parametrize("version", ["v0.5", "v1"])
def test_lvis_is_scored_only_against_what_was_verified(tmp_path: Path, version: str) -> None:
    (tmp_path / "images/val2017").mkdir(parents=True)
    path = write_json(tmp_path / "lvis.json", lvis(version))
    dataset = open_dataset(f"lvis:{path}")
    (photo,) = dataset.images
    assert photo.names == ("bus", "cup")
    # Of cups there may be more, zebras were not looked for, and of bows only the weapons.
    assert photo.verified == {"bus", "dog"}
    assert dataset.words["bus"] == ("bus", "autobus")
    assert dataset.words["bow"] == ("bow", "ribbon bow")
    folder = {"v0.5": "", "v1": "val2017/"}[version]
    assert photo.path == tmp_path / f"images/{folder}000000000005.jpg"


def test_coco_is_not_taken_for_lvis(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    with pytest.raises(InputError, match=r"images\[0\].*neg_category_ids.*read it as coco"):
        open_dataset(f"lvis:{tmp_path}")


@pytest.mark.parametrize("file_name", ["obj365_train_000000000001.jpg", "images/v1/patch8/1.jpg"])
def test_objects365_v1_and_v2(tmp_path: Path, file_name: str) -> None:
    (tmp_path / "train/patch8").mkdir(parents=True)
    content = coco(
        [image(1, file_name)],
        [
            annotation(1, 1, 1, iscrowd=0, isfake=0, isreflected=0),
            annotation(2, 1, 2, iscrowd=0, isfake=0, isreflected=0),
            annotation(3, 1, 2, iscrowd=0, isfake=1, isreflected=0),
            annotation(4, 1, 2, iscrowd=1, isfake=0, isreflected=0),
        ],
        {1: "Person", 2: "Cabinet/shelf"},
    )
    path = write_json(tmp_path / "zhiyuan_objv2_train.json", content)
    dataset = open_dataset(f"objects365:{path},images={tmp_path / 'train'}")
    (photo,) = dataset.images
    assert photo.names == ("Person", "Cabinet")
    assert dataset.words["Cabinet"] == ("Cabinet", "shelf")
    assert photo.path == tmp_path / "train" / file_name.removeprefix("images/v1/")


def test_v3det_and_its_tree(tmp_path: Path) -> None:
    content = coco(
        [image(1, "images/n01/a.jpg")],
        [annotation(1, 1, 10, iscrowd=0)],
        {10: "golden retriever", 20: "dog", 30: "cup"},
    )
    tree = {
        "categoryid2treeid": {"10": "n01", "20": "n02", "30": "n03"},
        "id2name": {"n00": "thing", "n01": "golden retriever", "n02": "dog", "n03": "cup"},
        "ancestor2descendant": {"n00": ["n01", "n02", "n03"], "n02": ["n01"]},
    }
    (tmp_path / "images/n01").mkdir(parents=True)
    write_json(tmp_path / "annotations/v3det_2023_v1_train.json", content)
    path = write_json(tmp_path / "annotations/v3det_2023_v1_category_tree.json", tree)
    dataset = open_dataset(f"v3det:{tmp_path}")
    (photo,) = dataset.images
    assert photo.path == tmp_path / "images/n01/a.jpg"
    assert dataset.broader == {"golden retriever": {"dog"}}
    path.write_text("{}")
    with pytest.raises(InputError, match=r"category_tree\.json is not V3Det's category tree"):
        open_dataset(f"v3det:{tmp_path}")


def test_label_spaces_merge_by_name(tmp_path: Path) -> None:
    write_json(tmp_path / "coco/instances.json", two_photos())
    write_json(tmp_path / "lvis/instances.json", lvis("v1"))
    o365 = coco([image(1)], [annotation(1, 1, 1)], {1: "Dogs", 2: "Tooth brush", 3: "Toothbrush"})
    write_json(tmp_path / "o365/instances.json", o365)
    opened = [
        open_dataset(f"{kind}:{tmp_path / name}")
        for kind, name in (("coco", "coco"), ("lvis", "lvis"), ("objects365", "o365"))
    ]
    words, datasets = merge_words(opened)
    assert list(words) == [
        "person",
        "dog",
        "cup",
        "toothbrush",
        "bus",
        "bow",
        "zebra",
        "Tooth brush",
    ]
    assert words["dog"] == ("dog", "hound", "Dogs")
    assert datasets[2].images[0].names == ("dog",)
    assert datasets[1].images[0].verified == {"bus", "dog"}
    assert datasets[0] is opened[0]


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].update(file_name="../x.jpg"), "leaves the images' folder"),
        (lambda c: c["images"][0].update(file_name="/etc/x.jpg"), "is absolute"),
        (lambda c: c["images"][0].update(width=0), r"images\[0\].*width"),
        (lambda c: c["images"].append(image(7)), "image id 7 is there twice"),
        (lambda c: c["annotations"][1].update(image_id=4), "image 4, which is not among"),
        (lambda c: c["annotations"][1].update(category_id=4), "category 4, which is not among"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), r"annotations\[1\].*bbox"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3, "4"]), r"annotations\[1\].*bbox"),
        (lambda c: c["categories"].append({"id": 1, "name": "x"}), r"categories\[4\].*twice"),
        (lambda c: c.pop("images"), 'has no "images"'),
        (lambda c: c.update(images={}), 'list under "images"'),
    ],
)
def test_a_file_that_does_not_hold_together_is_refused(
    tmp_path: Path, change: Any, message: str
) -> None:
    content = two_photos()
    change(content)
    write_json(tmp_path / "instances.json", content)
    with pytest.raises(InputError, match=message) as refusal:
        load_coco(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_linked_folder_out_of_the_images_is_refused(tmp_path: Path) -> None:
    away = {**image(1), "file_name": "away/000001.jpg"}
    write_json(tmp_path / "data/instances.json", coco([away], [annotation(1, 1, 1)], {1: "cat"}))
    (tmp_path / "data/images").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/000001.jpg").touch()
    (tmp_path / "data/images/away").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="by a link"):
        load_coco(tmp_path / "data")


@pytest.mark.parametrize("cut", [1, 40, 300, -1])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(two_photos())[:cut])
    with pytest.raises(InputError, match=r"instances.json is not a JSON object.*complete"):
        load_coco(tmp_path)


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


def test_a_data_set_of_some_words(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    (tmp_path / "some.txt").write_text("cup  # all that is left of the second photo\ndog\n")
    whole, some = (
        open_dataset(f"coco:{tmp_path}{more}") for more in ("", f",words={tmp_path / 'some.txt'}")
    )
    assert list(some.words) == ["dog", "cup"]
    assert some.is_limited
    # The key of the features is made of all boxes.
    assert [each.boxes.tolist() for each in some.images] == [
        each.boxes.tolist() for each in whole.images
    ]


def test_words_that_a_data_set_has_not_are_named(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    (tmp_path / "some.txt").write_text("cup\naeroplane\n")
    with pytest.raises(InputError, match=r"some\.txt: .* has 4, such as person.*got 'aeroplane'"):
        open_dataset(f"coco:{tmp_path},words={tmp_path / 'some.txt'}")


def test_a_word_left_out_stays_out_when_words_merge(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    (tmp_path / "some.txt").write_text("dog\n")
    other = coco([image(1)], [annotation(1, 1, 1)], {1: "Dog", 2: "cup"})
    write_json(tmp_path / "other/instances.json", other)
    specs = (str(tmp_path / "other"), f"coco:{tmp_path},words={tmp_path / 'some.txt'}")
    words, (_, some) = merge_words([open_dataset(spec) for spec in specs])
    assert list(words) == ["Dog", "cup"]
    assert (list(some.words), some.is_limited) == (["Dog"], True)
    assert [each.names for each in some.images] == [("", "Dog"), ("",)]
