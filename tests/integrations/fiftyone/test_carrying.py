"""What a person reviewed in one field is carried over into the labels of another run."""

from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from integrations.annotations import Annotation, LabelledImage
from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.carrying import ReviewedLabels
from integrations.fiftyone.changes import samples_by_id
from integrations.fiftyone.dataset import LabelField
from integrations.fiftyone.merging import GrownImage, merge_labels
from integrations.fiftyone.session import load_dataset
from regionspot.types import Rle, encode_mask
from tests.integrations.fiftyone.factories import (
    HEIGHT,
    NAMES,
    PROVENANCE,
    WIDTH,
    add_labels,
    make_annotation,
    make_image,
    write_samples,
)

CAT, DOG = 1, 2
FAR = [(1, 2, 11, 12), (20, 2, 34, 12), (20, 14, 34, 22)]  # no two overlap


class Two:
    """A run's labels of one image that a person may review, and those of a second run."""

    def __init__(self, target: LabelField, folder: Path, *first: Annotation) -> None:
        self.first, self.samples = target, write_samples(folder, 1)
        self.images = [make_image(1, *first)]
        add_labels(target, self.samples, self.images)

    @property
    def labels(self) -> list[Any]:
        return list(self.sample.predictions.detections)

    @property
    def sample(self) -> Any:
        return load_dataset(self.first.dataset).first()

    def review(self, labels: list[Any], *tags: str) -> None:
        sample = self.sample
        sample.predictions.detections = labels
        sample.tags = list(tags)
        sample.save()

    def carry(
        self, *second: Annotation, iou: float = 0.5, containment: float = 0.9
    ) -> tuple[list[Any], tuple[int, ...]]:
        """The second run's labels in FiftyOne, and what was counted."""
        pairs = zip(self.samples, self.images, strict=True)
        written = samples_by_id(self.first.dataset, pairs)
        names = dict(enumerate(NAMES, start=1))
        reviewed = ReviewedLabels(self.first, written, names, iou, containment)
        target = LabelField(self.first.dataset, "second", "second")
        images = [make_image(1, *second)]
        provenance = {**PROVENANCE, "run": "second"}
        fiftyone_dataset.add_labels(
            target,
            zip(self.samples, images, strict=True),
            NAMES,
            provenance,
            False,
            reviewed.merge_all,
        )
        return list(self.sample["second"].detections), astuple(reviewed.carried)


def words(labels: list[Any]) -> list[tuple[str, str]]:
    """Class and run of each label."""
    return [(each.label, each["run"] or "") for each in labels]


def test_labels_that_nobody_reviewed_are_the_new_runs(target: LabelField, tmp_path: Path) -> None:
    two = Two(target, tmp_path, *map(make_annotation, FAR))
    labels, counts = two.carry(*(make_annotation(box, category_id=DOG) for box in FAR))
    assert words(labels) == [("hot dog", "second")] * 3
    assert counts == (0, 0, 0, 0, 0, 0)


def test_reviewed_labels_stand_as_the_person_left_them(target: LabelField, tmp_path: Path) -> None:
    two = Two(target, tmp_path, *map(make_annotation, FAR))
    renamed, confirmed, moved = two.labels
    renamed.label = "sofa"
    confirmed["reviewed"] = True
    confirmed["acceptance"] = "accepted"
    moved.bounding_box[2] *= 0.6  # an IoU of 0.6 with the box that the run wrote
    drawn = fo.Detection(label="lamp", bounding_box=[0.0, 0.8, 0.1, 0.1])
    two.review([renamed, confirmed, moved, drawn])
    near = (1, 2, 11.5, 12)  # an IoU of 0.95 with the renamed one
    new = [make_annotation(box, category_id=DOG) for box in (FAR[2], near, FAR[1])]
    labels, counts = two.carry(*new)
    assert [each.label for each in labels] == ["cat", "sofa", "cat", "lamp"]
    assert counts == (0, 3, 1, 0, 0, 1)
    for before, now in zip((moved, renamed, confirmed, drawn), labels, strict=True):
        assert now.bounding_box == before.bounding_box
        assert now.id != before.id
        assert (now.mask is None) == (before.mask is None)
    assert labels[1]["predicted"] == "cat"
    assert labels[1]["run"] == "photos"
    assert labels[2]["reviewed"] is True
    assert labels[2]["acceptance"] is None
    assert [each.label for each in two.labels] == ["sofa", "cat", "cat", "lamp"]


