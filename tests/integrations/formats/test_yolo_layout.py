"""YOLO: where people have their images and labels, and what is said where something is missing."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from autolabel.convert import convert
from integrations.annotations import LabelledSet, ReadOptions
from integrations.formats.coco import read_coco
from integrations.formats.registry import format_named, read_labels
from regionspot.errors import InputError

NAMES = "names: [cat, dog]\n"
LINE = "1 0.5 0.5 0.2 0.25\n"
BOX = (40, 30, 60, 50)


def build(root: Path, files: dict[str, str]) -> Path:
    """A folder of these files; images are 100 x 80."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg"):
            Image.new("1", (100, 80)).save(path)
        else:
            path.write_text(content)
    return root


def read(path: Path, folder: Path | None = None, **options: object) -> LabelledSet:
    return read_labels(format_named("yolo"), path, folder, ReadOptions(**options))  # type: ignore[arg-type]


def boxes(data: LabelledSet) -> dict[str, list[tuple[float, ...]]]:
    return {image.file_name: [each.box for each in image.annotations] for image in data.images}


LAYOUTS = {
    "roboflow": (
        {
            "data.yaml": f"train: ../train/images\nval: ../valid/images\n{NAMES}nc: 2\n",
            "train/images/a.png": "",
            "train/labels/a.txt": LINE,
            "valid/images/b.png": "",
            "valid/labels/b.txt": LINE,
        },
        ["train/images/a.png", "valid/images/b.png"],
    ),
    "ultralytics": (
        {
            "data.yaml": f"path: ../datasets/coco8\ntrain: images/train\nval: images/val\n{NAMES}",
            "images/train/a.png": "",
            "labels/train/a.txt": LINE,
            "images/val/a.png": "",
            "labels/val/a.txt": LINE,
        },
        ["train/a.png", "val/a.png"],
    ),
    "lists": (
        {
            "data.yaml": f"train: train.txt\nval: [val.txt, more/images]\n{NAMES}",
            "train.txt": "./images/a.png\n",
            "val.txt": "images/b.png\n",
            "images/a.png": "",
            "labels/a.txt": LINE,
            "images/b.png": "",
            "labels/b.txt": LINE,
            "more/images/images/a.png": "",
            "more/images/labels/a.txt": LINE,
        },
        ["images/a.png", "images/b.png", "more/images/images/a.png"],
    ),
    "mapping of names": (
        {
            "data.yaml": "train: images\nval: images\nnames:\n  1: dog\n  0: cat\n",
            "images/a.png": "",
            "labels/a.txt": LINE,
        },
        ["a.png"],
    ),
    "absolute": (
        {
            "data.yaml": f"path: /content/mine\ntrain: /content/mine/images\nval:\n{NAMES}",
            "images/a.png": "",
            "labels/a.txt": LINE,
        },
        ["a.png"],
    ),
    "Windows": (
        {
            "data.yaml": f"train: C:\\mine\\train\\images\nval: train\\images\n{NAMES}",
            "train/images/a.png": "",
            "train/labels/a.txt": LINE,
        },
        ["train/images/a.png"],
    ),
    "labelImg": ({"classes.txt": "cat\ndog\n", "a.png": "", "a.txt": LINE}, ["a.png"]),
    "Label Studio": (
        {"classes.txt": "cat\ndog", "images/a.png": "", "labels/a.txt": LINE},
        ["a.png"],
    ),
    "CVAT": (
        {
            "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n",
            "obj.names": "cat\ndog\n",
            "train.txt": "data/obj_train_data/a.png\n",
            "obj_train_data/a.png": "",
            "obj_train_data/a.txt": LINE,
        },
        ["obj_train_data/a.png"],
    ),
    "beside": (
        {
            "data.yaml": f"train: photos\nval: photos\n{NAMES}",
            "photos/a.png": "",
            "photos/a.txt": LINE,
        },
        ["photos/a.png"],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_people_have(tmp_path: Path, layout: str) -> None:
    files, expected = LAYOUTS[layout]
    data = read(build(tmp_path, files))
    assert boxes(data) == {name: [BOX] for name in expected}
    assert [each.name for each in data.categories] == ["cat", "dog"]
    assert not data.tally.left_out


def test_roboflow_with_the_folder_of_one_part(tmp_path: Path) -> None:
    build(tmp_path, LAYOUTS["roboflow"][0])
    assert boxes(read(tmp_path, tmp_path / "train/images")) == {"a.png": [BOX]}


def test_label_files_alone_and_a_folder_of_images(tmp_path: Path) -> None:
    labels = build(tmp_path / "labels", {"classes.txt": "cat\ndog\n", "a.txt": LINE})
    images = build(tmp_path / "photos", {"a.png": ""})
    assert boxes(read(labels, images)) == {"a.png": [BOX]}


def test_roboflow_to_yolo_with_its_images(tmp_path: Path) -> None:
    source = build(tmp_path / "in", LAYOUTS["roboflow"][0])
    convert(source, tmp_path / "out", from_format="yolo", to_format="yolo", images="copy")
    assert boxes(read(tmp_path / "out")) == {"train/a.png": [BOX], "valid/b.png": [BOX]}


def test_no_label_file_is_an_error_that_says_where_was_looked(tmp_path: Path) -> None:
    build(tmp_path, {"data.yaml": f"train: images\nval: images\n{NAMES}", "images/a.png": ""})
    with pytest.raises(InputError, match="none of 1 images has a label file") as caught:
        read(tmp_path)
    assert str(tmp_path / "labels/a.txt") in str(caught.value)
    assert str(tmp_path / "images/a.txt") in str(caught.value)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"images/b.png": ""}, "it has no label file and counts as without objects"),
        ({"labels/b.txt": LINE}, "no image that is read has its name"),
        ({"images/b.png/x": "", "labels/sub/b.txt": LINE}, "no image that is read has its name"),
        ({"images/c.jpeg": "", "labels/c.txt": LINE}, "it cannot be read"),
    ],
)
def test_what_is_missing_is_counted(tmp_path: Path, more: dict[str, str], reason: str) -> None:
    files = {"data.yaml": f"train: images\nval: images\n{NAMES}", "images/a.png": ""}
    build(tmp_path, {**files, "labels/a.txt": LINE, **more})
    data = read(tmp_path)
    entries = {**data.tally.changed, **data.tally.left_out}
    assert [(key[1], each.count) for key, each in entries.items()] == [(reason, 1)]
    assert boxes(data)["a.png"] == [BOX]
    with pytest.raises(InputError, match="--strict"):
        read(tmp_path, strict=True)


