"""Boxes that the user gave are labelled as they are, and each label knows its box."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolabel import label
from autolabel.convert import convert
from autolabel.demo import write_photos
from autolabel.run.given_boxes import read_given_boxes
from autolabel.run.images import open_source
from regionspot.errors import InputError
from tests.autolabel.helpers import Autolabel, read_json

# Two boxes of one cat, which suppression would make one.
BOXES = [[60, 20, 340, 280], [62, 22, 338, 278]]


def coco_boxes(path: Path, width: int, height: int) -> Path:
    annotations = [
        {
            "id": 70 + number,
            "image_id": 5,
            "category_id": 9,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 0.2,
            "iscrowd": 0,
            "area": 1,
            "segmentation": [[x1, y1, x2, y1, x2, y2]],
        }
        for number, (x1, y1, x2, y2) in enumerate(BOXES)
    ]
    images = [
        {"id": 5, "file_name": "elsewhere/cat.png", "width": width, "height": height},
        {"id": 6, "file_name": "elsewhere/other.png", "width": 9, "height": 9},
    ]
    categories = [{"id": 9, "name": "thing"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", ["cat", "coffee"])


def size_of(photos: Path) -> tuple[Path, int, int]:
    from PIL import Image

    path = next(photos.glob("cat.*"))
    with Image.open(path) as image:
        return path, *image.size


def test_boxes_of_a_file(
    autolabel_cli: Autolabel, photos: Path, words: Path, tmp_path: Path
) -> None:
    path, width, height = size_of(photos)
    boxes = coco_boxes(tmp_path / "boxes.json", width, height)
    boxes.write_text(boxes.read_text().replace("cat.png", path.name))
    before = boxes.read_bytes()
    command = ["run", photos, "--vocab", words, "--no-fiftyone", "--boxes", boxes]
    command += ["--out", tmp_path / "run", "--presence-threshold", "0"]
    result = autolabel_cli(*command)
    assert result.exit_code == 0, result.output
    labels = read_json(tmp_path / "run" / "labels.coco.json")["annotations"]
    assert {each["box_id"] for each in labels} == {"70", "71"}
    assert all(each["score"] <= 0.2 for each in labels)
    found = {each["box_id"]: each["bbox"] for each in labels}
    x1, y1, x2, y2 = BOXES[0]
    assert found["70"] == [x1, y1, x2 - x1, y2 - y1]
    # A triangle is half of its box: the given mask, not the localizer's.
    assert all(abs(each["area"] / np.prod(each["bbox"][2:]) - 0.5) < 0.02 for each in labels)
    assert "images without boxes: 1" in result.output
    assert "images of the boxes that are not labelled here: 1" in result.output
    assert boxes.read_bytes() == before
    boxes.write_text(boxes.read_text().replace("0.2", "0.3"))
    again = autolabel_cli(*command)
    assert again.exit_code == 1
    assert "other boxes in --boxes" in " ".join(again.output.split())


def test_label_files_alone_are_of_the_images_that_are_labelled(
    photos: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "classes.txt").write_text("thing\n")
    (labels / "cat.txt").write_text("0 0.5 0.5 0.5 0.25\n")
    source = open_source(str(photos))
    given = read_given_boxes(f"yolo:{labels}", source, None, keep_score=True)
    path, width, height = size_of(photos)
    (ref,) = [each for each in source.images if each.file_name == path.name]
    found = given.of(ref, width, height).proposals.boxes
    x, y = width / 4, height * 3 / 8
    assert np.allclose(found, [[x, y, width - x, height - y]], atol=0.01)
    assert "1 x image: it has no label file" in given.lines[0]


def test_boxes_of_parquet_are_those_of_the_json(photos: Path, tmp_path: Path) -> None:
    path, width, height = size_of(photos)
    boxes, folder = coco_boxes(tmp_path / "boxes.json", width, height), tmp_path / "parquet"
    boxes.write_text(boxes.read_text().replace("cat.png", path.name))
    convert(boxes, folder, from_format="coco", to_format="parquet")
    source = open_source(str(photos))
    given = [read_given_boxes(str(each), source, None, keep_score=True) for each in (boxes, folder)]
    assert given[0].contents == given[1].contents
    assert given[0].contents


def test_the_classes_of_scored_boxes_count(photos: Path, tmp_path: Path) -> None:
    """Whatever detector found them; of what a person drew, without a score, boxes alone do."""
    path, width, height = size_of(photos)
    boxes = coco_boxes(tmp_path / "boxes.json", width, height)
    boxes.write_text(boxes.read_text().replace("cat.png", path.name).replace("thing", "Cats"))

    def scores(name: str, **options: Any) -> list[float]:
        run = label(
            *(photos, ["cat", "cup", "leopard"]),
            boxes=boxes,
            fiftyone=False,
            out=tmp_path / name,
            presence_threshold=0,
            masks=False,
            **options,
        )
        return [row.score for row in run.rows() if row.word == "cat"]

    alone = scores("alone", detector_weight=0)
    assert len(alone) == len(BOXES)
    pooled = scores("pooled")
    assert all(one < more <= 0.2 for one, more in zip(alone, pooled, strict=True))
    without = scores("without score", keep_score=False, detector_weight=0)
    assert scores("classes without score", keep_score=False) == without
    boxes.write_text(boxes.read_text().replace('"score": 0.2, ', ""))
    assert scores("drawn") == without


def test_boxes_from_python(photos: Path, tmp_path: Path) -> None:
    path, _, _ = size_of(photos)
    boxes = {str(path): np.array(BOXES, np.float32)}
    run = label(
        *(photos, ["cat", "cup"]),
        boxes=boxes,
        fiftyone=False,
        out=tmp_path / "run",
        presence_threshold=0,
        masks=False,
    )
    assert sorted(row.box for row in run.rows()) == sorted(tuple(map(float, b)) for b in BOXES)


def test_errors_say_what_to_do(photos: Path, tmp_path: Path) -> None:
    source = open_source(str(photos))
    results = tmp_path / "results.json"
    results.write_text('[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}]')
    for boxes, message in (
        (str(results), "is a list of results"),
        (str(tmp_path / "none.json"), "is not there"),
        ("fiftyone:ground_truth", "needs a dataset fiftyone:NAME"),
        (str(photos), "say FORMAT:"),
    ):
        with pytest.raises(InputError, match=message):
            read_given_boxes(boxes, source, None, True)
    with pytest.raises(InputError, match="none of its images is labelled here"):
        read_given_boxes({"x.jpg": np.zeros((0, 4), np.float32)}, source, None, True)


def test_image_of_another_size_is_refused(photos: Path, tmp_path: Path) -> None:
    path, width, height = size_of(photos)
    boxes = coco_boxes(tmp_path / "boxes.json", width + 1, height)
    boxes.write_text(boxes.read_text().replace("cat.png", path.name))
    source = open_source(str(photos))
    given = read_given_boxes(str(boxes), source, None, True)
    ref = next(each for each in source.images if each.file_name == path.name)
    message = f"has {width} x {height} pixels, and its labels say {width + 1} x {height}: they are"
    with pytest.raises(InputError, match=message):
        given.of(ref, width, height)
