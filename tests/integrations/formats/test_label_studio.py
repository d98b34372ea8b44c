"""Label Studio's tasks: all but attributes of images there and back, refusals."""

import copy
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    ReadOptions,
)
from integrations.formats.registry import format_named
from integrations.formats.rle import pack_brush
from regionspot.errors import InputError
from tests.integrations.formats.factories import labelled_sets
from tests.integrations.formats.helpers import (
    assert_holds,
    assert_refused,
    names,
    number_labels,
    plain,
    same_mask,
    through,
)


def _people_first(image: LabelledImage) -> LabelledImage:
    labels = sorted(image.annotations, key=lambda each: each.score is not None)
    return dataclasses.replace(image, annotations=tuple(labels))


@settings(max_examples=40, deadline=None)
@given(data=labelled_sets().map(plain))
def test_label_studio(data: LabelledSet) -> None:
    numbered = number_labels(data)

    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        kept = dataclasses.replace(label, box=expected.box, mask=expected.mask)
        assert dataclasses.replace(kept, category_id=expected.category_id) == expected
        same_mask(label, expected, image)

    found = through("label-studio", numbered)
    # What people drew is read before what the model predicted.
    numbered = dataclasses.replace(numbered, images=tuple(map(_people_first, numbered.images)))
    assert [each.name for each in found.categories] == [each.name for each in data.categories]
    for one, image in zip(found.images, data.images, strict=True):
        assert dataclasses.replace(one, annotations=image.annotations) == image
    assert_holds(found, numbered, lambda each: True, 0.01, compare)


def test_label_studio_prefers_what_a_person_drew(tmp_path: Path) -> None:
    def result(word: str) -> dict[str, object]:
        value = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": [word]}
        size = {"original_width": 10, "original_height": 20}
        return {"id": "aB3", "type": "rectanglelabels", "value": value, **size}

    task = {
        "id": 4,
        "data": {"image": "/data/upload/1/ab-a%20b.jpg"},
        "annotations": [
            {"was_cancelled": True, "result": [result("dog")]},
            {"result": [result("cat")]},
        ],
        "predictions": [{"result": [result("cow")]}],
    }
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([task]))
    data = format_named("label-studio").read(path, None)
    assert names(data) == {1: "cat"}
    (image,) = data.images
    assert (image.file_name, image.width, image.height) == ("ab-a b.jpg", 10, 20)
    assert image.annotations == (Annotation(1, (0, 0, 5, 10)),)


WIDTH, HEIGHT = 100, 80


def result(
    name: str | None = "car", id: object = "r1", type: str = "rectanglelabels", **value: object
) -> dict[str, object]:
    place = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0}
    classes = {type: [] if name is None else [name]}
    return {
        "id": id,
        "type": type,
        "from_name": "label",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {**place, **classes, **value},
    }


def task(*results: object, **keys: object) -> dict[str, object]:
    annotation = {"id": 5, "was_cancelled": False, "result": list(results)}
    return {"id": 1, "data": {"image": "a.jpg"}, "annotations": [annotation], **keys}


def read(folder: Path, *tasks: object, **options: object) -> LabelledSet:
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    return format_named("label-studio").read(path, None, ReadOptions(**options))  # type: ignore[arg-type]


def left_out(data: LabelledSet) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (kind, _), entry in data.tally.left_out.items():
        counts[kind] += entry.count
    return dict(counts)


def words(data: LabelledSet) -> list[list[str]]:
    return [[names(data)[each.category_id] for each in image.annotations] for image in data.images]


def test_rectangle_and_labels_as_two_results(tmp_path: Path) -> None:
    rectangle = result(type="rectangle", rectangle=None)
    data = read(tmp_path, task(rectangle, result(type="labels")))
    assert words(data) == [["car"]]
    assert data.images[0].annotations[0].box == (10, 8, 30, 24)
    swapped = read(tmp_path, task(result(type="labels"), rectangle))
    assert swapped.images == data.images


def test_regions_without_ids_or_with_equal_ones_stay_apart(tmp_path: Path) -> None:
    regions = [result("car", None), result("dog", None), result("cow", "x"), result("cat", "x")]
    no_id = {key: value for key, value in result("bus").items() if key != "id"}
    data = read(tmp_path, task(*regions, no_id))
    assert words(data) == [["car", "dog", "cow", "cat", "bus"]]
    data = read(tmp_path, task(result("car", "1")), task(result("car", "1"), id=2))
    assert [each.annotations[0].id for each in data.images] == [None, None]


def test_classes_of_a_region(tmp_path: Path) -> None:
    two = result(rectanglelabels=["Car", "Damaged"])
    data = read(tmp_path, task(result(None, "r0"), two))
    assert words(data) == [["Car"]]
    assert left_out(data) == {"rectanglelabels": 1, "class of a region": 1}
    with pytest.raises(InputError, match="it has no class"):
        read(tmp_path, task(result(None)), strict=True)