@pytest.mark.parametrize("part", ["train", "valid", "test", "Val"])
@pytest.mark.parametrize("layout", ["{}/images/c.png {}/labels/c.txt", "{}/c.png {}/c.txt"])
@pytest.mark.parametrize("entry", ["", "#val: {}/images\n", "#{}: {}/images\n"])
def test_a_part_that_is_not_named_is_counted(
    tmp_path: Path, part: str, layout: str, entry: str
) -> None:
    image, labels = layout.replace("{}", part).split()
    files = {"data.yaml": f"train: photos\n{entry.replace('{}', part)}{NAMES}"}
    files |= {"photos/a.png": "", "photos/a.txt": LINE, image: "", labels: LINE}
    data = read(build(tmp_path, files))
    assert boxes(data) == {"photos/a.png": [BOX]}
    (entries,) = data.tally.left_out.items()
    assert entries[0][0] == "label file"
    assert (entries[1].count, entries[1].first) == (1, str(tmp_path / labels))


def test_predictions_beside_a_data_set_are_none_of_its_labels(tmp_path: Path) -> None:
    build(tmp_path, LAYOUTS["roboflow"][0] | {"runs/detect/val/labels/a.txt": LINE})
    assert not read(tmp_path).tally.left_out


def test_an_image_in_two_lists_is_read_once(tmp_path: Path) -> None:
    files = {"data.yaml": f"train: t.txt\nval: v.txt\ntest: ../test/images\n{NAMES}"}
    files |= {"t.txt": "images/a.png\nimages/gone.png", "v.txt": "./images/a.png\r\n"}
    data = read(build(tmp_path, {**files, "images/a.png": "", "labels/a.txt": LINE}))
    assert boxes(data) == {"a.png": [BOX]}
    assert [key[0] for key in data.tally.changed] == ["image"]
    assert [key[0] for key in data.tally.left_out] == ["image", "part of the data set"]


@pytest.mark.parametrize(
    "written", ["no", "yes", "on", "off", "null", "~", "1.0", "2024-01-01", "0x10", "1e3", "true"]
)
def test_class_names_are_the_text_that_was_written(tmp_path: Path, written: str) -> None:
    build(tmp_path, LAYOUTS["mapping of names"][0])
    (tmp_path / "data.yaml").write_text(f"train: images\nval: images\nnames: [cat, {written}]\n")
    assert read(tmp_path).categories[1].name == written


def test_two_classes_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    build(tmp_path, LAYOUTS["mapping of names"][0])
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cat, cat]\n")
    assert [(each.id, each.name) for each in read(tmp_path).categories] == [(1, "cat"), (2, "cat")]


