"""COCO, LVIS, Objects365 and V3Det, each read from a small file in its true form."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from integrations.annotations import Tally
from regionspot.errors import InputError
from tests.train.data.contents import lvis, two_photos
from tests.train.written import (
    HEIGHT,
    WIDTH,
    annotation,
    coco,
    image,
    write_image,
    write_json,
)
from train.data.coco import load_coco, read_coco, read_folder
from train.data.dataset import merge_label_spaces
from train.data.registry import open_dataset

BOXES_OF_IMAGE = 20
# 20 bytes a box, as many again while they are sorted by image, and 60 an image.
BYTES_OF_BOX = 80
WINDOW = 3 << 20


def test_coco_in_the_order_of_its_images(tmp_path: Path) -> None:
    write_json(tmp_path / "instances.json", two_photos())
    dataset = open_dataset(str(tmp_path))
    first, second = dataset.images
    assert list(dataset.classes) == ["person", "dog", "cup", "toothbrush"]
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


BOLTS = {1: "bolt (M6)", 2: "bolt (M8)", 3: "(unknown)", 4: "type_1", 5: "type-1", 6: "A", 7: "a"}


def one_box_each(names: dict[int, str]) -> dict[str, Any]:
    return coco([image(1)], [annotation(id, 1, id) for id in names], names)


@pytest.mark.parametrize("kind", ["coco", "objects365", "v3det"])
def test_classes_are_called_as_the_data_names_them(tmp_path: Path, kind: str) -> None:
    path = write_json(tmp_path / "instances.json", one_box_each(BOLTS))
    tree = write_json(
        tmp_path / "v3det_2023_v1_category_tree.json",
        {"categoryid2treeid": {}, "ancestor2descendant": {}},
    )
    assert tree.exists()
    names = tuple(BOLTS.values())
    (tmp_path / "words.txt").write_text("\n".join(names))
    for spec in (f"{kind}:{path}", f"{kind}:{path},words={tmp_path / 'words.txt'}"):
        dataset = open_dataset(spec)
        assert dataset.classes == {name: (name,) for name in names}
        assert dataset.images[0].names == names
    classes, (merged,) = merge_label_spaces([dataset])
    assert (tuple(classes), merged.images[0].names) == (names, names)


def test_equal_names_are_told_apart_by_the_supercategory(tmp_path: Path) -> None:
    content = one_box_each({1: "bolt", 2: "bolt", 3: "nut", 4: "nut", 5: "cells"})
    for each, parent in zip(content["categories"], ("fastener", "weather", *"xx", ""), strict=True):
        each["supercategory"] = parent
    # What Roboflow writes: the project, named as its only class, and without a box.
    content["categories"].append({"id": 0, "name": "cells", "supercategory": "none"})
    dataset = read_coco(write_json(tmp_path / "instances.json", content), tmp_path)
    (photo,) = dataset.images
    assert photo.names == ("bolt (fastener)", "bolt (weather)", "nut", "nut", "cells")
    assert list(dataset.classes) == ["bolt (fastener)", "bolt (weather)", "nut", "cells"]
    (tmp_path / "words.txt").write_text("bolt\n")
    some = open_dataset(f"coco:{tmp_path},words={tmp_path / 'words.txt'}")
    assert list(some.classes) == ["bolt (fastener)", "bolt (weather)"]


def test_a_name_of_objects365_is_cut_only_where_it_stays_alone(tmp_path: Path) -> None:
    names = {1: "Cabinet/shelf", 2: "Cabinet", 3: "Lamp/Light (ceiling)", 4: "/x"}
    path = write_json(tmp_path / "o365.json", one_box_each(names))
    dataset = open_dataset(f"objects365:{path}")
    assert dataset.images[0].names == ("Cabinet/shelf", "Cabinet", "Lamp", "/x")
    assert dataset.classes["Lamp"] == ("Lamp", "Light (ceiling)")
    (tmp_path / "words.txt").write_text("Lamp/Light (ceiling)\nCabinet\n")
    some = open_dataset(f"objects365:{path},words={tmp_path / 'words.txt'}")
    assert list(some.classes) == ["Cabinet", "Lamp"]


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
    assert dataset.classes["Cabinet"] == ("Cabinet", "shelf")
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
    assert dataset.ancestors == {"golden retriever": {"dog"}}
    path.write_text("{}")
    with pytest.raises(InputError, match=r"category_tree\.json is not V3Det's category tree"):
        open_dataset(f"v3det:{tmp_path}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].update(file_name="../x.jpg"), "leaves the images' folder"),
        (lambda c: c["images"][0].update(file_name="/etc/x.jpg"), "is absolute"),
        (lambda c: c["images"][0].update(file_name="\ud800"), "not the name of a file"),
        (lambda c: c["images"][0].update(width=0), r"images\[0\].*width"),
        (lambda c: c["images"][0].update(id=-7), r"images\[0\].*whole number from 0, got -7"),
        (
            lambda c: c["annotations"][1].update(bbox=[1, 2, 10**400, 3]),
            r"annotations\[1\].*finite",
        ),
        (lambda c: c["images"].append(image(7)), "image id 7 is there twice"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 1e12, 3]), "must lie near its image"),
        (lambda c: c["annotations"][1].update(iscrowd="no"), r"annotations\[1\].*must be 0 or 1"),
        (lambda c: c.update(annotations=[]), "no box to train on: it has no boxes"),
        (lambda c: c.update(categories=[]), "no box to train on: .*4 x label: its category_id"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), r"annotations\[1\].*bbox"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3, "4"]), r"annotations\[1\].*bbox"),
        (lambda c: c["categories"].append({"id": 1, "name": "x"}), r"categories\[4\].*twice"),
        (lambda c: c["categories"][0].update(name=" "), r"categories\[0\].*name.*empty"),
        (lambda c: c.pop("images"), 'no label file: expected an object with "images"'),
        (lambda c: c.update(images={}), '"images" must be a list, got dict'),
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


CROWDS = {"crowd region": 1, "suspected crowd region": 1}


@pytest.mark.parametrize(
    ("change", "names", "kind", "reason"),
    [
        ({}, 2, "label", ""),
        ({"image_id": 4}, 1, "label", "its image_id is not among the images"),
        ({"image_id": None}, 1, "label", "its image_id is not among the images"),
        ({"category_id": 4}, 1, "label", "its category_id is not among the categories"),
        ({"category_id": None}, 1, "label", "its category_id is not among the categories"),
        ({"bbox": [60, 40, -9, 5]}, 2, "box", "it is missing or reversed; that of the mask"),
        ({"bbox": None}, 2, "box", "it is missing or reversed; that of the mask is taken"),
        ({"bbox": [], "segmentation": []}, 1, "label", "it has neither a box nor a mask"),
        ({"bbox": [9, 9, 5, -1], "segmentation": []}, 1, "label", "negative width or height"),
        ({"bbox": [70, 0, 5, 5]}, 1, "label", "it has no area inside the image"),
        ({"bbox": [60, 40, 9, 5]}, 2, "box", "it reaches out of the image and is clipped"),
        ({"attributes": {"rotation": 90}, "segmentation": []}, 2, "rotated box", "its angle"),
    ],
)
def test_a_blemish_of_one_box_is_counted(
    tmp_path: Path, change: Any, names: int, kind: str, reason: str
) -> None:
    content = two_photos()
    content["annotations"][2].update(bbox=[50, 30, 10, 6])
    content["annotations"][5].update(bbox=[50, 40, 9, 8])
    content["annotations"][2].update(change)
    write_json(tmp_path / "instances.json", content)
    tally = Tally()
    photo = next(each for each in read_folder(tmp_path, tally).images if each.id == 7)
    assert len(photo.names) == names + 1
    left_out = {of: entry.count for (of, _), entry in tally.left_out.items()}
    changed = {of: entry.count for (of, _), entry in tally.changed.items()}
    assert CROWDS.items() <= left_out.items()
    others = left_out.items() - CROWDS.items() | changed.items()
    assert others == ({(kind, 1)} if change else set())
    assert any(kind in line and reason in line for line in tally.lines()) or not change
    assert all(str(tmp_path / "instances.json") in line for line in tally.lines())
    with pytest.raises(InputError, match="--strict"):
        read_folder(tmp_path, Tally(strict=True))


def test_a_size_that_is_missing_is_that_of_the_file(tmp_path: Path) -> None:
    content = two_photos()
    del content["images"][0]["width"]
    write_json(tmp_path / "instances.json", content)
    write_image(tmp_path / "images/000007.jpg")
    tally = Tally()
    first = read_folder(tmp_path, tally).images[0]
    assert (first.width, first.height) == (WIDTH, HEIGHT)
    assert [(kind, entry.count) for (kind, _), entry in tally.changed.items()] == [
        ("image", 1),
        ("box", 1),
    ]


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


READ = """
import sys, tracemalloc
from pathlib import Path
from train.data.coco import read_coco
tracemalloc.start()
dataset = read_coco(Path(sys.argv[1]), Path(sys.argv[2]))
seen = sum(len(each.names) for each in dataset.images)
print([seen, tracemalloc.get_traced_memory()[1]])
"""


def write_large(path: Path, images: int) -> int:
    """A file as it is found in the wild: long segmentations, on one line. Returns its bytes."""
    outline = list(itertools.chain.from_iterable((i + 0.25, i + 0.5) for i in range(40)))
    number = itertools.count(1)

    def annotations() -> Iterator[str]:
        for image_id in range(images):
            for _ in range(BOXES_OF_IMAGE):
                each = annotation(next(number), image_id, 1, segmentation=[outline], iscrowd=0)
                yield json.dumps(each)

    with path.open("w") as file:
        file.write('{"info": {}, "images": [')
        file.writelines(f"{', ' if i else ''}{json.dumps(image(i))}" for i in range(images))
        file.write('], "annotations": [')
        file.writelines(f"{', ' if i else ''}{each}" for i, each in enumerate(annotations()))
        file.write('], "categories": [{"id": 1, "name": "cat"}]}')
    return path.stat().st_size


def test_memory_stays_bounded(tmp_path: Path) -> None:
    path, images = tmp_path / "large.json", 900
    size = write_large(path, images)
    # In a process of its own: threads of other tests allocate, too.
    done = subprocess.run(
        [sys.executable, "-c", READ, path, tmp_path], stdout=subprocess.PIPE, check=True
    )
    seen, peak = json.loads(done.stdout)
    assert seen == images * BOXES_OF_IMAGE
    assert size > 3 * WINDOW
    assert peak < WINDOW + BYTES_OF_BOX * seen


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
