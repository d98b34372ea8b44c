"""Labels in a real FiftyOne: in a field of their own, with views that hold what they say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.dataset import CONFIDENT, NEEDS_REVIEW, NOTHING_FOUND, LabelField, Sample
from integrations.fiftyone.server import serve_app
from integrations.fiftyone.session import list_samples
from regionspot.errors import InputError
from tests.integrations.fiftyone.factories import (
    add_labels,
    make_annotation,
    make_image,
    write_samples,
)


def ids_in(view: Any) -> list[str]:
    return [Path(path).stem for path in view.values("filepath")]


def test_the_views_hold_what_they_say(target: LabelField, tmp_path: Path) -> None:
    images = [
        make_image(1, make_annotation(score=0.2), make_annotation(score=0.9)),
        make_image(2, make_annotation(score=0.1)),
        make_image(3, make_annotation(score=0.9, margin=0.1)),
        make_image(4, make_annotation(score=0.9)),
        make_image(5),
    ]
    add_labels(target, write_samples(tmp_path, 5), images)
    names = fiftyone_dataset.save_views(target, confidence=0.4, margin=0.2)
    fiftyone_dataset.register_run(target, {"views": names})
    dataset = fiftyone_dataset.load_dataset(target.dataset)

    def view(name: str) -> Any:
        return dataset.load_saved_view(names[name])

    assert ids_in(view(NEEDS_REVIEW)) == ["2", "1", "3"]
    # Whole images: the App would delete the labels that a view leaves out.
    assert view(NEEDS_REVIEW).count("predictions.detections") == 4
    assert ids_in(view(CONFIDENT)) == ["4"]
    assert ids_in(view(NOTHING_FOUND)) == ["5"]

    corrected, tagged, drawn = (
        dataset.match({"filepath": {"$regex": f"/{n}.jpg$"}}).first() for n in (2, 3, 4)
    )
    corrected.predictions.detections[0].label = "dog"
    tagged.predictions.detections[0].tags.append("reviewed")
    import fiftyone as fo

    by_hand = fo.Detection(label="cat", bounding_box=[0, 0, 0.5, 0.5])
    drawn.predictions.detections.append(by_hand)
    for sample in (corrected, tagged, drawn):
        sample.save()
    assert ids_in(view(NEEDS_REVIEW)) == ["1"]
    assert ids_in(view(CONFIDENT)) == ["2", "3", "4"]

    refs = [Sample(tmp_path / f"{n}.jpg") for n in range(1, 6)]
    empty = zip(refs, (make_image(n) for n in range(1, 6)), strict=True)
    words = {"cat": 1, "hot dog": 2, "dog": 3}
    read = fiftyone_dataset.read_labels(target, empty, words, only_reviewed=True)
    found = {image.id: [(e.category_id, e.score) for e in image.annotations] for image in read}
    assert found == {2: [(3, None)], 3: [(1, 0.9)], 4: [(1, None)]}


def test_a_word_may_need_review_below_a_confidence_of_its_own(
    target: LabelField, tmp_path: Path
) -> None:
    cat, hot_dog = (make_image(1, make_annotation(score=0.6, category_id=n)) for n in (1, 2))
    images = [cat, replace(hot_dog, id=2, file_name="2.jpg")]
    add_labels(target, write_samples(tmp_path, 2), images)
    dataset = fiftyone_dataset.load_dataset(target.dataset)
    for own, expected in ({"cat": 0.7}, ["1"]), ({"hot dog": 0.65, "cat": 0.1}, ["2"]), (None, []):
        names = fiftyone_dataset.save_views(target, 0.4, 0.2, own)
        assert ids_in(dataset.load_saved_view(names[NEEDS_REVIEW])) == expected
        fiftyone_dataset.register_run(target, {"views": names})
    names = fiftyone_dataset.save_views(target, 0.7, 0.2, {"cat": 0.5})
    assert ids_in(dataset.load_saved_view(names[NEEDS_REVIEW])) == ["2"]


def test_a_persons_view_of_the_same_name_stays(target: LabelField, tmp_path: Path) -> None:
    add_labels(target, write_samples(tmp_path, 1), [make_image(1, make_annotation())])
    dataset = fiftyone_dataset.load_dataset(target.dataset)
    theirs = dataset.limit(1)
    dataset.save_view(NEEDS_REVIEW, theirs)
    names = fiftyone_dataset.save_views(target, 0.4, 0.2)
    assert names[NEEDS_REVIEW] == "needs review predictions"
    assert dataset.load_saved_view(NEEDS_REVIEW) == theirs
    fiftyone_dataset.register_run(target, {"views": names})
    assert fiftyone_dataset.save_views(target, 0.4, 0.2) == names


def test_labels_are_read_as_they_stand(target: LabelField, tmp_path: Path) -> None:
    samples = write_samples(tmp_path, 3)
    images = [make_image(number, make_annotation()) for number in (1, 2, 3)]
    add_labels(target, samples, images)
    dataset = fiftyone_dataset.load_dataset(target.dataset)
    dataset.delete_samples(dataset.match({"filepath": str(samples[1].path)}).values("id"))
    last = dataset.last()
    last.predictions = None
    last.save()
    empty = [(sample, make_image(number)) for number, sample in enumerate(samples, start=1)]
    read = list(fiftyone_dataset.read_labels(target, empty, {"cat": 1}))
    assert read == [images[0], make_image(3)]
    assert fiftyone_dataset.words_in_use(target) == ["cat"]


def test_another_dataset_of_that_name_is_never_replaced(target: LabelField, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not this run's"):
        fiftyone_dataset.make_dataset(target.dataset, tmp_path / "another run")
    assert fiftyone_dataset.free_dataset_name(target.dataset) == f"{target.dataset}-2"
    # FiftyOne takes these for the same, too.
    assert fiftyone_dataset.free_dataset_name(target.dataset.upper()).endswith("-2")
    assert fiftyone_dataset.free_dataset_name("猫") == "run 猫"


def test_run_keys_are_identifiers_and_free(target: LabelField) -> None:
    assert fiftyone_dataset.free_run_key(target.dataset, "my photos-2") == "my_photos_2"
    assert fiftyone_dataset.free_run_key("no such dataset", "2026 猫") == "run_2026__"
    fiftyone_dataset.register_run(target, {})
    assert fiftyone_dataset.free_run_key(target.dataset, "photos") == "photos_2"


@pytest.mark.parametrize("field", ["", "my field", "_hidden", "a.b", "1st"])
def test_fields_that_fiftyone_would_not_take(field: str) -> None:
    with pytest.raises(InputError, match="--label-field must be"):
        fiftyone_dataset.check_field_name(field)


def test_what_is_gone_is_named(target: LabelField, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset 'none'"):
        list_samples("none")
    with pytest.raises(InputError, match="holds no image"):
        list_samples(target.dataset)
    with pytest.raises(InputError, match="has no field 'predictions'"):
        fiftyone_dataset.words_in_use(target)
    with pytest.raises(InputError, match="has no view 'needs review' any more"):
        serve_app(target.dataset, NEEDS_REVIEW, tmp_path, "127.0.0.1", 0, False, print)


def test_a_tagged_image_is_reviewed_as_a_whole(target: LabelField, tmp_path: Path) -> None:
    samples = write_samples(tmp_path, 4)
    labels = [
        make_image(n, *[make_annotation()] * count) for n, count in enumerate((2, 1, 0, 0), 1)
    ]
    add_labels(target, samples, labels)
    dataset = fiftyone_dataset.load_dataset(target.dataset)
    for number in (1, 2, 3):  # the second one has a label that the person deletes
        sample = dataset.one({"filepath": str(samples[number - 1].path)})
        sample.tags.append("reviewed")
        if number == 2:
            sample.predictions.detections = []
        sample.save()
    empty = [(sample, make_image(number)) for number, sample in enumerate(samples, start=1)]
    words = {"cat": 1, "hot dog": 2}
    read = list(fiftyone_dataset.read_labels(target, empty, words, only_reviewed=True))
    assert [(image.id, len(image.annotations)) for image in read] == [(1, 2), (2, 0), (3, 0)]
    assert all(image.attributes == {"reviewed": True} for image in read)
    assert [(image.absent, image.unverified) for image in read] == [
        ((), (1, 2)),
        ((1, 2), ()),
        ((1, 2), ()),
    ]