def annotation(name: str, person: object, **keys: object) -> dict[str, object]:
    return {"completed_by": person, "result": [result(name)], **keys}


def test_the_annotation_that_counts(tmp_path: Path) -> None:
    one = annotation("cat", {"id": 1, "email": "ann@example.org"})
    two = annotation("dog", 2, ground_truth=True)
    both = task(annotations=[one, two], drafts=[{"result": []}])
    data = read(tmp_path, both)
    assert words(data) == [["dog"]]
    assert left_out(data) == {"annotation": 1, "draft": 1}
    for annotator in ("1", "ann@example.org"):
        assert words(read(tmp_path, both, annotator=annotator)) == [["cat"]]
    other = read(tmp_path, both, task(result(), id=2), annotator="2")
    assert words(other) == [["dog"]]
    assert left_out(other)["task"] == 1


@pytest.mark.parametrize(
    "annotations",
    [[{"was_cancelled": True, "result": []}], [{"result": []}]],
)
def test_a_task_that_a_person_left_empty(tmp_path: Path, annotations: list[object]) -> None:
    prediction = {"model_version": "m", "score": 0.5, "result": [result()]}
    data = read(tmp_path, task(annotations=annotations, predictions=[prediction]))
    assert words(data) == [[]]
    assert data.images[0].attributes == {"reviewed": True}
    assert left_out(data) == {"prediction": 1}
    predicted = read(tmp_path, task(annotations=[], predictions=[prediction, prediction]))
    assert predicted.images[0].annotations[0].score == 0.5
    assert left_out(predicted) == {"prediction": 1}


def test_rotated_shapes(tmp_path: Path) -> None:
    turned = result(rotation=90, height=10)
    round_ = result("pupil", "r2", "ellipselabels", x=50, y=50, radiusX=10, radiusY=5)
    data = read(tmp_path, task(turned, round_))
    first, second = data.images[0].annotations
    assert first.box == (2, 8, 10, 28)
    assert first.mask == ((10, 8, 10, 28, 2, 28, 2, 8),)
    assert second.box == (40, 36, 60, 44)
    assert sum(each.count for each in data.tally.changed.values()) == 2


OTHERS: list[dict[str, object]] = [
    result("nose", "k", "keypointlabels"),
    result("x", "c", "choices", choices=["night"]),
    result("x", "v", "videorectangle"),
    result("x", "b", "bitmasklabels"),
    {"type": "relation", "from_id": "r1", "to_id": "k", "direction": "right"},
    {"id": "n"},
]


def test_other_results_are_counted(tmp_path: Path) -> None:
    data = read(tmp_path, task(result(), *OTHERS))
    assert words(data) == [["car"]]
    assert left_out(data) == {
        "keypointlabels": 1,
        "choices": 1,
        "videorectangle": 1,
        "bitmasklabels": 1,
        "relation": 1,
        "result without a type": 1,
    }
    turned = {**result(), "image_rotation": 90}
    assert left_out(read(tmp_path, task(result(), turned))) == {"rectanglelabels": 1}
    flat = result("car", "p", "polygonlabels", points=[[1, 1], [2, 2]])
    assert left_out(read(tmp_path, task(result(), flat))) == {"polygonlabels": 1}


def test_what_is_said_of_a_region(tmp_path: Path) -> None:
    choice = {**result(type="choices", choices=["red"]), "from_name": "colour"}
    text = {**result(type="textarea", text=["a", "b"]), "from_name": "note"}
    data = read(tmp_path, task(result(), choice, text))
    assert data.images[0].annotations[0].attributes == {"colour": "red", "note": "a; b"}
    assert left_out(data) == {}


def test_names_of_images(tmp_path: Path) -> None:
    addresses = [
        "https://bucket.s3.example.org/p/a.jpg?X-Amz-Expires=9&X-Amz-Signature=abc/def",
        "http://localhost:8080/data/local-files/?d=b.jpg",
        "/data/local-files/?d=photos%5Cc.jpg",
        "s3://bucket/q/a.jpg",
    ]
    tasks = [task(result(), id=n, data={"image": each}) for n, each in enumerate(addresses)]
    data = read(tmp_path, *tasks)
    assert [each.file_name for each in data.images] == ["a.jpg", "b.jpg", "photos/c.jpg", "q/a.jpg"]


def test_the_image_among_the_data(tmp_path: Path) -> None:
    data = {"text": "a photo", "photo": "sub/a.jpg", "other": "b.jpg"}
    with pytest.raises(InputError, match="one address of an image in its data, got photo, other"):
        read(tmp_path, task(result(), data=data))
    (tmp_path / "label_config.xml").write_text(
        '<View><Image name="image" value="$photo"/><Image name="old" value="$other"/></View>'
    )
    found = read(tmp_path, task(result(), {**result(), "to_name": "old"}, data=data))
    assert [each.file_name for each in found.images] == ["sub/a.jpg"]
    assert left_out(found) == {"rectanglelabels": 1}
    with pytest.raises(InputError, match="several images"):
        read(tmp_path, task(data={"photo": ["a.jpg"]}))