def test_a_box_id_counts_before_the_overlap(target: LabelField, tmp_path: Path) -> None:
    def given(box_id: str, box: tuple[float, float, float, float], word: int) -> Annotation:
        each = make_annotation(box, category_id=word)
        return replace(each, attributes={**each.attributes, "box_id": box_id})

    two = Two(target, tmp_path, given("a", FAR[0], CAT), given("b", FAR[1], CAT))
    labels = two.labels
    for each in labels:
        each["reviewed"] = True
    two.review(labels)
    # The boxes of the file changed places meanwhile.
    found, counts = two.carry(given("b", FAR[0], DOG), given("a", FAR[1], DOG))
    assert [each["box_id"] for each in found] == ["b", "a"]
    assert words(found) == [("cat", "photos")] * 2
    assert counts == (2, 0, 0, 0, 0, 1)


def test_what_was_deleted_stays_so_while_its_word_is_the_same(
    target: LabelField, tmp_path: Path
) -> None:
    two = Two(target, tmp_path, *map(make_annotation, FAR))
    two.review(two.labels[:1])
    labels, counts = two.carry(
        make_annotation(FAR[1], category_id=DOG), make_annotation(FAR[2], category_id=CAT)
    )
    assert words(labels) == [("hot dog", "second")]
    assert counts == (0, 0, 0, 0, 1, 0)


@pytest.mark.parametrize(("iou", "expected"), [(0.5, 1), (0.9, 2)])
def test_one_object_gets_one_label(
    target: LabelField, tmp_path: Path, iou: float, expected: int
) -> None:
    two = Two(target, tmp_path, make_annotation(FAR[0]))
    labels = two.labels
    labels[0].label = "sofa"
    two.review(labels)
    found, counts = two.carry(make_annotation((1, 2, 11, 10)), iou=iou)  # an IoU of 0.8
    assert len(found) == expected
    assert counts == (0, 0, 1, 2 - expected, 0, 1)


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize(
    ("box", "word", "containment", "expected"),
    [
        ((3, 4, 9, 18), CAT, 0.9, 1),  # a part of the cat, whose IoU is a fifth
        ((0, 1, 36, 22), CAT, 0.9, 1),  # the cat and more
        ((3, 4, 9, 18), DOG, 0.9, 2),
        ((3, 4, 9, 18), CAT, 1, 2),
        ((16, 4, 36, 18), CAT, 0.9, 2),  # beside it, and over it a little
    ],
)
def test_a_part_of_a_reviewed_object_is_left_out(
    target: LabelField,
    tmp_path: Path,
    with_mask: bool,
    box: tuple[float, float, float, float],
    word: int,
    containment: float,
    expected: int,
) -> None:
    def whole(box: tuple[float, float, float, float], word: int) -> Annotation:
        return replace(make_annotation(box, category_id=word), mask=rectangle(box))

    def rectangle(box: tuple[float, float, float, float]) -> Rle | None:
        left, top, right, bottom = map(int, box)
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        mask[top:bottom, left:right] = True
        return encode_mask(mask) if with_mask else None

    two = Two(target, tmp_path, whole((1, 2, 21, 20), CAT))
    confirmed = two.labels
    confirmed[0]["reviewed"] = True
    two.review(confirmed)
    found, counts = two.carry(whole(box, word), containment=containment)
    assert len(found) == expected
    assert counts == (0, 0, 1, 2 - expected, 0, 1)


