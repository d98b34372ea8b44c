"""A detector on overlapping tiles of an image, for objects that are small in the whole of it.

Axes: N boxes of one image, of the whole and of all tiles.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import supervision as sv

from integrations.detectors.base import MAX_BOXES, NMS_IOU, Detector, check_image, select
from regionspot.boxes import FloatArray, box_area, box_iou
from regionspot.types import ImageArray, IntArray, Proposals

TILE_OVERLAP = 0.2
# A box is cut where it ends this near to an edge of its tile, in parts of the tile's side.
_EDGE = 0.01
# Overlap from which two boxes of what is seen of an object are of the same object.
_SAME = 0.5
# A box replaces a part of it unless its score is below this share of the part's.
_LEAST_SCORE = 0.5

Bools = npt.NDArray[np.bool_]


class Tiled:
    """Another detector's boxes of the whole image and of tiles of it, joined.

    Tiles are those of `supervision.InferenceSlicer` (slicing-aided inference, Akyon et al. 2022,
    arXiv 2202.06934). `join_parts` merges what an edge between tiles cuts.
    """

    def __init__(
        self,
        detector: Detector,
        side: int,
        overlap: float = TILE_OVERLAP,
        max_boxes: int = MAX_BOXES,
        nms_iou: float = NMS_IOU,
    ) -> None:
        """Wrap a detector.

        Args:
            detector: of any kind.
            side: of a tile, in pixels.
            overlap: of neighbouring tiles, in parts of the side, from 0 to below 1.
            max_boxes: at most so many boxes an image, of all tiles together.
            nms_iou: of two boxes that overlap by more than this, the one of lower score goes.
        """
        self.name = detector.name
        self.detector = detector
        self.side = side
        self.overlap = int(side * overlap)
        self.max_boxes = max_boxes
        self.nms_iou = nms_iou

    def detect(self, image: ImageArray) -> Proposals:
        """See `Detector.detect`."""
        height, width = check_image(image)
        whole = self.detector.detect(image)
        if max(height, width) <= self.side:
            return whole
        frame = np.array([0, 0, width, height], np.float32)
        parts = [(whole, frame), *self._on_tiles(image)]
        found = Proposals.joined([each for each, _ in parts])
        tiles = np.concatenate([np.tile(tile, (len(each), 1)) for each, tile in parts])
        joined = join_parts(found, tiles, (height, width))
        return select(joined, (height, width), self.nms_iou, self.max_boxes)

    def _on_tiles(self, image: ImageArray) -> Iterator[tuple[Proposals, FloatArray]]:
        """The boxes of each tile, and the tile (4,) itself, in pixels of the image."""
        found: list[Proposals] = []

        def detect(pixels: ImageArray) -> sv.Detections:
            """A tile as a first box, which the slicer moves as it does the others."""
            height, width = pixels.shape[:2]
            found.append(self.detector.detect(np.ascontiguousarray(pixels)))
            boxes = np.concatenate([[[0, 0, width, height]], found[-1].boxes])
            return sv.Detections(boxes, data={"tile": np.full(len(boxes), len(found) - 1)})

        moved = sv.InferenceSlicer(
            detect,
            slice_wh=self.side,
            overlap_wh=self.overlap,
            overlap_filter=sv.OverlapFilter.NONE,
        )(image)
        for number, each in enumerate(found):
            boxes = moved.xyxy[moved.data["tile"] == number].astype(np.float32)
            yield replace(each, boxes=boxes[1:]), boxes[0]


def join_parts(found: Proposals, tiles: FloatArray, image_size: tuple[int, int]) -> Proposals:
    """Boxes of objects of which the edges of tiles cut some.

    Two boxes that end at the edges of neighbouring tiles, facing each other and as long there, are
    merged where they are of one class. Then a cut box goes where another one reaches beyond the
    tile and has the same part in it.

    Args:
        found: N boxes in pixels of the image.
        tiles: (N, 4) xyxy pixels of the tile in which each box was found.
        image_size: height and width in pixels.

    Returns:
        The boxes, in no order.
    """
    before = len(found) + 1
    while 0 < len(found) < before:  # what was merged may be part of more
        before = len(found)
        found, tiles = _merged(found, tiles, _parts_of_one(found, tiles, image_size))
    return found[_wholes(found, tiles, image_size)]


def _merged(found: Proposals, tiles: FloatArray, groups: IntArray) -> tuple[Proposals, FloatArray]:
    """The box around the boxes of each group (N,), with its highest score, and its tiles."""
    best_first = np.lexsort((-found.score, groups))
    _, first, group = np.unique(groups[best_first], return_index=True, return_inverse=True)
    around = []
    for boxes in (found.boxes[best_first], tiles[best_first]):
        hulls = boxes[first]
        np.minimum.at(hulls[:, :2], group, boxes[:, :2])
        np.maximum.at(hulls[:, 2:], group, boxes[:, 2:])
        around.append(hulls)
    return replace(found[best_first[first]], boxes=around[0]), around[1]


def _cut_sides(boxes: FloatArray, tiles: FloatArray, image_size: tuple[int, int]) -> Bools:
    """(N, 4) whether the left, top, right and bottom of a box end at an edge between tiles."""
    height, width = image_size
    inner = np.concatenate([tiles[:, :2] > 0, tiles[:, 2:] < [width, height]], axis=1)
    margins = np.tile(_EDGE * (tiles[:, 2:] - tiles[:, :2]), (1, 2))
    return np.asarray(inner & (np.abs(boxes - tiles) <= margins), np.bool_)


def _classes(found: Proposals) -> IntArray:
    """(N,) the class of highest score of each box; -1 where its detector names none."""
    if found.class_scores is None:
        return np.full(len(found), -1)
    known = ~np.isnan(found.class_scores).all(axis=1)
    filled = np.nan_to_num(found.class_scores, nan=-1)
    return np.where(known, filled.argmax(axis=1), -1)


def _parts_of_one(found: Proposals, tiles: FloatArray, image_size: tuple[int, int]) -> IntArray:
    """(N,) a number for each box that parts of one object share."""
    classes, cut = _classes(found), _cut_sides(found.boxes, tiles, image_size)
    groups = np.arange(len(found))
    for along, across in ((0, 1), (1, 0)):  # tiles side by side, and one above the other
        start, end, sides = along, along + 2, [across, across + 2]
        firsts, seconds = np.flatnonzero(cut[:, end]), np.flatnonzero(cut[:, start])
        for tile in np.unique(tiles[firsts], axis=0):
            one = firsts[(tiles[firsts] == tile).all(axis=1)]
            near = tiles[seconds]
            follows = (near[:, sides] == tile[sides]).all(axis=1) & (near[:, end] > tile[end])
            follows &= (near[:, start] > tile[start]) & (near[:, start] <= tile[end])
            two = seconds[follows]
            if not (len(one) and len(two)):
                continue
            same = _length_iou(found.boxes[one][:, sides], found.boxes[two][:, sides])  # (F, S)
            same *= classes[one][:, None] == classes[two]
            # Both reach through all that the two tiles share.
            margin = _EDGE * (tile[end] - tile[start])
            same *= found.boxes[one][:, None, start] <= tiles[two][:, start] + margin
            same *= found.boxes[two][:, end] >= tile[end] - margin
            best = (same >= _SAME) & (same == same.max(axis=1, keepdims=True))
            best &= same == same.max(axis=0)
            for row, column in zip(*best.nonzero(), strict=True):
                groups[groups == groups[two[column]]] = groups[one[row]]
    return groups


def _length_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union (F, S) of two sets of intervals (F, 2) and (S, 2)."""
    first, second = a[:, None], b[None]
    shared = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    either = np.maximum(first[..., 1], second[..., 1]) - np.minimum(first[..., 0], second[..., 0])
    return np.asarray(np.maximum(shared, 0) / np.maximum(either, 1e-6), np.float32)


