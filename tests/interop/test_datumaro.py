"""datumaro reads what is written in each format that it knows, with the same classes and boxes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from integrations.annotations import Annotation, Category, LabelledImage
from integrations.formats.registry import format_named, write_folder
from regionspot.types import encode_mask

READ = """
import json, sys
import datumaro
dataset = datumaro.Dataset.import_from(sys.argv[1], sys.argv[2])
classes = dataset.categories()[datumaro.AnnotationType.label]
def box(annotation):
    return [round(float(side), 2) for side in annotation.get_bbox()]
print(json.dumps([
    [item.id, sorted(
        [type(each).__name__, classes[each.label].name, box(each)]
        for each in item.annotations
    )]
    for item in dataset
]))
"""
CATEGORIES = (Category(1, "car"), Category(2, "Äpfel"))
CAR, APPLES = [10, 20, 20, 20], [50, 8, 20, 16]  # left, top, width, height


def labelled() -> tuple[LabelledImage, ...]:
    mask = np.zeros((80, 100), np.bool_)
    mask[20:40, 10:30] = True
    apples = Annotation(2, (50.0, 8.0, 70.0, 24.0))
    car = Annotation(1, (10.0, 20.0, 30.0, 40.0), mask=encode_mask(mask))
    return (
        LabelledImage(1, "a.png", 100, 80, (car, apples)),
        LabelledImage(2, "b.png", 100, 80, (apples,)),
    )


def blank(image: LabelledImage, target: Path) -> None:
    Image.new("RGB", (image.width, image.height)).save(target)


@pytest.fixture
def read(run_there: Callable[..., str], tmp_path: Path) -> Callable[[str, str], dict[str, object]]:
    """Writes a format of ours and reads it as one of datumaro's: annotations by image."""

    def write_and_read(ours: str, theirs: str) -> dict[str, object]:
        out = tmp_path / ours
        write_folder(out, format_named(ours), CATEGORIES, labelled(), None, blank)
        if ours == "coco":  # datumaro's layout, in which the COCO data set itself comes
            (out / "annotations").mkdir()
            (out / "labels.coco.json").rename(out / "annotations/instances_train.json")
            (out / "images").rename(out / "train")
            (out / "images").mkdir()
            (out / "train").rename(out / "images/train")
        printed = run_there(READ, str(out), theirs).splitlines()[-1]
        return {name.rpartition("/")[2]: annotations for name, annotations in json.loads(printed)}

    return write_and_read


def test_coco(read: Callable[[str, str], dict[str, object]]) -> None:
    found = read("coco", "coco_instances")
    apples = [["Bbox", "Äpfel", APPLES], ["Polygon", "Äpfel", APPLES]]
    car = [["Bbox", "car", CAR], ["RleMask", "car", CAR]]
    assert found == {"a": sorted(car + apples), "b": apples}


def test_cvat(read: Callable[[str, str], dict[str, object]]) -> None:
    apples = ["Bbox", "Äpfel", APPLES]
    car = [["Bbox", "car", CAR], ["Mask", "car", CAR]]
    assert read("cvat", "cvat") == {"a": sorted([*car, apples]), "b": [apples]}


def test_yolo(read: Callable[[str, str], dict[str, object]]) -> None:
    apples, car = ["Bbox", "Äpfel", APPLES], ["Bbox", "car", CAR]
    assert read("yolo", "yolo") == {"a": sorted([car, apples]), "b": [apples]}


def test_voc(read: Callable[[str, str], dict[str, object]]) -> None:
    """datumaro takes VOC's pixels, counted from 1 with the last one inside, as coordinates."""
    apples, car = ["Bbox", "Äpfel", [51, 9, 19, 15]], ["Bbox", "car", [11, 21, 19, 19]]
    assert read("voc", "voc_detection") == {"a": sorted([car, apples]), "b": [apples]}
