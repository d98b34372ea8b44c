"""A run's field as the App edits it."""

import json
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from fiftyone import ViewField as F

from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.dataset import NEEDS_REVIEW, LabelField
from integrations.fiftyone.label_schema import set_label_schema
from tests.integrations.fiftyone.factories import (
    NAMES,
    add_labels,
    make_annotation,
    make_image,
    write_samples,
)

READ_ONLY = ["predicted", "confidence", "acceptance", "runner_up", "margin", "presence"]


@pytest.fixture
def dataset(target: LabelField, tmp_path: Path) -> Any:
    images = [make_image(1, make_annotation()), make_image(2)]
    add_labels(target, write_samples(tmp_path, 2), images)
    return fiftyone_dataset.load_dataset(target.dataset)


def test_words_are_a_list_and_what_the_model_said_is_read_only(
    dataset: Any, target: LabelField
) -> None:
    set_label_schema(target, NAMES, owns_dataset=True)
    assert dataset.active_label_schemas == ["predictions"]
    schema = dataset.label_schemas["predictions"]
    assert (schema["type"], schema["component"]) == ("detections", "dropdown")
    assert schema["classes"] == list(NAMES)
    attributes = {each["name"]: each for each in schema["attributes"]}
    assert list(attributes) == [*READ_ONLY, "run", "model", "vocabulary", "reviewed"]
    editable = [name for name, each in attributes.items() if not each.get("read_only")]
    assert editable == ["reviewed"]
    assert attributes["reviewed"]["component"] == "checkbox"
    assert dataset.default_classes == dataset.classes["predictions"] == list(NAMES)
    names = {each["id"]: each["name"] for each in dataset.info["categories"]}
    assert names == {1: "cat", 2: "hot dog"}


def test_a_coco_export_of_fiftyones_own_has_the_ids_of_ours(
    dataset: Any, target: LabelField, tmp_path: Path
) -> None:
    set_label_schema(target, ("dog", "cat"), owns_dataset=True)
    out = str(tmp_path / "labels.json")
    kind, categories = fo.types.COCODetectionDataset, dataset.info["categories"]
    field = "predictions"
    dataset.export(
        labels_path=out, dataset_type=kind, label_field=field, categories=categories, progress=False
    )
    (label,) = json.loads(Path(out).read_text())["annotations"]
    assert label["category_id"] == 2


@pytest.mark.parametrize(("count", "component"), [(1000, "dropdown"), (1001, "text")])
def test_more_words_than_fiftyone_lists_are_typed(
    dataset: Any, target: LabelField, count: int, component: str
) -> None:
    set_label_schema(target, [f"word {n}" for n in range(count)], owns_dataset=True)
    schema = dataset.label_schemas["predictions"]
    assert schema["component"] == component
    assert ("classes" in schema) == (component == "dropdown")


def test_a_field_without_a_label_has_a_schema_too(target: LabelField, tmp_path: Path) -> None:
    add_labels(target, write_samples(tmp_path, 1), [make_image(1)])
    set_label_schema(target, NAMES, owns_dataset=True)
    dataset = fiftyone_dataset.load_dataset(target.dataset)
    assert dataset.label_schemas["predictions"]["classes"] == list(NAMES)


def test_what_a_person_set_up_in_their_dataset_stays(dataset: Any, target: LabelField) -> None:
    theirs = fo.Detections(detections=[fo.Detection(label="mine", bounding_box=[0, 0, 1, 1])])
    dataset.set_values("ground_truth", [theirs, None])
    schema = {"type": "detections", "component": "dropdown", "classes": ["mine", "yours"]}
    dataset.update_label_schema("ground_truth", schema)
    dataset.activate_label_schemas("ground_truth")
    dataset.default_classes = ["mine"]
    dataset.info["categories"] = [{"id": 90, "name": "mine", "supercategory": None}]
    dataset.save()
    set_label_schema(target, NAMES, owns_dataset=False)
    assert dataset.label_schemas["ground_truth"] == schema
    assert dataset.active_label_schemas == ["ground_truth", "predictions"]
    assert dataset.default_classes == ["mine"]
    assert [each["id"] for each in dataset.info["categories"]] == [90]
    assert dataset.classes == {"predictions": list(NAMES)}


def test_other_words_replace_those_of_the_run_before(dataset: Any, target: LabelField) -> None:
    set_label_schema(target, NAMES, owns_dataset=False)
    assert dataset.default_classes == list(NAMES)
    set_label_schema(target, ("dog",), owns_dataset=False)
    assert dataset.label_schemas["predictions"]["classes"] == dataset.default_classes == ["dog"]
    assert [each["name"] for each in dataset.info["categories"]] == ["dog"]


@pytest.mark.parametrize("how", ["label tag", "check box", "image tag"])
def test_each_way_to_say_reviewed_counts(dataset: Any, target: LabelField, how: str) -> None:
    set_label_schema(target, NAMES, owns_dataset=True)
    names = fiftyone_dataset.save_views(target, confidence=0.9, margin=0.2)
    assert len(dataset.load_saved_view(names[NEEDS_REVIEW])) == 1
    sample = dataset.match(F("predictions.detections").length() > 0).first()
    (label,) = sample.predictions.detections
    if how == "label tag":
        label.tags.append("reviewed")
    elif how == "check box":
        label.reviewed = True
    else:
        sample.tags.append("reviewed")
    sample.save()
    assert len(dataset.load_saved_view(names[NEEDS_REVIEW])) == 0
