"""COCO: what is written is read back, and by pycocotools; results; old files stay on errors."""

import copy
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from lvis import LVIS, LVISEval, LVISResults
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from autolabel.convert import convert
from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    as_rle,
)
from integrations.formats.coco import read_coco, read_coco_images, read_coco_results, write_coco
from integrations.formats.lvis import read_lvis, write_lvis
from regionspot.errors import InputError
from regionspot.types import encode_mask
from tests.integrations.formats.factories import labelled_sets, small_set
from tests.integrations.formats.helpers import Write, as_read, assert_same_image, through_file


@settings(max_examples=60, deadline=None)
@given(labelled_sets())
def test_coco_keeps_all_that_it_can_hold(data: LabelledSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = through_file(Path(folder) / "labels.json", write_coco, read_coco, data)
        COCO(str(Path(folder) / "labels.json"))
    assert [(one.id, one.name, one.supercategory) for one in found.categories] == [
        (one.id, one.name, one.supercategory) for one in data.categories
    ]
    first_id = 1
    for one, image in zip(found.images, data.images, strict=True):
        bare = dataclasses.replace(image, absent=(), unverified=())
        assert_same_image(one, as_read(bare, first_id))
        first_id += len(image.annotations)


@settings(max_examples=20, deadline=None)
@given(labelled_sets())
def test_same_input_same_bytes(data: LabelledSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for write, read in ((write_coco, read_coco), (write_lvis, read_lvis)):
            files = [Path(folder) / f"{number}.json" for number in range(3)]
            again = through_file(files[0], write, read, data)
            write(files[1], data.categories, data.images)
            write(files[2], again.categories, again.images)
            assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


def test_coco_through_pycocotools(tmp_path: Path) -> None:
    data = small_set()
    write_coco(tmp_path / "labels.json", data.categories, data.images, {"run": "r1"})
    coco = COCO(str(tmp_path / "labels.json"))
    assert coco.getCatIds() == [1, 2, 3]
    assert coco.getImgIds() == [7, 9]
    assert coco.loadImgs(7)[0]["file_name"] == "a b/ñandú.jpg"
    first, second, third = coco.loadAnns(coco.getAnnIds(7))
    assert (first["id"], first["bbox"], first["score"]) == (1, [10, 5, 20, 10], 0.75)
    assert first["area"] == coco.annToMask(first).sum() == 190
    assert second["area"] == 1200
    assert second["segmentation"] == [[0, 0, 0, 30, 40, 30, 40, 0]]
    assert third["bbox"] == [39, 29, 1, 1]
    assert coco.dataset["info"] == {"run": "r1"}


def one_image(**values: object) -> LabelledImage:
    return LabelledImage(**{"id": 1, "file_name": "a.jpg", "width": 4, "height": 4, **values})


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (one_image(width=0), "expected a width and a height"),
        (one_image(file_name="../a.jpg"), "leaves the images' folder"),
        (one_image(attributes={"width": 3}), "may not be named width"),
        (one_image(annotations=(Annotation(2, (0, 0, 1, 1)),)), "category 2 is not in the"),
        (one_image(annotations=(Annotation(1, (3, 0, 1, 1)),)), "expected a box"),
        (one_image(annotations=(Annotation(1, (0, 0, float("nan"), 1)),)), "expected a box"),
        (one_image(annotations=(Annotation(1, (0, 0, 1, 1), float("nan")),)), "must be finite"),
        (
            one_image(annotations=(Annotation(1, (0, 0, 1, 1), mask=encode_mask(np.eye(5) > 0)),)),
            r"expected a mask of size \[4, 4\]",
        ),
        (
            one_image(annotations=(Annotation(1, (0, 0, 1, 1), id=5), Annotation(1, (0, 0, 1, 1)))),
            "either all annotations have an id",
        ),
    ],
)
@pytest.mark.parametrize("write", [write_coco, write_lvis])
def test_what_cannot_be_written_leaves_the_old_file(
    tmp_path: Path, write: Write, image: LabelledImage, expected: str
) -> None:
    path = tmp_path / "labels.json"
    path.write_text("old")
    with pytest.raises(InputError, match=expected):
        write(path, [Category(1, "cat")], [image])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_stop_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def images():
        yield one_image()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_coco(tmp_path / "labels.json", [Category(1, "cat")], images())
    assert not list(tmp_path.iterdir())


def test_no_images_is_a_valid_file(tmp_path: Path) -> None:
    write_coco(tmp_path / "new folder/labels.json", [Category(1, "cat")], [])
    top = json.loads((tmp_path / "new folder/labels.json").read_text())
    assert top["images"] == top["annotations"] == []
    assert COCO(str(tmp_path / "new folder/labels.json")).getCatIds() == [1]


def results_of(*values: dict[str, object]) -> str:
    return json.dumps(
        [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], **v} for v in values]
    )


def test_results_are_read_with_the_ids_of_the_ground_truth(tmp_path: Path) -> None:
    truth, path = small_set(), tmp_path / "results.json"
    path.write_text(results_of({"score": 0.5}, {"score": 1, "category_id": 1}))
    found = read_coco_results(path, truth)
    first, second = found.images
    assert found.categories == truth.categories
    assert first.annotations == (Annotation(2, (1, 2, 4, 6), 0.5), Annotation(1, (1, 2, 4, 6), 1.0))
    assert (first.id, first.unverified, second.id, second.annotations) == (7, (), 9, ())
    path.write_text("[]")
    assert not any(image.annotations for image in read_coco_results(path, truth).images)


