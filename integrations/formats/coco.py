"""COCO's instances JSON (cocodataset.org, "Data format", object detection)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from integrations.annotations import Category, LabelledImage, LabelledSet
from integrations.formats.coco_reader import read_json
from integrations.formats.coco_writer import Json, Tally, write_json


def read_coco(path: Path, folder: Path | None = None) -> LabelledSet:
    """Read a COCO JSON.

    Annotations and categories may be missing. Of what COCO has beside boxes and masks, single
    values are kept as attributes.

    Args:
        path: of the JSON file.
        folder: of the images, if they are going to be read.

    Raises:
        InputError: the file does not hold together, or an image's name leaves the folder.
    """
    return read_json(path, folder, federated=False)


def write_coco(
    path: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
) -> Tally:
    """Write a COCO JSON, from one pass over the images. What LVIS verifies is not kept.

    Args:
        path: of the JSON file; it takes its name only once it is complete.
        categories: all that annotations may name; their ids are written as they are.
        images: in the order to write.
        info: goes into the file as it is.

    Raises:
        InputError: something cannot be written; an older file stays as it was.
    """
    return write_json(path, categories, images, info or {}, lambda image: {}, _category)


def _category(category: Category, tally: Tally) -> Json:
    record: Json = {
        "id": category.id,
        "name": category.name,
        "supercategory": category.supercategory,
    }
    # COCO knows none; evaluations that do can then bring words together.
    return record | ({"synonyms": list(category.synonyms)} if category.synonyms else {})
