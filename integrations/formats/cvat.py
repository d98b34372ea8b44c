"""Writes CVAT for images 1.1 (docs.cvat.ai, "CVAT for image").

One `annotations.xml`. CVAT has either a box or a mask, so that a label with both becomes two
shapes of one group, which CVAT keeps together. Attributes are text in CVAT; what is written as a
number or as true or false is read as such. There are no ids of labels. The attributes `occluded`,
`z_order`, `source` and `group_id` become CVAT's own where they have values that CVAT has.
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from integrations.annotations import (
    Annotation,
    Attribute,
    Category,
    LabelledImage,
    Tally,
    as_rle,
)
from integrations.formats.cvat_reader import FILE, IS_CROWD, SCORE
from integrations.formats.rle import to_row_runs
from integrations.formats.validation import (
    Part,
    checked_images,
    free_attributes,
    names_by_id,
    naming_image,
)
from integrations.formats.xml import attribute_text, check_names, leaf, name_problem, start
from regionspot.files import atomic_write
from regionspot.types import decode_mask

IMAGES = "images"
_SOURCES = ("manual", "auto", "semi-auto", "file", "consensus")
_HOLDS: frozenset[Part] = frozenset({"mask", "score", "crowd", "attributes"})


def write_cvat(
    folder: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write `annotations.xml`; the images belong into `images/`. See `registry.Writer`.

    `info`'s `description` names CVAT's task.
    """
    tally = Tally() if tally is None else tally
    names = names_by_id(folder, categories)
    check_names(folder, names.values())
    used: set[str] = set()
    folder.mkdir(parents=True, exist_ok=True)
    # The list of attributes stands before the images and is known after them, so these wait.
    with (
        atomic_write(folder / FILE) as out,
        tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder) as waiting,
    ):
        checked = checked_images(
            folder,
            categories,
            images,
            tally,
            _HOLDS,
            name_problem=lambda image: name_problem(image.file_name),
        )
        for image in checked:
            with naming_image(folder, image):
                waiting.writelines(f"{line}\n" for line in _image_lines(image, names, used))
        out.write('<?xml version="1.0" encoding="utf-8"?>\n')
        title = str((info or {}).get("description", ""))
        out.writelines(f"{line}\n" for line in _header_lines(names, sorted(used), title, tally))
        waiting.seek(0)
        shutil.copyfileobj(waiting, out)
        out.write("</annotations>\n")
    return tally


def _header_lines(
    names: Mapping[int, str], attributes: Sequence[str], title: str, tally: Tally
) -> Iterator[str]:
    yield from ("<annotations>", leaf("version", "1.1"), "<meta>", "<task>")
    yield leaf("name", title)
    yield leaf("size", tally.images)
    yield "<labels>"
    for name in names.values():
        yield from ("<label>", leaf("name", name), "<attributes>")
        for attribute in attributes:
            yield (
                "<attribute>"
                + leaf("name", attribute)
                + leaf("mutable", "False")
                + leaf("input_type", "text")
                + "<default_value></default_value><values></values></attribute>"
            )
        yield from ("</attributes>", "</label>")
    yield from ("</labels>", "</task>", "</meta>")


def _image_lines(image: LabelledImage, names: Mapping[int, str], used: set[str]) -> Iterator[str]:
    yield start("image", id=image.id, name=image.file_name, width=image.width, height=image.height)
    taken = {each.attributes.get("group_id") for each in image.annotations}
    groups = (number for number in itertools.count(1) if number not in taken)
    for annotation in image.annotations:
        attributes = _attributes(annotation)
        common: dict[str, str | int] = {
            "label": names[annotation.category_id],
            "source": "manual" if annotation.score is None else "auto",
            "occluded": 0,
            **_own_attributes(annotation, attributes),
        }
        used.update(attributes)
        if annotation.mask is not None:
            common["group_id"] = next(groups)
        yield from _shapes(annotation, image, common, attributes)
    yield "</image>"


def _own_attributes(
    annotation: Annotation, attributes: dict[str, Attribute]
) -> dict[str, str | int]:
    """Take those out of the attributes that CVAT has as parts of a shape."""
    own: dict[str, str | int] = {}
    if attributes.get("occluded") is True:
        own["occluded"] = int(bool(attributes.pop("occluded")))
    source = attributes.get("source")
    if source in _SOURCES and source != ("manual" if annotation.score is None else "auto"):
        own["source"] = str(attributes.pop("source"))
    for name in ("z_order", "group_id"):
        value = attributes.get(name)
        # The shapes of a label with a mask are a group of their own.
        if type(value) is int and value > 0 and (name == "z_order" or annotation.mask is None):
            own[name] = value
            del attributes[name]
    return own


def _attributes(annotation: Annotation) -> dict[str, Attribute]:
    attributes = free_attributes(annotation.attributes, {SCORE, IS_CROWD})
    if annotation.score is not None:
        attributes[SCORE] = annotation.score
    if annotation.is_crowd:
        attributes[IS_CROWD] = True
    return attributes


def _shapes(
    annotation: Annotation,
    image: LabelledImage,
    common: Mapping[str, str | int],
    attributes: Mapping[str, Attribute],
) -> Iterator[str]:
    common = {**common, "z_order": common.get("z_order", 0)}
    x1, y1, x2, y2 = (round(side, 4) for side in annotation.box)
    yield start("box", **common, xtl=x1, ytl=y1, xbr=x2, ybr=y2)
    for name, value in attributes.items():
        yield leaf("attribute", attribute_text(value), name=name)
    yield "</box>"
    if isinstance(annotation.mask, dict):
        mask = as_rle(annotation.mask, image.width, image.height)
        runs, left, top, width, height = to_row_runs(decode_mask(mask))
        rle = ", ".join(map(str, runs))
        place = {"left": left, "top": top, "width": width, "height": height}
        yield start("mask", **common, rle=rle, **place) + "</mask>"
        return
    for polygon in annotation.mask or ():
        pairs = zip(polygon[::2], polygon[1::2], strict=True)
        points = ";".join(f"{x:.10g},{y:.10g}" for x, y in pairs)
        yield start("polygon", **common, points=points) + "</polygon>"
