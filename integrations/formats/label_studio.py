"""Label Studio's pre-annotations (labelstud.io/guide/predictions).

    tasks.json           a list of tasks; each image's labels are a prediction with scores
    label_config.xml     the labelling interface with all words
    images/              the images

Boxes are in per cent of the image. A mask becomes a brush stroke that hangs on its box. Images are
addressed as Label Studio's local storage does, relative to the folder that it is told to serve.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from integrations.annotations import Annotation, Category, LabelledImage, as_rle
from integrations.formats.coco_writer import Tally
from integrations.formats.label_studio_runs import pack
from integrations.formats.validation import checked_images, names_by_id
from integrations.formats.xml import start
from regionspot.errors import InputError
from regionspot.files import atomic_write
from regionspot.types import decode_mask

TASKS, CONFIG, IMAGES = "tasks.json", "label_config.xml", "images"
LOCAL_FILES = "/data/local-files/?d="


def write_label_studio(
    folder: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
) -> Tally:
    """Write `tasks.json` and `label_config.xml`; the images belong into `images/`.

    Args:
        folder: to write into.
        info: its `model` becomes the predictions' version.

    Raises:
        InputError: something cannot be written.
    """
    tally = Tally()
    names = names_by_id(folder, categories)
    version = str((info or {}).get("model", "autolabel"))
    with atomic_write(folder / CONFIG) as out:
        out.writelines(f"{line}\n" for line in _config(names.values()))
    with atomic_write(folder / TASKS) as out:
        out.write("[")
        for index, image in enumerate(checked_images(folder, categories, images, tally)):
            out.write(",\n" if index else "\n")
            _dump(_task(image, names, version), out)
        out.write("\n]\n")
    return tally


def _dump(task: dict[str, Any], out: TextIO) -> None:
    try:
        json.dump(task, out, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise InputError(f"every number must be finite, got {task}") from error


def _config(names: Iterable[str]) -> Iterator[str]:
    yield "<View>"
    yield start("Image", name="image", value="$image") + "</Image>"
    for tag, control in (("RectangleLabels", "label"), ("BrushLabels", "brush")):
        yield start(tag, name=control, toName="image")
        yield from (start("Label", value=name) + "</Label>" for name in names)
        yield f"</{tag}>"
    yield "</View>"


def _task(image: LabelledImage, names: Mapping[int, str], version: str) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    for index, annotation in enumerate(image.annotations):
        results += _results(annotation, image, names, index)
    scores = [each.score for each in image.annotations if each.score is not None]
    prediction: dict[str, Any] = {"model_version": version, "result": results}
    if scores:
        # Label Studio can begin with the lowest, which is the image that is least sure.
        prediction["score"] = min(scores)
    return {
        "id": image.id,
        "data": {
            "image": LOCAL_FILES + quote(f"{IMAGES}/{image.file_name}"),
            "width": image.width,
            "height": image.height,
            "absent": list(image.absent),
            "unverified": list(image.unverified),
            "attributes": dict(image.attributes),
        },
        "predictions": [prediction],
    }


def _results(
    annotation: Annotation, image: LabelledImage, names: Mapping[int, str], index: int
) -> Iterator[dict[str, Any]]:
    """The box, and the mask that hangs on it."""
    x1, y1, x2, y2 = annotation.box
    word = names[annotation.category_id]
    key = f"box-{index}" if annotation.id is None else str(annotation.id)
    common: dict[str, Any] = {
        "to_name": "image",
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
    }
    if annotation.score is not None:
        common["score"] = annotation.score
    meta = dict(annotation.attributes)
    if annotation.is_crowd:
        meta["iscrowd"] = True
    value = {
        "x": round(100 * x1 / image.width, 8),
        "y": round(100 * y1 / image.height, 8),
        "width": round(100 * (x2 - x1) / image.width, 8),
        "height": round(100 * (y2 - y1) / image.height, 8),
        "rotation": 0,
        "rectanglelabels": [word],
    }
    box = {"id": key, "type": "rectanglelabels", "from_name": "label", "value": value, **common}
    yield {**box, "meta": meta} if meta else box
    if annotation.mask is not None:
        mask = decode_mask(as_rle(annotation.mask, image.width, image.height))
        stroke = {"format": "rle", "rle": pack(mask), "brushlabels": [word]}
        place = {"id": f"{key}-mask", "parentID": key, "type": "brushlabels", "from_name": "brush"}
        yield {**place, "value": stroke, **common}
