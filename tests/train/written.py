"""Small data sets, written in the true form of each format."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48
Json = dict[str, Any]


def write_image(path: Path, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def image(id: int, file_name: str = "", **more: Any) -> Json:
    return {
        "id": id,
        "file_name": file_name or f"{id:06d}.jpg",
        "width": WIDTH,
        "height": HEIGHT,
        **more,
    }


def annotation(
    id: int, image_id: int, category_id: int, bbox: Sequence[float] = (4, 6, 20, 10), **more: Any
) -> Json:
    return {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(bbox),
        "area": bbox[2] * bbox[3],
        "segmentation": [[4, 6, 24, 6, 24, 16]],
        **more,
    }


def categories(names: Mapping[int, str], **more: Any) -> list[Json]:
    return [
        {"id": id, "name": name, "supercategory": "thing", **more} for id, name in names.items()
    ]


def coco(images: Sequence[Json], annotations: Sequence[Json], names: Mapping[int, str]) -> Json:
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": list(images),
        "annotations": list(annotations),
        "categories": categories(names),
    }
