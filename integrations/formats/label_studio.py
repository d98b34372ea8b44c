"""Writes tasks of Label Studio (labelstud.io/guide/predictions).

    tasks.json           a list of tasks, an image each, with annotations and predictions
    label_config.xml     the labelling interface with all classes
    images/              the images

Labels without a score, which people drew or changed, are an annotation; so are labels with the
attribute `reviewed`, and all of an image that has it. The others are a prediction with scores. An
image without labels is an empty annotation where it has been reviewed, else an empty prediction.

Boxes are in per cent of the image. A mask becomes a brush stroke that hangs on its box. Images are
addressed as Label Studio's local storage does, relative to the folder that it is set up to serve.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from integrations.annotations import Annotation, Category, LabelledImage, Tally, as_rle
from integrations.formats.label_studio_reader import (
    CONFIG,
    IMAGES,
    REVIEWED,
    TASKS,
    WITH_PREDICTIONS,
)
from integrations.formats.rle import pack_brush
from integrations.formats.validation import (
    ALL_PARTS,
    checked_images,
    names_by_id,
    naming_image,
    to_json,
)
from integrations.formats.xml import check_names, start
from regionspot.boxes import xyxy_to_xywh
from regionspot.files import atomic_write
from regionspot.types import decode_mask

_LOCAL_FILES = "/data/local-files/?d="
_HOLDS = ALL_PARTS - {"extra"}


def write_label_studio(
    folder: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write `tasks.json` and `label_config.xml`; the images belong into `images/`.

    See `registry.Writer`; `info`'s `model` becomes the predictions' version.
    """
    tally = Tally() if tally is None else tally
    names = names_by_id(folder, categories)
    check_names(folder, names.values())
    version = str((info or {}).get("model", "autolabel"))
    with atomic_write(folder / CONFIG) as out:
        out.writelines(f"{line}\n" for line in _config(names.values()))
    with atomic_write(folder / TASKS) as out:
        out.write("[")
        for index, image in enumerate(checked_images(folder, categories, images, tally, _HOLDS)):
            with naming_image(folder, image):
                out.write((",\n" if index else "\n") + to_json(_task(image, names, version)))
        out.write("\n]\n")
    return tally


def _config(names: Iterable[str]) -> Iterator[str]:
    yield "<View>"
    yield start("Image", name="image", value="$image") + "</Image>"
    for tag, control in (("RectangleLabels", "label"), ("BrushLabels", "brush")):
        yield start(tag, name=control, toName="image")
        yield from (start("Label", value=name) + "</Label>" for name in names)
        yield f"</{tag}>"
    yield "</View>"


def _task(image: LabelledImage, names: Mapping[int, str], version: str) -> dict[str, Any]:
    people: list[dict[str, Any]] = []
    model: list[dict[str, Any]] = []
    all_reviewed = image.attributes.get(REVIEWED) is True
    scores = []
    for index, annotation in enumerate(image.annotations):
        results = _results(annotation, image, names, index)
        reviewed = all_reviewed or annotation.attributes.get(REVIEWED) is True
        if annotation.score is None or reviewed:
            people += results
        else:
            model += results
            scores.append(annotation.score)
    task: dict[str, Any] = {
        "id": image.id,
        "data": {
            "image": _LOCAL_FILES + quote(f"{IMAGES}/{image.file_name}"),
            "width": image.width,
            "height": image.height,
            "absent": list(image.absent),
            "unverified": list(image.unverified),
            "attributes": dict(image.attributes),
        },
    }
    if people or all_reviewed:
        task["annotations"] = [{"result": people, WITH_PREDICTIONS: bool(model)}]
    if model or "annotations" not in task:
        prediction: dict[str, Any] = {"model_version": version, "result": model}
        if scores:
            # Label Studio can begin with the lowest, which is the image that is least sure.
            prediction["score"] = min(scores)
        task["predictions"] = [prediction]
    return task


def _results(
    annotation: Annotation, image: LabelledImage, names: Mapping[int, str], index: int
) -> Iterator[dict[str, Any]]:
    """The box, and the mask that hangs on it."""
    name = names[annotation.category_id]
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
    left, top, width, height = xyxy_to_xywh(annotation.box)
    value = {
        "x": round(100 * left / image.width, 8),
        "y": round(100 * top / image.height, 8),
        "width": round(100 * width / image.width, 8),
        "height": round(100 * height / image.height, 8),
        "rotation": 0,
        "rectanglelabels": [name],
    }
    box = {"id": key, "type": "rectanglelabels", "from_name": "label", "value": value, **common}
    yield {**box, "meta": meta} if meta else box
    if annotation.mask is not None:
        mask = decode_mask(as_rle(annotation.mask, image.width, image.height))
        stroke = {"format": "rle", "rle": pack_brush(mask), "brushlabels": [name]}
        place = {"id": f"{key}-mask", "parentID": key, "type": "brushlabels", "from_name": "brush"}
        yield {**place, "value": stroke, **common}