def _wholes(found: Proposals, tiles: FloatArray, image_size: tuple[int, int]) -> IntArray:
    """Rows of the boxes that are no part of another one."""
    boxes, cut = found.boxes, _cut_sides(found.boxes, tiles, image_size)
    alive = np.ones(len(found), np.bool_)
    inside: dict[bytes, IntArray] = {}  # rows of the boxes that a tile shows, by the tile
    rows = np.flatnonzero(cut.any(axis=1))
    for row in rows[np.argsort(box_area(boxes[rows]), kind="stable")]:
        tile = tiles[row]
        if (others := inside.get(tile.tobytes())) is None:
            shown = (boxes[:, :2] < tile[2:]) & (boxes[:, 2:] > tile[:2])
            others = inside[tile.tobytes()] = np.flatnonzero(shown.all(axis=1))
        others = others[alive[others] & (found.score[others] >= _LEAST_SCORE * found.score[row])]
        left_top, right_bottom = boxes[others, :2], boxes[others, 2:]
        beyond = np.concatenate([left_top < tile[:2], right_bottom > tile[2:]], axis=1) & cut[row]
        seen = [np.maximum(left_top, tile[:2]), np.minimum(right_bottom, tile[2:])]
        overlap = box_iou(boxes[[row]], np.concatenate(seen, axis=1))[0]
        alive[row] = not (beyond.any(axis=1) & (overlap >= _SAME)).any()
    return np.flatnonzero(alive)
