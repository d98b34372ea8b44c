"""YOLO: boxes of single objects there and back, polygons as masks, refusals."""

import dataclasses
import tempfile
from pathlib import Path

import cv2
import fiftyone as fo
import numpy as np
import pytest
import supervision as sv
import yaml
from hypothesis import HealthCheck, given, settings
from PIL import Image

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    TallyEntry,
    as_rle,
)
from integrations.formats.registry import format_named, read_labels, write_folder
from integrations.split import Split
from regionspot.types import encode_mask
from tests.integrations.formats.factories import labelled_sets
from tests.integrations.formats.helpers import (
    assert_holds,
    assert_refused,
    blank,
    plain,
    through,
)


@pytest.mark.parametrize("name", ["yolo", "yolo-scores"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=labelled_sets().map(plain))
def test_yolo(name: str, data: LabelledSet) -> None:
    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        assert label.score == (expected.score if name == "yolo-scores" else None)

    found = through(name, data)
    assert [each.name for each in found.categories] == [each.name for each in data.categories]
    assert_holds(found, data, is_written, 0.01, compare)
    empty = [a for i in data.images for a in i.annotations if not a.is_crowd and not is_written(a)]
    assert sum(each.count for key, each in lost(name, data).items() if key[0] == "box") == len(
        empty
    )


def is_written(annotation: Annotation) -> bool:
    x1, y1, x2, y2 = annotation.box
    return not annotation.is_crowd and x1 < x2 and y1 < y2


def lost(name: str, data: LabelledSet) -> dict[tuple[str, str], TallyEntry]:
    with tempfile.TemporaryDirectory() as folder:
        format = format_named(name)
        return write_folder(Path(folder) / "out", format, data.categories, data.images).left_out


def test_yolo_polygons_become_masks(tmp_path: Path) -> None:
    write_folder(tmp_path, format_named("yolo"), [Category(1, "cat")], [], None)
    (tmp_path / "images").mkdir()
    Image.new("1", (10, 10)).save(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels/a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.6\n")
    (annotation,) = format_named("yolo").read(tmp_path, None).images[0].annotations
    assert annotation.box == (1, 1, 5, 6)
    assert annotation.mask == ((1.0, 1.0, 5.0, 1.0, 5.0, 6.0),)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels/a.txt", "7 .5 .5 1 1", "line 1: class 7 is not among"),
        ("labels/a.txt", "\n0 .5 .5 1", "line 2 must be"),
        ("labels/a.txt", "cat .5 .5 1 1", "must be numbers"),
        ("data.yaml", "names: [", "is not YAML"),
        ("data.yaml", "names: !!python/object:a.b {}", "is not YAML"),
        ("data.yaml", "names: [a]\ntrain: ../b\nval: images", "leaves the"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    (tmp_path / "images").mkdir()
    Image.new("1", (4, 4)).save(tmp_path / "images/a.png")
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\nval: images\n")
    assert_refused(tmp_path, "yolo", file, content, message)


SIZE = (100, 80)
CATEGORIES = (Category(3, "no"), Category(5, "1.0"))


def images(count: int = 12, annotations: tuple[Annotation, ...] = ()) -> list[LabelledImage]:
    own = annotations or (Annotation(5, (10, 20, 40, 60)), Annotation(3, (0, 0, 100, 80)))
    return [LabelledImage(n, f"set/{n}.png", *SIZE, own) for n in range(1, count + 1)]


def trainer_reads(folder: Path, part: str) -> dict[str, list[list[float]]]:
    """The images of a part and their rows, by the rules of ultralytics 8: both parts are stated, a
    part is a folder or a list, `labels` stands for the last `images`, and all of it is in range."""
    top = yaml.safe_load((folder / "data.yaml").read_text())
    assert {"train", "val", "names"} <= top.keys()
    assert top["train"] != top["val"]
    assert sorted(top["names"]) == list(range(len(top["names"])))
    at = folder / top[part]
    if at.suffix == ".txt":
        found = [at.parent / line.removeprefix("./") for line in at.read_text().splitlines()]
    else:
        found = sorted(path for path in at.rglob("*") if path.is_file())
    rows = {}
    for image in found:
        assert image.is_file()
        before, _, after = str(image).rpartition("/images/")
        labels = Path(f"{before}/labels/{after}").with_suffix(".txt")
        rows[image.name] = [[float(x) for x in row.split()] for row in labels.open()]
        for row in rows[image.name]:
            assert 0 <= row[0] < len(top["names"])
            assert len(row) == 5 or (len(row) > 6 and len(row) % 2)
            assert all(-0.01 <= each <= 1.01 for each in row[1:])
            assert len(row) > 5 or min(row[3:]) > 0
    return rows


@pytest.mark.parametrize("split", [None, Split((0.7, 0.2, 0.1))])
@pytest.mark.parametrize("name", ["yolo", "yolo-seg"])
def test_trainers_and_other_readers_take_an_export(
    tmp_path: Path, name: str, split: Split | None
) -> None:
    format = format_named(name)
    if split:
        format = format.with_split(split)
    data = images(40)
    write_folder(tmp_path / "out", format, CATEGORIES, data, None, blank)
    parts = {part: trainer_reads(tmp_path / "out", part) for part in (split or Split()).parts}
    assert all(parts.values())
    assert sorted(n for rows in parts.values() for n in rows) == sorted(
        Path(each.file_name).name for each in data
    )
    assert all(len(rows) == 2 for part in parts.values() for rows in part.values())
    for part, rows in parts.items():
        sub = f"{part}/set" if split else "set"
        folders = (tmp_path / "out/images" / sub, tmp_path / "out/labels" / sub)
        found = sv.DetectionDataset.from_yolo(*map(str, folders), str(tmp_path / "out/data.yaml"))
        assert len(found) == (len(rows) if split else len(data))
        assert found.classes == ["no", "1.0"]
        for _, _, detections in found:
            assert detections.class_id.tolist() == [1, 0]
            assert detections.xyxy[0] == pytest.approx([10, 20, 40, 60], abs=1)
        options = {"label_type": "polylines"} if name == "yolo-seg" else {}
        samples = fo.Dataset.from_dir(
            str(tmp_path / "out"), fo.types.YOLOv5Dataset, split=part, progress=False, **options
        )
        assert {Path(each.filepath).name for each in samples} == set(rows)
        samples.delete()
    back = read_labels(format, tmp_path / "out")
    assert len(back.images) == len(data)
    assert not back.tally.lines()
    assert [each.name for each in back.categories] == ["no", "1.0"]


def test_fiftyone_loads_an_export_without_options(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", format_named("yolo"), CATEGORIES, images(), None, blank)
    samples = fo.Dataset.from_dir(str(tmp_path / "out"), fo.types.YOLOv5Dataset, progress=False)
    assert len(samples) == len(trainer_reads(tmp_path / "out", "val")) > 0
    samples.delete()


def test_boxes_are_clipped_and_empty_ones_left_out(tmp_path: Path) -> None:
    boxes = [(10, 20, 40, 60), (-5, -5, 105, 85), (120, 20, 150, 60), (-40, 20, -10, 60)]
    own = tuple(Annotation(3, box) for box in [*boxes, (10, 20, 10, 60)])
    tally = write_folder(tmp_path, format_named("yolo"), CATEGORIES, images(1, own), None, blank)
    assert [line.split()[1:5] for line in (tmp_path / "labels/set/1.txt").open()] == [
        ["0.25000000", "0.50000000", "0.30000000", "0.50000000"],
        ["0.50000000", "0.50000000", "1.00000000", "1.00000000"],
    ]
    assert tally.annotations == 2
    assert [each.count for each in tally.left_out.values()] == [3]
    assert [each.count for each in tally.changed.values()] == [1]


def test_masks_into_boxes_are_counted(tmp_path: Path) -> None:
    own = (Annotation(3, (10, 10, 50, 50), mask=((10.0, 10.0, 50.0, 10.0, 50.0, 50.0),)),)
    tally = write_folder(tmp_path, format_named("yolo"), CATEGORIES, images(1, own), None, blank)
    assert "1 x mask: the format that is written cannot hold it" in "".join(tally.lines())


def test_masks_as_polygons_and_back(tmp_path: Path) -> None:
    pixels = np.zeros((80, 100), np.uint8)
    cv2.circle(pixels, (30, 40), 20, 1, -1)
    cv2.rectangle(pixels, (70, 10), (90, 30), 1, -1)
    ring = pixels.copy()
    cv2.circle(ring, (30, 40), 5, 0, -1)
    own = (
        Annotation(3, (10, 20, 91, 61), mask=encode_mask(pixels.astype(bool))),
        Annotation(5, (10, 20, 91, 61), mask=encode_mask(ring.astype(bool))),
        Annotation(5, (5, 5, 30, 20), mask=((5.0, 5.0, 30.0, 5.0, 30.0, 20.0),)),
    )
    out = tmp_path / "out"
    tally = write_folder(out, format_named("yolo-seg"), CATEGORIES, images(1, own), None, blank)
    assert {key: each.count for key, each in tally.changed.items()} == {
        ("mask", "its parts are joined by lines of no width"): 2,
        ("mask", "its holes are filled"): 1,
    }
    found = read_labels(format_named("yolo-seg"), out).images[0].annotations
    assert [each.category_id for each in found] == [1, 2, 2]
    assert found[2].mask == own[2].mask
    for label in found[:2]:
        assert label.box == pytest.approx((10, 10, 91, 61), abs=1)
        filled = cv2.fillPoly(
            np.zeros((80, 100), np.uint8),
            [np.round(np.reshape(label.mask, (-1, 2)) - 0.5).astype(np.int32)],
            1,
        )
        assert (filled & pixels).sum() / (filled | pixels).sum() > 0.93


def test_the_smallest_masks_keep_their_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((80, 100), np.bool_)
    pixels[7, 9] = True
    own = (Annotation(3, (9, 7, 10, 8), mask=encode_mask(pixels)), Annotation(3, (0, 0, 5, 5)))
    tally = write_folder(
        tmp_path, format_named("yolo-seg"), CATEGORIES, images(1, own), None, blank
    )
    assert list(tally.changed) == [("box", "it has no mask; its four corners are written")]
    one, box = read_labels(format_named("yolo-seg"), tmp_path).images[0].annotations
    assert one.mask is not None
    assert as_rle(one.mask, *SIZE) == encode_mask(pixels)
    assert box.box == (0, 0, 5, 5)


def test_a_split_moves_no_image_when_others_come(tmp_path: Path) -> None:
    format = format_named("yolo").with_split(Split((0.8, 0.1, 0.1), seed=7))
    parts = []
    for number, count in enumerate((40, 80)):
        out = tmp_path / str(number)
        write_folder(out, format, CATEGORIES, images(count), None, blank)
        parts.append({p.name: p.parent.parent.name for p in out.rglob("*.png")})
    assert len(parts[1]) == 80
    assert parts[0].items() <= parts[1].items()
    assert set(parts[1].values()) == {"train", "val", "test"}


def test_a_folder_named_images_is_left_out_of_names(tmp_path: Path) -> None:
    own = [dataclasses.replace(images(1)[0], file_name="train/images/a.png")]
    tally = write_folder(tmp_path, format_named("yolo"), CATEGORIES, own, None, blank)
    assert (tmp_path / "images/train/a.png").is_file()
    assert len(tally.changed) == 1
    assert len(read_labels(format_named("yolo"), tmp_path).images[0].annotations) == 2
