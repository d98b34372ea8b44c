"""Annotated images to train and measure on."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regionspot.boxes import FloatArray, area, clip, xywh_to_xyxy
from regionspot.errors import InputError


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and its boxes.

    Attributes:
        id: the data set's own.
        boxes: (N, 4) xyxy pixels, clipped to the image, none of them empty.
        names: the word of each box.
    """

    id: int
    path: Path
    width: int
    height: int
    boxes: FloatArray
    names: tuple[str, ...]


def listed_words(folder: Path) -> dict[str, list[str]]:
    """The words of all categories that `folder/instances.json` lists, each with its synonyms."""
    content = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    words: dict[str, list[str]] = {}
    for category in content["categories"]:
        name = readable(category["name"])
        strings = [name, *map(readable, category.get("synonyms", ()))]
        words[name] = list(dict.fromkeys(words.get(name, []) + strings))
    return words


def load_coco(folder: Path) -> list[AnnotatedImage]:
    """Images with boxes from `folder/instances.json` and `folder/images`.

    Crowds and suspected crowds (`maybe_crowd`) are no single objects and are left out.

    Raises:
        InputError: the file is not there or is not COCO's form.
    """
    path = folder / "instances.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        words = {c["id"]: readable(c["name"]) for c in content["categories"]}
        by_image: dict[int, list[tuple[list[float], str]]] = {}
        for a in content["annotations"]:
            if not a.get("iscrowd") and not a.get("maybe_crowd"):
                by_image.setdefault(a["image_id"], []).append((a["bbox"], words[a["category_id"]]))
        return [
            _annotated(folder / "images", image, by_image[image["id"]])
            for image in content["images"]
            if image["id"] in by_image
        ]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a COCO file of boxes: {error!r}") from error


def readable(name: str) -> str:
    """A category's name as a word: LVIS writes `bus_(vehicle)` for bus."""
    return re.sub(r"\s*\(.*?\)", "", name.replace("_", " ")).strip()


def _annotated(
    folder: Path, image: dict[str, object], found: list[tuple[list[float], str]]
) -> AnnotatedImage:
    width, height = int(str(image["width"])), int(str(image["height"]))
    boxes = clip(xywh_to_xyxy(np.array([box for box, _ in found], np.float32)), width, height)
    kept = np.flatnonzero(area(boxes) > 0)
    return AnnotatedImage(
        id=int(str(image["id"])),
        path=folder / str(image["file_name"]),
        width=width,
        height=height,
        boxes=boxes[kept],
        names=tuple(found[i][1] for i in kept),
    )