def test_a_size_that_only_the_image_has(tmp_path: Path) -> None:
    bare = {key: each for key, each in result().items() if not key.startswith("original")}
    assert left_out(read(tmp_path, task(bare))) == {"rectanglelabels": 1}
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "a.jpg")
    data = format_named("label-studio").read(tmp_path / "export.json", tmp_path)
    assert data.images[0].annotations[0].box == (10, 8, 30, 24)


def test_people_and_model_are_written_apart(tmp_path: Path) -> None:
    box = (1.0, 2.0, 3.0, 4.0)
    reviewed = Annotation(1, box, 0.5, attributes={"reviewed": True})
    labels = {
        "model": (Annotation(1, box, 0.5), Annotation(1, box, 0.25)),
        "person": (Annotation(1, box),),
        "both": (Annotation(1, box), Annotation(1, box, 0.5), reviewed),
        "nothing": (),
    }
    images = [
        LabelledImage(n, f"{name}.jpg", 10, 10, each)
        for n, (name, each) in enumerate(labels.items())
    ]
    images.append(LabelledImage(9, "empty.jpg", 10, 10, attributes={"reviewed": True}))
    format_named("label-studio").write(tmp_path, [Category(1, "car")], images)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    counts = [
        [
            [len(each["result"]) for each in one.get(key, [])]
            for key in ("annotations", "predictions")
        ]
        for one in tasks
    ]
    assert counts == [[[], [2]], [[1], []], [[2], [1]], [[], [0]], [[0], []]]
    assert tasks[0]["predictions"][0]["score"] == 0.25
    found = format_named("label-studio").read(tmp_path)
    assert [len(each.annotations) for each in found.images] == [2, 1, 3, 0, 0]
    assert found.images[4].attributes == {"reviewed": True}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_mutations_are_read_counted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Regions that are read and results left out are all results of the file."""
    polygon = result("cat", "p", "polygonlabels", points=[[1, 1], [9, 1], [9, 9]])
    stroke = result("cat", "s", "brushlabels", rle=pack_brush(np.ones((HEIGHT, WIDTH), np.bool_)))
    round_ = result("cat", "e", "ellipselabels", radiusX=1, radiusY=2)
    content = copy.deepcopy(task(result(), polygon, stroke, round_, *OTHERS))
    values = st.sampled_from([None, "", -1, 0, 5, 1e300, 10**30, "a", [], {}, ["b"], [1], True])
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = content
        key: Any = data.draw(st.sampled_from(sorted(at)))
        while isinstance(at[key], dict | list) and at[key] and data.draw(st.integers(0, 9)):
            at = at[key]
            key = data.draw(st.sampled_from(range(len(at)) if isinstance(at, list) else sorted(at)))
        if isinstance(at, list) and isinstance(at[key], dict) and data.draw(st.booleans()):
            at.append(copy.deepcopy(at[key]))
        else:
            at[key] = copy.deepcopy(data.draw(values))
    try:
        found = read(tmp_path_factory.mktemp("label-studio"), content)
    except InputError:
        return
    annotations = content["annotations"]
    if not annotations or len(annotations) > 1:
        return  # nothing, or of two the other is counted as a whole
    results = annotations[0]["result"] if isinstance(annotations[0], dict) else [annotations[0]]
    kept = sum(len(each.annotations) for each in found.images)
    lost = sum(n for kind, n in left_out(found).items() if kind != "class of a region")
    joined = sum(len(each.attributes) for image in found.images for each in image.annotations)
    assert kept + lost + joined == len(results)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tasks.json", "[\n{", "line 2 is not JSON"),
        ("tasks.json", "{}", "no list"),
        ("tasks.json", "[{}]", r"tasks\[0\] must be an object"),
        ("tasks.json", '[{"image": "a.jpg", "label": []}]', 'as "JSON", not as JSON-MIN'),
        ("tasks.json", json.dumps([task(result(width=-1))]), "negative width"),
        ("tasks.json", json.dumps([task(result(x="a"))]), "must be a number"),
        (
            "tasks.json",
            json.dumps([task(result("a", "b", "brushlabels", rle=[0] * 9))]),
            "a brush stroke cannot be read",
        ),
        (
            "tasks.json",
            '[{"data": {"image": "/data/local-files/?d=images/../../a.jpg"}}]',
            "leaves the images' folder",
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    assert_refused(tmp_path, "label-studio", file, content, message)


def test_a_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text("image,label\n")
    with pytest.raises(InputError, match='export the project from Label Studio as "JSON"'):
        format_named("label-studio").read(path)
