"""Labels as FiftyOne's detections and back."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.annotations import Annotation
from integrations.fiftyone.labels import from_detection, to_detections
from regionspot.types import encode_mask
from tests.integrations.fiftyone.factories import (
    HEIGHT,
    NAMES,
    PROVENANCE,
    WIDTH,
    make_annotation,
    make_image,
)


@st.composite
def annotations(draw: st.DrawFn) -> Annotation:
    """Boxes of thousandths of a pixel, on the border and one pixel small among them."""
    x = sorted(draw(st.tuples(*[st.integers(0, WIDTH * 1000)] * 2)))
    y = sorted(draw(st.tuples(*[st.integers(0, HEIGHT * 1000)] * 2)))
    x[1], y[1] = max(x[1], x[0] + 1), max(y[1], y[0] + 1)
    box = (x[0] / 1000, y[0] / 1000, min(x[1] / 1000, WIDTH), min(y[1] / 1000, HEIGHT))
    return make_annotation(
        box,
        round(draw(st.floats(0, 1)), 6),
        round(draw(st.floats(0, 1)), 6),
        draw(st.integers(1, len(NAMES))),
        draw(st.booleans()),
    )


@settings(deadline=None)
@given(st.lists(annotations(), max_size=4))
def test_labels_come_back_as_they_went(given_labels: list[Annotation]) -> None:
    image = make_image(1, *given_labels)
    detections = to_detections(image, NAMES, PROVENANCE).detections
    ids = {name: number for number, name in enumerate(NAMES, start=1)}
    back = [from_detection(each, ids, WIDTH, HEIGHT) for each in detections]
    assert back == given_labels


def test_a_label_tells_where_it_comes_from() -> None:
    (label,) = to_detections(make_image(1, make_annotation()), NAMES, PROVENANCE).detections
    assert label.label == label.predicted == "cat"
    assert (label.run, label.model, label.vocabulary) == ("photos", "mini", "abc")
    assert (label.runner_up, label.margin, label.presence) == ("cat", 0.5, 0.25)


def test_a_corrected_label_has_no_score_of_the_model() -> None:
    (label,) = to_detections(make_image(1, make_annotation()), NAMES, PROVENANCE).detections
    label.label = "dog"
    back = from_detection(label, {"cat": 1, "dog": 3}, WIDTH, HEIGHT)
    assert (back.category_id, back.score, back.attributes) == (3, None, {})


def test_a_box_that_a_person_moved_takes_its_mask_along() -> None:
    image = make_image(1, make_annotation((0, 0, 10, 10)))
    (label,) = to_detections(image, NAMES, PROVENANCE).detections
    label.mask = np.ones((10, 10), np.bool_)
    label.bounding_box = [10 / WIDTH, 0, 20 / WIDTH, 20 / HEIGHT]
    back = from_detection(label, {"cat": 1}, WIDTH, HEIGHT)
    expected = np.zeros((HEIGHT, WIDTH), np.bool_)
    expected[0:20, 10:30] = True
    assert back.mask == encode_mask(expected)
