"""LVIS v0.5 and v1: an image is annotated for some classes only (Gupta et al. 2019, section 3)."""

from pathlib import Path

from integrations.formats.coco import VERIFIED_KEYS, check_federated
from integrations.formats.record import Record
from train.data.coco import CROWDS, dataset_of, read_boxes
from train.data.types import Dataset
from train.data.verified import ABSENT, BOXED, OPEN, VerifiedClasses


def read_lvis(path: Path, images: Path, name: str = "") -> Dataset:
    """An LVIS JSON, v0.5 or v1 (lvisdataset.org, "Data format").

    `verified` holds the classes that an image has all boxes of, and those that it is verified not
    to hold. Classes in `not_exhaustive_category_ids`, and those of crowds, are no negatives, for
    there may be more of them than is boxed. `bus_(vehicle)` is called "bus"; where two categories
    would be called alike (`bow_(weapon)`, `bow_(decorative_ribbons)`), the brackets stay.

    Args:
        path: of the JSON.
        images: folder of the images, or of the folders `train2017` and `val2017` with them.
        name: of the data set; empty: made of the path.

    Raises:
        InputError: the file cannot be read or does not hold together, or does not say what was
            verified.
    """
    verified = VerifiedClasses(path)

    def on_record(record: Record) -> None:
        if record.group == "annotations":
            is_crowd = any(record.values.get(key) for key in CROWDS)
            kind = OPEN if is_crowd else BOXED
            verified.add(record.identifier("image_id"), record.whole("category_id"), kind)
            return
        check_federated(record)
        image = record.identifier("id")
        for key, kind in zip(VERIFIED_KEYS, (ABSENT, OPEN), strict=True):
            for category in record.wholes(key):
                verified.add(image, category, kind)

    boxes = read_boxes(path, images, on_record=on_record)
    verified.finish(boxes.class_of)
    return dataset_of(name or f"lvis:{path}", boxes, verified)
