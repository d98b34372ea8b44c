"""Names of detectors: several of them, and those of other packages."""

from pathlib import Path

import numpy as np
import pytest

from integrations.detectors import build_detector, check_detectors
from integrations.detectors.base import one_class_scores
from regionspot.errors import InputError

PACKAGE = '''
import numpy as np

from integrations.detectors import Detector, DetectorOptions
from regionspot.types import Proposals


class Halves:
    """The left half of an image, and as many boxes more as its argument says."""

    def __init__(self, options: DetectorOptions) -> None:
        self.name = f"halves:{options.argument}"
        self.options = options

    def detect(self, image):
        height, width = image.shape[:2]
        return Proposals(np.array([[0, 0, width / 2, height]]), np.array([0.9]))


def build(options: DetectorOptions) -> Detector:
    return Halves(options)
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of somebody else's, as pip would leave it."""
    (tmp_path / "their_detectors.py").write_text(PACKAGE)
    info = tmp_path / "their_detectors-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-detectors\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[regionspot_autolabel.detectors]\n"
        "halves = their_detectors:build\nbroken = their_detectors:gone\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_a_package_adds_a_detector() -> None:
    detector = build_detector("halves:a:b", words=["cat"], max_boxes=7, min_score=0.1)
    assert detector.name == "halves:a:b"
    options = detector.options  # type: ignore[attr-defined]
    assert (options.words, options.max_boxes, options.min_score) == (("cat",), 7, 0.1)
    assert detector.detect(np.zeros((10, 20, 3), np.uint8)).boxes.tolist() == [[0, 0, 10, 10]]


@pytest.mark.usefixtures("installed")
def test_boxes_of_another_package_and_of_a_shipped_one_are_joined() -> None:
    detector = build_detector("halves, nanodet-416")
    assert detector.name == "halves:,nanodet-416"
    found = detector.detect(np.zeros((10, 20, 3), np.uint8))
    assert found.boxes[0].tolist() == [0, 0, 10, 10]
    assert found.class_scores is not None
    assert np.isnan(found.class_scores[0]).all()  # halves names no class


@pytest.mark.usefixtures("installed")
def test_a_package_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(InputError, match=r"broken \(their_detectors:gone\) cannot be imported"):
        build_detector("broken")
    with pytest.raises(InputError, match=r"must be one of nanodet, .*hf:REPO_OR_FOLDER.*halves"):
        build_detector("quarters")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("nanodet,nanodet", "'nanodet' is there twice"),
        ("nanodet,", "'' is unknown"),
        ("nanodet+sam-grid", "is unknown; .* or several with commas between them"),
        ("nanodet:416", "nanodet takes no argument"),
        ("hf:", "hf must be hf:REPO_OR_FOLDER"),
    ],
)
def test_names_that_cannot_be_used_are_refused(names: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_detectors(names)


def test_a_name_may_hold_colons() -> None:
    assert check_detectors("hf:C:/models/x, nanodet") == [("hf", "C:/models/x"), ("nanodet", "")]


def test_the_rest_of_a_score_is_spread_over_the_other_classes() -> None:
    scores = one_class_scores(np.array([1, 0]), np.array([0.7, 0.1], np.float32), 4)
    assert np.allclose(scores, [[0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]])
    assert one_class_scores(np.array([0]), np.array([0.4], np.float32), 1).tolist() == [
        [pytest.approx(0.4)]
    ]
