"""Detectors on real photos: NanoDet as published, and SAM from a coarse grid."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from segment_anything.modeling import Sam

from integrations.detectors import Detector, build_detector
from integrations.detectors.base import Ensemble
from integrations.detectors.sam_grid import SamGrid
from regionspot.boxes import box_iou
from regionspot.errors import InputError
from regionspot.localizers.mobile_sam import build_mobile_sam
from regionspot.types import Proposals

Photo = Callable[[str], Image.Image]


@pytest.fixture(scope="module")
def nanodet() -> Detector:
    return build_detector("nanodet")


@pytest.fixture(scope="module")
def sam() -> Sam:
    return build_mobile_sam()


@pytest.fixture(scope="module")
def sam_grid(sam: Sam) -> Detector:
    return SamGrid(sam, points_per_side=4)


@pytest.fixture(params=["nanodet", "sam_grid", "ensemble"])
def detector(request: pytest.FixtureRequest) -> Detector:
    if request.param == "ensemble":
        sam = request.getfixturevalue("sam")
        parts = [request.getfixturevalue("nanodet"), SamGrid(sam, points_per_side=1)]
        return Ensemble(parts, [1.0, 0.5], max_boxes=20)
    found: Detector = request.getfixturevalue(request.param)
    return found


def check(proposals: Proposals, width: int, height: int, nms_iou: float = 0.65) -> None:
    """What holds of every detector's answer."""
    x1, y1, x2, y2 = proposals.boxes.T
    assert (x1 >= 0).all()
    assert (y1 >= 0).all()
    assert (x2 <= width).all()
    assert (y2 <= height).all()
    assert (x1 < x2).all()
    assert (y1 < y2).all()
    assert (np.diff(proposals.score) <= 0).all()
    assert ((proposals.score > 0) & (proposals.score <= 1)).all()
    overlaps = box_iou(proposals.boxes, proposals.boxes) - np.eye(len(proposals))
    assert (overlaps <= nms_iou + 1e-5).all()


def test_every_detector_keeps_the_protocol(detector: Detector, photo: Photo) -> None:
    image = photo("coffee")
    found = detector.detect(np.asarray(image))
    check(found, image.width, image.height)
    assert 3 < len(found) <= 100
    saucer = np.array([(77, 19, 478, 393)], np.float32)  # COCO has no name for it
    assert box_iou(found.boxes, saucer).max() > 0.8


@pytest.mark.parametrize(("width", "height"), [(1, 1), (30_000, 40), (1, 3_000), (64, 64)])
def test_odd_images_break_nothing(width: int, height: int, nanodet: Detector, sam: Sam) -> None:
    black = np.zeros((height, width, 3), np.uint8)
    for detector in (nanodet, SamGrid(sam, points_per_side=1)):
        check(detector.detect(black), width, height)


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("astronaut", (12, 5, 370, 512)),
        ("chelsea", (0, 0, 450, 300)),
        ("coffee", (82, 25, 460, 395)),
        ("motorcycle_left", (97, 85, 690, 450)),
    ],
)
def test_nanodet_finds_the_thing_in_the_photo(
    name: str, box: tuple[int, ...], nanodet: Detector, photo: Photo
) -> None:
    found = nanodet.detect(np.asarray(photo(name)))
    hits = box_iou(found.boxes[:5], np.array([box], np.float32))
    assert hits.max() > 0.8


def test_a_mirrored_photo_gives_mirrored_boxes(nanodet: Detector, photo: Photo) -> None:
    image = np.asarray(photo("motorcycle_left"))
    found, mirrored = nanodet.detect(image), nanodet.detect(image[:, ::-1])
    boxes = mirrored.boxes.copy()
    boxes[:, [0, 2]] = image.shape[1] - mirrored.boxes[:, [2, 0]]
    best = box_iou(found.boxes[:5], boxes).max(axis=1)
    assert best[0] > 0.9
    assert best.mean() > 0.75


def test_the_same_photo_gives_the_same_boxes(nanodet: Detector, photo: Photo) -> None:
    image = np.asarray(photo("coffee"))
    first, second = nanodet.detect(image), nanodet.detect(image)
    assert first.boxes.tobytes() == second.boxes.tobytes()
    assert first.score.tobytes() == second.score.tobytes()


def test_more_pixels_give_the_same_boxes(nanodet: Detector, photo: Photo) -> None:
    image = photo("motorcycle_left")
    large = image.resize((image.width * 3, image.height * 3))
    found, enlarged = nanodet.detect(np.asarray(image)), nanodet.detect(np.asarray(large))
    assert box_iou(found.boxes[:3], enlarged.boxes / 3).max(axis=1).min() > 0.9


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'yolo' is unknown; it must be one of .*sam-grid"):
        build_detector("yolo")


def test_sam_grid_says_what_it_needs() -> None:
    with pytest.raises(InputError, match="needs the model of a SAM localizer"):
        build_detector("sam-grid")


def test_a_detector_bears_the_name_it_is_known_by(sam: Sam) -> None:
    for name in ("nanodet", "nanodet-416", "sam-grid", "nanodet-416,sam-grid"):
        assert build_detector(name, sam=lambda: sam).name == name


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_rgb_image_is_refused(image: np.ndarray, nanodet: Detector) -> None:
    with pytest.raises(InputError, match=r"image must be \(H, W, 3\) uint8 RGB, got"):
        nanodet.detect(image)
