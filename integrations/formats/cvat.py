"""CVAT for images 1.1 (docs.cvat.ai, "CVAT for image").

One `annotations.xml`. CVAT has either a box or a mask, so that a label with both becomes two
shapes of one group, which CVAT keeps together. A mask's run lengths go row by row over the
rectangle of its pixels and begin with background. Attributes are text in CVAT; what is written as
a number or as truth is read as such. There are no ids of labels.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from integrations.annotations import Annotation, Attribute, Category, LabelledImage
from integrations.formats.coco_writer import Tally
from integrations.formats.cvat_reader import IS_CROWD, SCORE
from integrations.formats.cvat_runs import mask_to_runs
from integrations.formats.validation import checked_images, names_by_id
from integrations.formats.xml import attribute_text, leaf, start
from regionspot.errors import InputError
from regionspot.files import atomic_write
from regionspot.types import decode_mask

FILE, IMAGES = "annotations.xml", "images"


def write_cvat(
    folder: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
) -> Tally:
    """Write `annotations.xml`; the images belong into `images/`.

    Args:
        folder: to write into.
        info: its `description` names CVAT's task.

    Raises:
        InputError: something cannot be written.
    """
    tally = Tally()
    names = names_by_id(folder, categories)
    used: set[str] = set()
    folder.mkdir(parents=True, exist_ok=True)
    # The list of attributes stands before the images and is known after them, so these wait.
    with (
        atomic_write(folder / FILE) as out,
        tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder) as waiting,
    ):
        for image in checked_images(folder, categories, images, tally):
            try:
                waiting.writelines(f"{line}\n" for line in _image_lines(image, names, used))
            except InputError as error:
                raise InputError(f"{folder}: image {image.file_name!r}: {error}") from error
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
    groups: Counter[str] = Counter()
    for annotation in image.annotations:
        attributes = _attributes(annotation)
        used.update(attributes)
        group = 0
        if annotation.mask is not None:
            groups["last"] += 1
            group = groups["last"]
        common: dict[str, str | int] = {
            "label": names[annotation.category_id],
            "source": "manual" if annotation.score is None else "auto",
            "occluded": 0,
        }
        if group:
            common["group_id"] = group
        yield from _shapes(annotation, image, common, attributes)
    yield "</image>"


def _attributes(annotation: Annotation) -> dict[str, Attribute]:
    if taken := {SCORE, IS_CROWD} & annotation.attributes.keys():
        raise InputError(f"an attribute may not be named {', '.join(sorted(taken))}")
    attributes = dict(annotation.attributes)
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
    x1, y1, x2, y2 = (round(side, 4) for side in annotation.box)
    yield start("box", **common, xtl=x1, ytl=y1, xbr=x2, ybr=y2, z_order=0)
    for name, value in attributes.items():
        yield leaf("attribute", attribute_text(value), name=name)
    yield "</box>"
    if isinstance(annotation.mask, dict):
        if annotation.mask["size"] != [image.height, image.width]:
            raise InputError(
                f"expected a mask of size {[image.height, image.width]}, "
                f"got {annotation.mask['size']}"
            )
        runs, left, top, width, height = mask_to_runs(decode_mask(annotation.mask))
        rle = ", ".join(map(str, runs))
        place = {"left": left, "top": top, "width": width, "height": height}
        yield start("mask", **common, rle=rle, **place, z_order=0) + "</mask>"
        return
    for polygon in annotation.mask or ():
        pairs = zip(polygon[::2], polygon[1::2], strict=True)
        points = ";".join(f"{x:.10g},{y:.10g}" for x, y in pairs)
        yield start("polygon", **common, points=points, z_order=0) + "</polygon>"
