"""What a classifier predicts for an image, the boxes it is given, and the cache of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autolabel.evaluation.predict import (
    GROUND_TRUTH,
    PROPOSALS,
    ImagePrediction,
    PredictionCache,
    boxes_of,
    classify,
    ranks_of,
    vocabulary_of,
)
from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from integrations.formats.coco import write_coco
from integrations.progress import NullReporter
from regionspot.errors import InputError
from regionspot.types import Proposals, Vocabulary
from tests.autolabel.evaluation.test_benchmark import CATEGORIES, SIDE, ByColour


class Messages(NullReporter):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_a_vocabulary_as_a_person_writes_it() -> None:
    assert vocabulary_of(CATEGORIES) == {
        "red_thing": ["red thing"],
        "green (grass)": ["green (grass)", "lawn"],
        "blue": ["blue"],
    }
    bolts = (Category(1, "bolt", supercategory="fastener"), Category(2, "bolt", (), "weather"))
    assert vocabulary_of(bolts) == {
        "bolt (fastener)": ["bolt (fastener)"],
        "bolt (weather)": ["bolt (weather)"],
    }


def test_a_vocabulary_of_lvis_is_without_the_senses_in_brackets() -> None:
    names = ("bus_(vehicle)", "bow_(weapon)", "bow_(decorative_ribbons)")
    lvis = [Category(id, name, synset=f"{name}.n.01") for id, name in enumerate(names)]
    assert list(vocabulary_of(lvis).values()) == [
        ["bus"],
        ["bow (weapon)"],
        ["bow (decorative ribbons)"],
    ]


def test_boxes_are_made_usable() -> None:
    labels = tuple(Annotation(4, box) for box in ((-5, 0, 70, 60), (60, 60, 60, 60)))
    data = LabelledSet(CATEGORIES, (LabelledImage(1, "a.png", SIDE, SIDE, labels),))
    found = boxes_of(GROUND_TRUTH, data, NullReporter())
    assert found is not None
    assert found[1].boxes.tolist() == [[0, 0, 60, 60], [59, 59, 60, 60]]
    assert boxes_of(PROPOSALS, data, NullReporter()) is None
    with pytest.raises(InputError, match="--boxes must be gt, proposals or a file"):
        boxes_of("yolo", data, NullReporter())


def test_boxes_of_another_detector_are_those_of_the_same_images(tmp_path: Path) -> None:
    labels = (Annotation(4, (1, 2, 30, 40), 0.5),)
    data = LabelledSet(CATEGORIES, (LabelledImage(1, "a.png", SIDE, SIDE, labels),))
    path = tmp_path / "pred.json"
    write_coco(path, CATEGORIES, (LabelledImage(7, "a.png", SIDE, SIDE, labels),))
    reporter = Messages()
    found = boxes_of(str(path), data, reporter)
    assert reporter.messages == [f"{path}: images paired by path: 1"]
    assert found is not None
    assert found[1].boxes.tolist() == [[1, 2, 30, 40]]
    assert found[1].score.tolist() == [0.5]
    write_coco(path, CATEGORIES, (LabelledImage(7, "b.png", SIDE, SIDE, labels),))
    with pytest.raises(InputError, match="no image in common"):
        boxes_of(str(path), data, NullReporter())


def test_ranks_count_the_classes_above_the_own_one() -> None:
    cosine = torch.tensor([[0.1, 0.5, 0.3], [0.9, 0.2, 0.2]])
    assert ranks_of(cosine, [2, 1]) == [1, 1]
    prediction = classify(
        ByColour(),
        Vocabulary(("a", "b", "c"), torch.eye(3)),
        np.full((4, 4, 3), (0, 200, 0), np.uint8),
        Proposals(np.array([[0, 0, 4, 4]]), np.array([0.5])),
    )
    assert prediction.classes[0] == 1
    assert sum(prediction.scores) == pytest.approx(0.5, abs=1e-5)
    assert prediction.ranks == []


def test_the_cache_resumes_where_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    prediction = ImagePrediction([[0.0, 0.0, 1.0, 1.0]], [0.9], [0], [3], [0.5], [2], 0.1, 7)
    PredictionCache(path, "key").add(prediction)
    with path.open("a", encoding="utf-8") as out:
        out.write('{"boxes": [[0.0')
    again = PredictionCache(path, "key")
    assert again.done == {7: prediction}
    assert not PredictionCache(path, "other").done
