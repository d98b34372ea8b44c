"""Which labels count as the annotator's."""

from pathlib import Path

import numpy as np
import pytest

from integrations.fiftyone.review import SeenLabel, reviewed_image

PROPOSALS = np.array([[10, 20, 50, 60], [100.125, 20, 150.75, 90], [0, 0, 200, 100]], np.float32)


def label(
    box: tuple[float, ...], word: str, predicted: str = "", tagged: bool = False
) -> SeenLabel:
    x1, y1, x2, y2 = box
    return SeenLabel((x1 / 200, y1 / 100, x2 / 200, y2 / 100), word, predicted, tagged)


@pytest.mark.parametrize(
    ("seen", "words_now", "corrected", "drawn"),
    [
        ([], ("", "", ""), [0, 0, 0], 0),
        ([label((10, 20, 50, 60), "cat", "cat")], ("", "", ""), [0, 0, 0], 0),
        ([label((10, 20, 50, 60), "dog", "cat")], ("dog", "", ""), [1, 0, 0], 0),
        ([label((100.125, 20, 150.75, 90), "cat", "cat", True)], ("", "cat", ""), [0, 0, 0], 0),
        ([label((10, 20, 50, 64), "cat", "cat")], ("", "", "", "cat"), [0, 0, 0, 1], 1),
        ([label((10, 20, 50, 60), "cat")], ("", "", "", "cat"), [0, 0, 0, 1], 1),
        ([label((10, 20, 10, 60), "cat")], ("", "", ""), [0, 0, 0], 0),
        ([label((-50, 20, 50, 60), "")], ("", "", ""), [0, 0, 0], 0),
    ],
    ids=["none", "alone", "renamed", "tagged", "moved", "drawn", "empty", "wordless"],
)
def test_what_counts_as_a_persons(
    seen: list[SeenLabel], words_now: tuple[str, ...], corrected: list[int], drawn: int
) -> None:
    image = reviewed_image(1, Path("x"), (200, 100), seen, PROPOSALS)
    assert image.words == words_now
    assert image.corrected.tolist() == [bool(each) for each in corrected]
    assert len(image.drawn) == drawn
    assert image.is_touched == any(words_now)


def test_without_a_run_the_labels_boxes_are_what_the_model_saw() -> None:
    seen = [label((10, 20, 50, 60), "dog", "cat"), label((0, 0, 300, 50), "cup")]
    image = reviewed_image(1, Path("x"), (200, 100), seen, None)
    assert image.proposals.tolist() == [[10, 20, 50, 60]]
    assert image.drawn.tolist() == [[0, 0, 200, 50]]
    assert image.words == ("dog", "cup")
    assert image.predicted == ("cat", "")
