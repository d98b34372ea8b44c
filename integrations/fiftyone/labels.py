"""Labels as FiftyOne's detections, there and back.

A detection's mask covers the whole pixels that its box touches, so that it comes back bit by bit.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from integrations.annotations import Annotation, LabelledImage, as_rle
from regionspot.types import decode_mask, encode_mask

Box = tuple[float, float, float, float]
REVIEWED_TAG = "reviewed"
SCORES = ("runner_up", "margin", "presence")


def to_detections(image: LabelledImage, names: Sequence[str], provenance: Mapping[str, str]) -> Any:
    """FiftyOne's `Detections` of an image.

    Args:
        names: the word of category 1, 2, ...
        provenance: goes into each label; here, too, lies the word as predicted, so that a person's
            correction can be told from the model's answer.
    """
    import fiftyone as fo

    detections = []
    for each in image.annotations:
        x1, y1, x2, y2 = each.box
        word = names[each.category_id - 1]
        detection = fo.Detection(
            label=word,
            bounding_box=[
                x1 / image.width,
                y1 / image.height,
                (x2 - x1) / image.width,
                (y2 - y1) / image.height,
            ],
            confidence=each.score,
            predicted=word,
            **each.attributes,
            **provenance,
        )
        if each.mask is not None:
            left, top, right, bottom = window(each.box, image.width, image.height)
            mask = decode_mask(as_rle(each.mask, image.width, image.height))
            detection.mask = mask[top:bottom, left:right]
        detections.append(detection)
    return fo.Detections(detections=detections)


def from_detection(
    detection: Any, category_ids: Mapping[str, int], width: int, height: int
) -> Annotation:
    """The annotation that a detection stands for, as it is now.

    A label that a person gave or changed has no score of a model.

    Args:
        category_ids: by word.
        width, height: of the image, in pixels.
    """
    left, top, box_width, box_height = detection.bounding_box
    box = (
        round(left * width, 3),
        round(top * height, 3),
        round((left + box_width) * width, 3),
        round((top + box_height) * height, 3),
    )
    attributes = {name: value for name in SCORES if (value := _get(detection, name)) is not None}
    by_model = _get(detection, "predicted") == detection.label
    mask = detection.get_mask()
    return Annotation(
        category_id=category_ids[detection.label],
        box=box,
        score=detection.confidence if by_model else None,
        mask=None if mask is None else encode_mask(_paste(mask, box, width, height)),
        attributes=attributes if by_model else {},
    )


def is_reviewed(detection: Any) -> bool:
    """Whether a person drew the label, gave it another word, or tagged it."""
    return REVIEWED_TAG in detection.tags or _get(detection, "predicted") != detection.label


def window(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the whole pixels that a box touches, inside the image."""
    x1, y1, x2, y2 = box
    left, top = max(math.floor(x1), 0), max(math.floor(y1), 0)
    return left, top, min(math.ceil(x2), width), min(math.ceil(y2), height)


def _paste(mask: npt.NDArray[Any], box: Box, width: int, height: int) -> npt.NDArray[np.bool_]:
    """The mask (height, width) of an image from that of a box, resized where they do not fit."""
    left, top, right, bottom = window(box, width, height)
    canvas = np.zeros((height, width), np.bool_)
    size = (right - left, bottom - top)
    if min(size) > 0:
        part = np.asarray(mask, np.uint8)
        if part.shape != (size[1], size[0]):
            part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        canvas[top:bottom, left:right] = part > 0
    return canvas


def _get(detection: Any, name: str) -> Any:
    return detection[name] if detection.has_field(name) else None