def test_what_lies_in_a_box_beside_its_mask_is_another_object(
    target: LabelField, tmp_path: Path
) -> None:
    def half(box: tuple[float, float, float, float], end: int) -> Annotation:
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        mask[2:20, int(box[0]) : end] = True
        return replace(make_annotation(box), mask=encode_mask(mask))

    two = Two(target, tmp_path, half((1, 2, 21, 20), 11))
    confirmed = two.labels
    confirmed[0]["reviewed"] = True
    two.review(confirmed)
    beside, inside = half((12, 2, 20, 20), 20), half((2, 2, 10, 20), 10)
    found, counts = two.carry(beside, inside)
    assert [each["run"] for each in found] == ["second", "photos"]
    assert counts == (0, 0, 1, 1, 0, 1)


def test_a_label_is_not_written_twice_where_boxes_of_any_overlap_stay(
    target: LabelField, tmp_path: Path
) -> None:
    """As with --boxes, among which none is suppressed."""
    two = Two(target, tmp_path, make_annotation(FAR[0]))
    confirmed = two.labels
    confirmed[0]["reviewed"] = True
    two.review(confirmed)
    found, counts = two.carry(*map(make_annotation, [FAR[0]] * 2), iou=1, containment=1)
    assert words(found) == [("cat", "photos")]
    assert counts == (0, 1, 0, 1, 0, 1)


def test_an_image_that_was_reviewed_as_a_whole_has_the_persons_labels_alone(
    target: LabelField, tmp_path: Path
) -> None:
    two = Two(target, tmp_path, *map(make_annotation, FAR[:2]))
    two.review(two.labels, "reviewed")
    new = [make_annotation(box, category_id=DOG) for box in (FAR[0], FAR[2])]
    labels, counts = two.carry(*new)
    assert words(labels) == [("cat", "photos")] * 2
    assert counts == (0, 1, 1, 1, 0, 1)
    two.review([], "reviewed")  # verified to be empty
    labels, counts = two.carry(*new)
    assert labels == []
    assert counts == (0, 0, 0, 2, 0, 0)


def test_an_image_that_the_first_run_did_not_label_has_the_new_labels(
    target: LabelField, tmp_path: Path
) -> None:
    two = Two(target, tmp_path, make_annotation())
    sample = two.sample
    sample["predictions"] = None
    sample.tags = ["reviewed"]
    sample.save()
    labels, _ = two.carry(make_annotation())
    assert words(labels) == [("cat", "second")]


def test_a_run_that_grows_carries_labels_over_once(target: LabelField, tmp_path: Path) -> None:
    two = Two(target, tmp_path, make_annotation())
    labels = two.labels
    labels[0].label = "sofa"
    two.review(labels)
    second = LabelField(target.dataset, "second", "second")
    fiftyone_dataset.add_labels(second, [], NAMES, PROVENANCE, False)
    images = [(two.samples[0], GrownImage(make_image(1, make_annotation(category_id=DOG))))]
    for expected in ("1 added, 0 labelled again, 0 reviewed", "0 added, 0 labelled again, 1 revi"):
        reviewed = ReviewedLabels(target, None, {}, 0.5, 0.9)
        merged = merge_labels(second, images, NAMES, PROVENANCE, False, reviewed)
        assert expected in str(merged)
        assert words(two.sample["second"].detections) == [("sofa", "photos")]


def test_where_the_first_runs_files_are_gone_marks_alone_are_known(
    target: LabelField, tmp_path: Path
) -> None:
    two = Two(target, tmp_path, *map(make_annotation, FAR))
    labels = two.labels
    labels[0].label = "sofa"
    two.review(labels[:2])
    unknown: dict[str, LabelledImage] | None = None
    reviewed = ReviewedLabels(target, unknown, {}, 0.5, 0.9)
    copies = fo.Detections(detections=[each.copy() for each in labels])
    found = reviewed.merge(two.sample, copies).detections
    assert [each.label for each in found] == ["sofa", "cat", "cat"]
    assert astuple(reviewed.carried) == (0, 1, 0, 0, 0, 1)
