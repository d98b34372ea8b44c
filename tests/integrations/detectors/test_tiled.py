"""Boxes of tiles, joined where an edge between tiles cuts an object."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.detectors import build_detector
from integrations.detectors.tiled import Tiled, join_parts
from regionspot.errors import InputError
from regionspot.types import ImageArray, Proposals

SIDE = 100
SIZE = (270, 330)  # height, width: not a multiple of the stride


class Bright:
    """Finds each bright region of an image, unless it is tiny in the image."""

    name = "bright"

    def __init__(self, smallest: float = 0.0) -> None:
        self.smallest = smallest
        self.images: list[tuple[int, ...]] = []

    def detect(self, image: ImageArray) -> Proposals:
        self.images.append(image.shape)
        _, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 0).astype(np.uint8))
        x, y, width, height = stats[1:, :4].T
        large = np.maximum(width, height) >= self.smallest * max(image.shape)
        boxes = np.stack([x, y, x + width, y + height], axis=1)[large]
        return Proposals(boxes, np.full(len(boxes), 0.9))


def drawn(*boxes: tuple[int, int, int, int]) -> ImageArray:
    image = np.zeros((*SIZE, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    return image


def found_by(detector: Tiled, image: ImageArray) -> list[list[float]]:
    return sorted(detector.detect(image).boxes.tolist())


def test_tiles_cover_the_image_and_an_image_of_a_tile_is_one() -> None:
    inner = Bright()
    Tiled(inner, SIDE, 0.2).detect(drawn())
    assert inner.images[0] == (*SIZE, 3)
    assert set(inner.images[1:]) == {(SIDE, SIDE, 3)}
    assert len(inner.images) == 1 + 4 * 4  # starts 0, 80, 160 and 230; 0, 80, 160 and 170
    inner.images.clear()
    Tiled(inner, SIDE).detect(drawn()[:SIDE, :SIDE])
    assert inner.images == [(SIDE, SIDE, 3)]


def test_small_objects_are_found_in_tiles_alone() -> None:
    small = [(5, 5, 15, 15), (150, 90, 160, 102), (300, 260, 312, 270)]
    inner = Bright(smallest=0.05)  # of the image 16 pixels, of a tile 5
    assert len(inner.detect(drawn(*small))) == 0
    assert found_by(Tiled(inner, SIDE), drawn(*small)) == [list(map(float, box)) for box in small]


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
@settings(max_examples=30)
@given(x=st.integers(0, 300), y=st.integers(0, 240), w=st.integers(10, 250), h=st.integers(10, 250))
def test_an_object_is_one_box_wherever_the_edges_cut_it(
    overlap: float, x: int, y: int, w: int, h: int
) -> None:
    """Also where the detector finds nothing in the whole image."""
    box = (x, y, min(x + w, SIZE[1]), min(y + h, SIZE[0]))
    inner = Bright()

    class TilesAlone(Bright):
        def detect(self, image: ImageArray) -> Proposals:
            return inner.detect(image if image.shape[0] <= SIDE else image * 0)

    assert found_by(Tiled(TilesAlone(), SIDE, overlap), drawn(box)) == [list(map(float, box))]
    assert found_by(Tiled(inner, SIDE, overlap), drawn(box)) == [list(map(float, box))]


def test_neighbours_are_not_merged() -> None:
    """An object that ends in what two tiles share, and one that begins there."""
    pair = [(20, 40, 86, 60), (92, 40, 160, 60)]
    assert found_by(Tiled(Bright(), SIDE, 0.2), drawn(*pair)) == [
        list(map(float, box)) for box in pair
    ]


@pytest.mark.parametrize(("classes", "expected"), [([0, 0], 1), ([0, 1], 2)])
def test_parts_of_two_classes_stay_apart(classes: list[int], expected: int) -> None:
    scores = np.full((2, 2), 0.1, np.float32)
    scores[[0, 1], classes] = [0.8, 0.9]
    parts = Proposals(
        np.array([[50, 10, 100, 30], [80, 10, 140, 30]]),
        np.array([0.8, 0.9]),
        class_names=("car", "bus"),
        class_scores=scores,
    )
    tiles = np.array([[0, 0, 100, 100], [80, 0, 180, 100]], np.float32)
    joined = join_parts(parts, tiles, (100, 180))
    assert len(joined) == expected
    if expected == 1:
        assert joined.boxes.tolist() == [[50, 10, 140, 30]]
        assert joined.score.tolist() == [pytest.approx(0.9)]
        assert joined.class_scores is not None
        assert joined.class_scores[0].tolist() == [pytest.approx(0.9), pytest.approx(0.1)]


def test_nothing_is_found_in_nothing() -> None:
    assert len(Tiled(Bright(), SIDE).detect(drawn())) == 0


def test_a_detector_that_names_classes() -> None:
    detector = build_detector("nanodet-416", tile=64, max_boxes=9)
    assert detector.name == "nanodet-416"
    found = detector.detect(np.random.default_rng(0).integers(0, 255, (70, 60, 3), np.uint8))
    assert len(found) <= 9
    assert found.class_scores is not None
    assert found.class_scores.shape == (len(found), len(found.class_names))
    assert (np.diff(found.score) <= 0).all()
    with pytest.raises(InputError, match=r"image must be \(H, W, 3\)"):
        detector.detect(np.zeros((70, 90), np.uint8))
