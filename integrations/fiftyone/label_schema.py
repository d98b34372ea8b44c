"""The label schema of a run's field: what the App's Annotate tab shows and lets a person change.

https://docs.voxel51.com/user_guide/annotation.html: without a schema the tab edits nothing.
"""

from collections.abc import Sequence
from typing import Any

from integrations.fiftyone.dataset import LabelField, load_detections
from integrations.fiftyone.labels import ACCEPTANCE, PROVENANCE, REVIEWED, SCORES

# Of a label schema's type, the name of FiftyOne's class of fields.
_FIELDS = {"str": "StringField", "float": "FloatField", "bool": "BooleanField"}
# A label with these is still what a model said; a person gives it another class, or the check mark.
_READ_ONLY = (
    {"predicted": "str", "confidence": "float", ACCEPTANCE: "str"}
    | SCORES
    | dict.fromkeys(PROVENANCE, "str")
)


def set_label_schema(target: LabelField, names: Sequence[str], owns_dataset: bool) -> None:
    """Make a run's field editable in the App; other fields' schemas stay as they are.

    Classes are a drop-down list, or free text where there are more than FiftyOne lists.

    Args:
        target: a field of detections.
        names: of category 1, 2, ...
        owns_dataset: whether the dataset is the run's own. Default classes and categories of a
            person's dataset are left alone where it has some.
    """
    from fiftyone.core.annotation.constants import VALUES_THRESHOLD

    dataset, classes = load_detections(target.dataset, target.field), list(names)
    attributes = [_read_only(name, type_) for name, type_ in _READ_ONLY.items()]
    attributes.append({"name": REVIEWED, "type": "bool", "component": "checkbox"})
    for each in attributes:
        declare_attribute(dataset, f"{target.field}.detections.{each['name']}", str(each["type"]))
    dataset.reload()  # a field that was just added lists no attribute until then
    schema: dict[str, Any] = {"type": "detections", "component": "text", "attributes": attributes}
    if len(classes) <= VALUES_THRESHOLD:
        schema |= {"component": "dropdown", "classes": classes}
    dataset.update_label_schema(target.field, schema)
    dataset.activate_label_schemas(target.field)
    _list_classes(dataset, target.field, classes, owns_dataset)


def _read_only(name: str, type_: str) -> dict[str, object]:
    return {"name": name, "type": type_, "component": "text", "read_only": True}


def declare_attribute(dataset: Any, path: str, type_: str) -> None:
    """Declare an attribute that no label has yet: FiftyOne accepts a schema of known ones alone."""
    import fiftyone as fo

    if dataset.get_field(path) is None:
        dataset.add_sample_field(path, getattr(fo, _FIELDS[type_]))


def _list_classes(dataset: Any, field: str, classes: list[str], owns_dataset: bool) -> None:
    """The field's classes, and the dataset's where it has none but those of an earlier run."""
    before = dataset.classes.get(field, [])
    listed = [each.get("name") for each in dataset.info.get("categories", ())]
    if owns_dataset or dataset.default_classes in ([], before):
        dataset.default_classes = classes
    if owns_dataset or listed in ([], before):
        dataset.info["categories"] = [
            {"id": number, "name": name, "supercategory": None}
            for number, name in enumerate(classes, start=1)
        ]
    dataset.classes[field] = classes
    dataset.save()
