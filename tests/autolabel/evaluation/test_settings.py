"""A model against labels: given boxes, proposals and another detector's, in one table."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autolabel.evaluation import benchmark as settings
from autolabel.evaluation.benchmark import ModelRequest, evaluate_model
from autolabel.evaluation.predict import GIVEN, PROPOSALS, boxes_of, classify, ranks_of, words_of
from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from integrations.formats.coco import write_coco
from regionspot.errors import InputError
from regionspot.scoring import Scoring
from regionspot.types import Proposals, Regions, Vocabulary

WORDS = (Category(4, "red_thing"), Category(2, "green (grass)", ("lawn",)), Category(9, "blue"))
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
SIDE = 60


class ByColour:
    """A classifier that knows three colours, and counts how often it is asked."""

    scoring = Scoring(20.0, 1.0, 0.0)
    asked = 0

    def vocabulary(self, words):
        return Vocabulary(tuple(words), torch.eye(3))

    def regions(self, images, boxes, masks=False):
        type(self).asked += 1
        found = []
        for image, rows in zip(images, boxes, strict=True):
            parts = [image[int(y1) : int(y2), int(x1) : int(x2)] for x1, y1, x2, y2 in rows]
            means = [torch.tensor(part.mean(axis=(0, 1)), dtype=torch.float32) for part in parts]
            found.append(Regions(torch.stack(means) if means else torch.zeros(0, 3)))
        return found


class Reporter:
    def __init__(self) -> None:
        self.begun: list[tuple[str, int, int]] = []

    def begin(self, what: str, total: int, done: int) -> None:
        self.begun.append((what, total, done))

    def advance(self) -> None:
        pass


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRequest:
    """Four images with a patch of each colour; the other detector's boxes are the true ones."""
    truth, images = [], tmp_path / "images"
    images.mkdir()
    for number in range(4):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        labels = []
        for index, colour in enumerate(COLOURS):
            x, y = 18 * index + 2, 10 * number + 2
            pixels[y : y + 15, x : x + 15] = colour
            labels.append(Annotation(WORDS[index].id, (x, y, x + 15, y + 15)))
        labels.append(Annotation(WORDS[0].id, (0, 0, SIDE, SIDE), is_crowd=True))
        Image.fromarray(pixels).save(images / f"{number}.png")
        truth.append(LabelledImage(number, f"{number}.png", SIDE, SIDE, tuple(labels)))
    write_coco(tmp_path / "gt.json", WORDS, truth)
    monkeypatch.setattr(settings, "load_model", lambda *_: ByColour())
    monkeypatch.setattr(settings, "load_baseline", lambda *_: ByColour())
    ByColour.asked = 0
    other = str(tmp_path / "gt.json")
    return ModelRequest(
        tmp_path / "gt.json", images, "mini", (GIVEN, other), tmp_path / "out", draws=5
    )


def test_one_table_of_all_settings(request_of: ModelRequest) -> None:
    reporter = Reporter()
    rows, page = evaluate_model(request_of, reporter)
    assert [(row.classifier, row.boxes) for row in rows] == [
        (name, boxes)
        for name in ("mini", "box crops", "mask crops")
        for boxes in ("given", "gt.json")
    ] + [("true words", "gt.json")]
    given = {each.name: each.value for each in rows[0].figures}
    assert given["AP"] == given["top-1"] == given["top-5"] == 1
    assert np.isnan({each.name: each.value for each in rows[1].figures}["top-1"])
    assert reporter.begun[0] == ("mini, given", 4, 0)
    assert "Settings side by side" in page.read_text(encoding="utf-8")
    assert {each.name: each.value for each in rows[-1].figures}["AP"] == 1
    table = json.loads((request_of.out / "figures.json").read_text())["settings"]
    assert table[-1]["seconds"] is None
    assert [row["boxes"] for row in table[:2]] == ["given", "gt.json"]
    assert not (request_of.out / "work").exists()


def test_it_goes_on_where_it_stopped(
    request_of: ModelRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Reporter):
        def advance(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_model(request_of, Stop())
    reporter = Reporter()
    evaluate_model(request_of, reporter)
    assert reporter.begun[0] == ("mini, given", 4, 1)
    assert ByColour.asked == 4 * 6


def test_images_of_another_size_are_refused(request_of: ModelRequest) -> None:
    Image.new("RGB", (9, 9)).save(request_of.images / "2.png")
    with pytest.raises(InputError, match=r"2.png is 9 x 9, but .* says 60 x 60"):
        evaluate_model(request_of, Reporter())
    assert ByColour.asked == 0
    assert not request_of.out.exists()
    shutil.rmtree(request_of.images)
    with pytest.raises(InputError):
        evaluate_model(request_of, Reporter())


def test_words_as_a_person_writes_them() -> None:
    assert words_of(WORDS) == {
        "red_thing": ["red thing"],
        "green (grass)": ["green", "lawn"],
        "blue": ["blue"],
    }


def test_boxes_are_made_usable() -> None:
    labels = tuple(Annotation(4, box) for box in ((-5, 0, 70, 60), (60, 60, 60, 60)))
    data = LabelledSet(WORDS, (LabelledImage(1, "a.png", SIDE, SIDE, labels),))
    found = boxes_of(GIVEN, data)
    assert found is not None
    assert found[1].boxes.tolist() == [[0, 0, 60, 60], [59, 59, 60, 60]]
    assert boxes_of(PROPOSALS, data) is None
    with pytest.raises(InputError, match="--boxes must be gt, proposals or a file"):
        boxes_of("yolo", data)


def test_ranks_count_the_words_that_are_preferred() -> None:
    cosine = torch.tensor([[0.1, 0.5, 0.3], [0.9, 0.2, 0.2]])
    assert ranks_of(cosine, [2, 1]) == [1, 1]
    record = classify(
        ByColour(),
        Vocabulary(("a", "b", "c"), torch.eye(3)),
        np.full((4, 4, 3), (0, 200, 0), np.uint8),
        Proposals(np.array([[0, 0, 4, 4]]), np.array([0.5])),
    )
    assert record.words[0] == 1
    assert sum(record.scores) == pytest.approx(0.5, abs=1e-5)
    assert record.ranks == []
