"""The union of several detectors."""

import numpy as np

from integrations.detectors.base import Ensemble
from regionspot.types import Proposals


class Fixed:
    """A detector that always gives the same boxes."""

    def __init__(self, name: str, boxes: list[list[float]], score: list[float]) -> None:
        self.name = name
        self.answer = Proposals(np.array(boxes), np.array(score))

    def detect(self, image: np.ndarray) -> Proposals:
        return self.answer


def test_scores_are_weighted_and_boxes_suppressed_across_detectors() -> None:
    first = Fixed("a", [[0, 0, 10, 10]], [0.5])
    second = Fixed("b", [[0, 0, 10, 11], [20, 20, 30, 30]], [0.9, 0.8])
    ensemble = Ensemble([first, second], [1.0, 0.25])
    found = ensemble.detect(np.zeros((40, 40, 3), np.uint8))
    assert ensemble.name == "a,b"
    np.testing.assert_allclose(found.score, [0.5, 0.2])
    assert found.boxes[1].tolist() == [20, 20, 30, 30]