def test_predictions_may_be_a_label_file_too(tmp_path: Path) -> None:
    data = small_set()
    write_coco(tmp_path / "labels.json", data.categories, data.images)
    assert read_coco_results(tmp_path / "labels.json", data) == read_coco(tmp_path / "labels.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[5]", r"results\[0\] must be an object, got 5"),
        (results_of({"score": 0.5}, {}), r'results\[1\]: "score" must be a number, got None'),
        (results_of({"score": 1, "image_id": 8}), r"results\[0\]: image_id or category_id is not"),
        (results_of({"score": 1, "bbox": [1, 2, 3]}), r"results\[0\]: .bbox. must be left, top"),
        ('[{"image_id": 7,', "line 1 is not JSON"),
        ("[] []", "there is more behind the end"),
        ('{"annotations": []}', 'no label file: expected an object with "images"'),
    ],
)
def test_a_broken_list_of_results_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_coco_results(path, small_set())
    assert str(caught.value).startswith(str(path))


KEYPOINTS = {"keypoints": [10, 20, 2, 30, 40, 2], "num_keypoints": 2}
CVAT: dict[str, Any] = {
    "info": {"year": 2026},
    "licenses": [{"id": 1, "name": "CC BY"}],
    "type": "instances",
    "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80, "license": 1}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [20, 30, 60, 20],
            "area": 1200,
            "iscrowd": 0,
            "attributes": {"occluded": False, "rotation": 0.0, "track_id": 3},
            **KEYPOINTS,
        }
    ],
    "categories": [{"id": 1, "name": "cat", "keypoints": ["l", "r"], "skeleton": [[1, 2]]}],
}


def cvat_export(tmp_path: Path, **attributes: object) -> Path:
    top = copy.deepcopy(CVAT)
    top["annotations"][0]["attributes"].update(attributes)
    path = tmp_path / "in.json"
    path.write_text(json.dumps(top))
    return path


def test_what_is_not_understood_is_kept_or_counted(tmp_path: Path) -> None:
    path = cvat_export(tmp_path)
    done = convert(path, tmp_path / "out.json", from_format="coco", to_format="coco")
    assert done.tally.lines() == [
        f"left out: 1 x type of the file: it is not COCO's; first: {path}"
    ]
    found = json.loads((tmp_path / "out.json").read_text())
    for group in ("images", "annotations", "categories"):
        assert found[group][0] == found[group][0] | CVAT[group][0]
    assert (found["info"], found["licenses"]) == (CVAT["info"], CVAT["licenses"])
    other = convert(path, tmp_path / "voc", from_format="coco", to_format="voc")
    kinds = {kind for kind, _ in other.tally.left_out}
    assert {"keypoints", "attributes", "attribute 'num_keypoints'"} < kinds
    assert {"keypoints of a class", "skeleton of a class"} < kinds


def test_cvats_rotation_is_honoured(tmp_path: Path) -> None:
    data = read_coco(cvat_export(tmp_path, rotation=90.0))
    (label,) = data.images[0].annotations
    assert label.box == (40, 10, 60, 70)
    assert label.mask == ((60, 10, 60, 70, 40, 70, 40, 10),)
    assert label.extra["attributes"] == {"occluded": False, "track_id": 3}
    assert "changed: 1 x rotated box" in " ".join(data.tally.lines())
    upright = read_coco(cvat_export(tmp_path, rotation=360.0)).images[0].annotations[0]
    assert (upright.box, upright.mask) == ((20, 30, 80, 50), None)


def test_a_polygon_far_out_of_its_image_is_clipped(tmp_path: Path) -> None:
    far = (10.0, 10.0, 1e9, 10.0, 1e9, 20.0, 10.0, 20.0)
    image = LabelledImage(1, "a.jpg", 40, 30, (Annotation(1, (10, 10, 40, 20), mask=(far,)),))
    tally = write_coco(tmp_path / "out.json", [Category(1, "cat")], [image])
    (label,) = read_coco(tmp_path / "out.json").images[0].annotations
    assert label.mask == ((10, 10, 40, 10, 40, 20, 10, 20),)
    assert as_rle((far,), 40, 30) == as_rle(label.mask, 40, 30)
    assert [kind for kind, _ in tally.changed] == ["polygon"]


def test_pycocotools_and_lvis_evaluate_our_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis 0.5 asks NumPy for it
    data = small_set()
    first, second = data.images
    crowd = Annotation(3, (0, 0, 9, 9), 0.5, is_crowd=True)
    first = dataclasses.replace(first, annotations=(*first.annotations, crowd))
    truth = tmp_path / "truth.json"
    write_coco(truth, data.categories, (first, second))
    for record in json.loads(truth.read_text())["annotations"]:
        assert record["segmentation"]
        assert record["area"] >= 1
        assert isinstance(record["segmentation"], dict) or not record["iscrowd"]
    coco = COCO(str(truth))
    results = [
        {key: each[key] for key in ("image_id", "category_id", "bbox", "segmentation", "score")}
        for each in coco.dataset["annotations"]
        if not each["iscrowd"]
    ]
    for kind in ("bbox", "segm"):
        scored = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), kind)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
        assert scored.stats[0] == pytest.approx(1)
    write_lvis(tmp_path / "lvis.json", data.categories, data.images)
    lvis = LVIS(str(tmp_path / "lvis.json"))
    federated = LVISEval(lvis, LVISResults(lvis, copy.deepcopy(results)), "segm")
    federated.run()
    assert federated.results["AP"] == pytest.approx(1)


def test_images_are_listed_whatever_the_annotations_are(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text(
        '{"images": [{"id": 4, "file_name": "a.jpg"}], "annotations": [5, {"id": "x"}]}'
    )
    assert read_coco_images(path, tmp_path) == (LabelledImage(4, "a.jpg", 0, 0),)