def test_names_by_their_number_alone(tmp_path: Path) -> None:
    build(tmp_path, LAYOUTS["mapping of names"][0])
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnc: 2\n")
    assert [each.name for each in read(tmp_path).categories] == ["class_0", "class_1"]
    (tmp_path / "data.yaml").write_text(f"train: images\nval: images\n{NAMES}nc: 3\n")
    assert [key[0] for key in read(tmp_path).tally.changed] == ["nc"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"train: ../../etc\nval: images\n{NAMES}", "leaves the folder"),
        (f"train: /etc\nval: images\n{NAMES}", "leaves the folder"),
        (f"train: nowhere\nval: gone\n{NAMES}", "is not there"),
        (f"train: [[a]]\nval: images\n{NAMES}", "must be a folder"),
        (f"train: data.yaml\nval: data.yaml\n{NAMES}", "neither a folder nor"),
        ("train: images\nval: images\nnames: {0: a, 0: b}\n", "is there twice"),
        ("train: images\nval: images\nnames: {1: a}\n", "count its classes"),
        ("train: images\nval: images\nnames: [[a]]\n", "must be a text"),
        (f"train: images\nval: images\n{NAMES}kpt_shape: [0, 9]\n", "kpt_shape"),
        (NAMES, "expected .train."),
        ("[" * 5000, "is not YAML"),
        ("a: 1", "expected .names."),
    ],
)
def test_a_data_file_that_does_not_hold_together(
    tmp_path: Path, content: str, message: str
) -> None:
    build(tmp_path, {**LAYOUTS["mapping of names"][0], "data.yaml": content})
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    outside = build(tmp_path / "outside", {"images/a.png": "", "labels/a.txt": LINE})
    inside = build(tmp_path / "in", {"data.yaml": f"train: photos\nval: photos\n{NAMES}"})
    (inside / "photos").symlink_to(outside / "images")
    with pytest.raises(InputError, match="leaves"):
        read(inside)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\ufeff0 .5 .5 .2 .25\n".encode(), ""),
        (LINE.encode("utf-16"), "labels/a.txt: line 1: byte 1 .* is not UTF-8; save"),
        (LINE.encode("utf-16-le"), "labels/a.txt: line 1 must be numbers"),
        (b"0 .5 .5 .2 .25\n# caf\xe9\n", "labels/a.txt: line 2: byte 6 .* is not UTF-8; save"),
    ],
)
def test_encodings(tmp_path: Path, content: bytes, message: str) -> None:
    build(tmp_path, LAYOUTS["mapping of names"][0])
    (tmp_path / "labels/a.txt").write_bytes(content)
    if message:
        with pytest.raises(InputError, match=message):
            read(tmp_path)
    else:
        assert boxes(read(tmp_path)) == {"a.png": [BOX]}


def test_conversion_to_coco_takes_names_and_sizes(tmp_path: Path) -> None:
    source = build(tmp_path / "in", LAYOUTS["roboflow"][0])
    convert(source, tmp_path / "o.json", from_format="yolo", to_format="coco")
    found = read_coco(tmp_path / "o.json", source)
    assert [image.file_name for image in found.images] == LAYOUTS["roboflow"][1]
    assert [image.annotations[0].box for image in found.images] == [BOX, BOX]


MUTATIONS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["cut", "flip", "insert", "repeat"]),
        st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(layout=st.sampled_from(sorted(LAYOUTS)), at=st.integers(0, 9), mutations=MUTATIONS)
def test_mutations_are_read_or_refused_in_one_line(
    tmp_path: Path, layout: str, at: int, mutations: list[tuple[float, str, bytes]]
) -> None:
    files, expected = LAYOUTS[layout]
    root = build(tmp_path / "set", files)
    texts = sorted(name for name in files if not name.endswith(".png"))
    path = root / texts[at % len(texts)]
    content = path.read_bytes()
    for place, kind, extra in mutations:
        where = int(place * len(content))
        content = {
            "cut": content[:where],
            "flip": content[:where] + extra + content[where + len(extra) :],
            "insert": content[:where] + extra + content[where:],
            "repeat": content + content[where:],
        }[kind]
    path.write_bytes(content)
    found = outcome(root)
    shutil.rmtree(root)
    if isinstance(found, str):
        assert "\n" not in found
    elif path.suffix != ".txt" or path.stem not in ("a", "b"):
        # Of a label file itself, whole lines may be gone.
        labels = sum(len(image.annotations) for image in found.images)
        assert labels >= len(expected) or found.tally.lines()


def outcome(root: Path) -> LabelledSet | str:
    try:
        return read(root)
    except InputError as error:
        return str(error)
