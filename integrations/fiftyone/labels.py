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
from regionspot.boxes import Box, relative_xywh_to_xyxy, rounded, xyxy_to_relative_xywh
from regionspot.types import decode_mask, encode_mask

REVIEWED = "reviewed"  # a tag of a label or of its whole image, and a check box of a label
ACCEPTANCE = "acceptance"  # an attribute of a label, with one of the two values
ACCEPTED, TO_REVIEW = "accepted", "to review"
# Attributes of a label beside its confidence, with their types in a label schema.
SCORES = {"runner_up": "str", "margin": "float", "presence": "float"}
PROVENANCE = ("run", "model", "vocabulary")


def to_detections(image: LabelledImage, names: Sequence[str], provenance: Mapping[str, str]) -> Any:
    """FiftyOne's `Detections` of an image.

    Args:
        image: with the labels of a model.
        names: of category 1, 2, ...
        provenance: goes into each label: a value of each of `PROVENANCE`.
    """
    import fiftyone as fo

    return fo.Detections(
        detections=[
            to_detection(each, image, names[each.category_id - 1], **each.attributes, **provenance)
            for each in image.annotations
        ]
    )


def to_detection(
    annotation: Annotation, image: LabelledImage, name: str, /, **fields: object
) -> Any:
    """FiftyOne's `Detection` of an annotation.

    Its field `predicted` holds the name as written, so that a class that a person changes, and
    the score of another class, can be told from the model's answer.

    Args:
        annotation: its mask is kept inside the pixels that its box touches.
        image: that it is of.
        name: of its category.
        fields: further ones.

    Raises:
        InputError: the mask is of another size than the image.
    """
    import fiftyone as fo

    left, top, right, bottom = window(annotation.box, image.width, image.height)
    if annotation.mask is not None and right > left and bottom > top:
        mask = decode_mask(as_rle(annotation.mask, image.width, image.height))
        # A mask that is set afterwards is compared, pixel by pixel, with the one before.
        fields["mask"] = mask[top:bottom, left:right]
    return fo.Detection(
        label=name,
        bounding_box=list(xyxy_to_relative_xywh(annotation.box, image.width, image.height)),
        confidence=annotation.score,
        predicted=name,
        **fields,
    )


def from_detection(
    detection: Any, category_ids: Mapping[str, int], width: int, height: int
) -> Annotation:
    """The annotation that a detection stands for, as it is now.

    A label that a person gave or changed has no score of a model.

    Args:
        detection: FiftyOne's.
        category_ids: by name.
        width: of the image, in pixels.
        height: of the image, in pixels.
    """
    left, top, box_width, box_height = detection.bounding_box
    box = relative_xywh_to_xyxy((left, top, box_width, box_height), width, height)
    box = rounded(box, 3)
    attributes = {
        name: value
        for name in (*SCORES, "box_id")
        if (value := get_value(detection, name)) is not None
    }
    confirmed = {REVIEWED: True} if is_confirmed(detection) else {}
    by_model = get_value(detection, "predicted") == detection.label
    mask = detection.get_mask()
    return Annotation(
        category_id=category_ids[detection.label],
        box=box,
        score=detection.confidence if by_model else None,
        mask=None if mask is None else encode_mask(_paste(mask, box, width, height)),
        attributes=(attributes if by_model else {}) | confirmed,
    )


def is_reviewed(detection: Any) -> bool:
    """Whether a person drew the label, gave it another class, or confirmed it."""
    return is_confirmed(detection) or get_value(detection, "predicted") != detection.label


def is_accepted(detection: Any) -> bool:
    """Whether `autolabel accept` accepted the label."""
    return bool(get_value(detection, ACCEPTANCE) == ACCEPTED)


def is_confirmed(detection: Any) -> bool:
    """Whether a label has the tag, or the check mark, of a person who looked at it."""
    return REVIEWED in (detection.tags or ()) or bool(get_value(detection, REVIEWED))


def is_whole_reviewed(sample: Any) -> bool:
    """Whether a person tagged the image: its labels are right, or it is empty where it has none."""
    return REVIEWED in (sample.tags or ())


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


def get_value(detection: Any, name: str) -> Any:
    """A field of a detection; None where it has none of that name."""
    return detection[name] if detection.has_field(name) else None
