"""Which classes are evaluated, and ground truth that stems from the predictions."""

import dataclasses
import json
from pathlib import Path

import pytest

from autolabel.evaluation.selection import classes_of_words, unreviewed_labels
from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet, Tally
from integrations.vocabulary_file import word_list
from regionspot.errors import InputError
from tests.autolabel.helpers import Autolabel

BOX = (1.0, 2.0, 30.0, 40.0)
CATEGORIES = (Category(3, "traffic_light"), Category(5, "dog"), Category(8, "cup"))


def labelled(categories: tuple[Category, ...], scores: tuple[float | None, ...]) -> LabelledSet:
    """One image with the same box of each category."""
    ids = tuple(each.id for each in categories)
    annotations = tuple(Annotation(id, BOX, score) for id, score in zip(ids, scores, strict=True))
    image = LabelledImage(1, "a.jpg", 60, 60, annotations, absent=ids[1:], unverified=ids[:1])
    return LabelledSet(categories, (image,))


def test_only_the_classes_of_the_words_stay() -> None:
    truth = labelled(CATEGORIES, (None,) * 3)
    others = tuple(Category(90 - e.id, e.name.replace("_", " ")) for e in CATEGORIES)
    tally = Tally()
    ours, theirs, unknown = classes_of_words(
        truth, labelled(others, (0.5, 0.6, 0.7)),
        word_list({"Traffic light": [], "mug": ["cup"], "yak": []}), tally,
    )  # fmt: skip
    assert [each.name for each in ours.categories] == ["traffic_light", "cup"]
    assert [each.category_id for each in ours.images[0].annotations] == [3, 8]
    assert (ours.images[0].absent, ours.images[0].unverified) == ((8,), (3,))
    assert [each.score for each in theirs.images[0].annotations] == [0.5, 0.7]
    assert unknown == ("yak",)
    reason = "its class is no word of --vocab"
    assert {key: e.count for key, e in tally.left_out.items()} == {
        ("ground-truth label", reason): 1,
        ("prediction", reason): 1,
    }
    with pytest.raises(InputError, match=r"no word is a class.*classes: 3 \(traffic_light, "):
        classes_of_words(truth, truth, word_list(["yak"]), tally)


def test_labels_of_the_same_run_count_until_they_are_reviewed() -> None:
    run = labelled(CATEGORIES, (0.5, 0.6, 0.7))
    assert unreviewed_labels(run, run, "name") == 3
    assert unreviewed_labels(labelled(CATEGORIES, (None, 0.6, None)), run, "name") == 1
    image = run.images[0]
    confirmed = dataclasses.replace(image.annotations[0], attributes={"reviewed": True})
    moved = dataclasses.replace(image.annotations[1], box=(0.0, 0.0, 9.0, 9.0))
    changed = dataclasses.replace(image, annotations=(confirmed, moved, image.annotations[2]))
    assert unreviewed_labels(dataclasses.replace(run, images=(changed,)), run, "name") == 1


def test_the_command_limits_and_warns(autolabel_cli: Autolabel, tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 60}],
        "annotations": [
            {"id": id, "image_id": 1, "category_id": id, "bbox": [5, 5 * id, 20, 20],
             "area": 400, "iscrowd": 0, "score": 0.5}
            for id in (1, 2)
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }  # fmt: skip
    run, words = tmp_path / "run.json", tmp_path / "words.txt"
    run.write_text(json.dumps(content))
    words.write_text("Dogs: dog\nyak\n")
    command = ("evaluate", "--gt", run, "--pred", run, "--bootstrap", 0, "--out", tmp_path / "out")
    result = autolabel_cli(*command, "--vocab", words)
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    assert "warning: 1 of 1 ground-truth labels come from the run that made" in printed
    assert "words of --vocab that are no class of the ground truth: 1 (yak)" in printed
    figures = json.loads((tmp_path / "out/figures.json").read_text())["results"][0]
    assert figures["boxes"]["AP"]["value"] == 1
