"""A detector's proposals against ground truth, whatever the class."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from autolabel.evaluation.proposals import app, evaluate_detector
from integrations.progress import NullReporter
from regionspot.errors import InputError
from regionspot.types import Proposals


class Fixed:
    """A detector with the same proposals for every image."""

    name = "fixed"

    def __init__(self, boxes: list[list[float]], score: list[float]) -> None:
        self.proposals = Proposals(np.array(boxes).reshape(-1, 4), np.array(score))

    def detect(self, image: np.ndarray) -> Proposals:
        return self.proposals


@pytest.fixture
def labelled(tmp_path: Path, photo: Callable[[str], Image.Image]) -> Path:
    """A data set of one photo: two labels, and a crowd, which is ignored."""
    (tmp_path / "images").mkdir()
    photo("coffee").save(tmp_path / "images" / "a.png")
    boxes = [([10, 10, 20, 20], 0), ([100, 100, 200, 200], 0), ([300, 0, 100, 100], 1)]
    annotations = [
        {"id": row, "image_id": 7, "category_id": row, "bbox": box, "area": box[2] * box[3]}
        | {"iscrowd": crowd}
        for row, (box, crowd) in enumerate(boxes, start=1)
    ]
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 600, "height": 400}],
        "categories": [{"id": row, "name": f"thing {row}"} for row in (1, 2, 3)],
        "annotations": annotations,
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


def test_labels_are_found_whatever_their_class(labelled: Path) -> None:
    boxes = [[310, 10, 350, 60], [100, 100, 300, 300], [10, 10, 24, 30]]
    metrics = evaluate_detector(Fixed(boxes, [0.9, 0.8, 0.7]), labelled, NullReporter())
    assert (metrics.images, metrics.boxes_an_image) == (1, 3)
    assert metrics.recall_50 == 1
    # The small label is met with IoU 0.7: at 5 of the 10 limits.
    assert metrics.small_average_recall == pytest.approx(0.5)
    assert metrics.average_recall == pytest.approx(0.75)


def test_the_command_prints_its_metrics(labelled: Path) -> None:
    arguments = ["--data", str(labelled), "--detector", "nanodet-416"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == 1


def test_the_command_names_a_missing_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "instances.json" in result.stderr


def test_what_cannot_be_measured(labelled: Path) -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        evaluate_detector(Fixed([], []), labelled, NullReporter())
    content = json.loads((labelled / "instances.json").read_text())
    content["annotations"] = content["annotations"][1:]  # no small one is left
    (labelled / "instances.json").write_text(json.dumps(content))
    found = evaluate_detector(Fixed([[100, 100, 300, 300]], [0.9]), labelled, NullReporter())
    assert found.recall_50 == found.average_precision == 1
    assert math.isnan(found.small_recall_50)
