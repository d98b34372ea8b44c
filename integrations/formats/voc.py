"""Pascal VOC (host.robots.ox.ac.uk/pascal/VOC, development kit of 2012, section 5).

    Annotations/               an XML file for each image, with the image's sub-folders
    ImageSets/Main/all.txt     the images' names without suffix
    JPEGImages/                the images

Corners are whole pixels, counted from 1, and the last pixel belongs to the box. There are no ids,
no list of all classes, and no masks. Crowd regions are left out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from integrations.annotations import (
    Annotation,
    Category,
    LabelledImage,
    LabelledSet,
    ReadOptions,
    Tally,
    vocabulary_categories,
)
from integrations.formats.validation import (
    LabelFileNames,
    Part,
    checked_images,
    names_by_id,
)
from integrations.formats.xml import attribute_text, leaf, parse_attribute, read_xml, start
from regionspot.errors import InputError
from regionspot.files import atomic_write, check_image_name

ANNOTATIONS, LISTS, IMAGES = "Annotations", "ImageSets", "JPEGImages"
# What VOC says of an object beside its box.
_PROPERTIES = ("pose", "truncated", "occluded", "difficult")
_HOLDS: frozenset[Part] = frozenset({"score"})


def write_voc(
    folder: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write `Annotations/` and `ImageSets/`; the images belong into `JPEGImages/`.

    See `registry.Writer`; `info`'s `description` becomes the source of each file.
    """
    tally, files = Tally() if tally is None else tally, LabelFileNames(folder, ".xml")
    names = names_by_id(folder, categories)
    source = str((info or {}).get("description", ""))
    with atomic_write(folder / LISTS / "Main" / "all.txt") as listed:
        for image in checked_images(folder, categories, images, tally, _HOLDS):
            file = files.name(image.file_name)
            listed.write(str(PurePosixPath(file).with_suffix("")) + "\n")
            with atomic_write(folder / ANNOTATIONS / file) as out:
                out.write("\n".join(_lines(image, names, source)) + "\n")
    return tally


def _lines(image: LabelledImage, names: Mapping[int, str], source: str) -> list[str]:
    lines = [
        "<annotation>",
        leaf("folder", IMAGES),
        leaf("filename", image.file_name),
        f"<source>{leaf('database', source)}</source>",
        f"<size>{leaf('width', image.width)}{leaf('height', image.height)}<depth>3</depth></size>",
        leaf("segmented", 0),
    ]
    for annotation in image.annotations:
        lines += [start("object"), leaf("name", names[annotation.category_id])]
        for name in _PROPERTIES:
            if name in annotation.attributes:
                lines.append(leaf(name, attribute_text(annotation.attributes[name])))
        if "difficult" not in annotation.attributes:
            lines.append(leaf("difficult", 0))
        if annotation.score is not None:
            lines.append(leaf("confidence", annotation.score))
        xmin, ymin, xmax, ymax = _whole_pixels(annotation, image)
        corners = leaf("xmin", xmin) + leaf("ymin", ymin) + leaf("xmax", xmax) + leaf("ymax", ymax)
        lines += [f"<bndbox>{corners}</bndbox>", "</object>"]
    return [*lines, "</annotation>"]


def _whole_pixels(annotation: Annotation, image: LabelledImage) -> tuple[int, int, int, int]:
    """First and last pixel in each direction, from 1; a box covers one pixel at least."""
    x1, y1, x2, y2 = annotation.box
    xmin, xmax = _span(x1, x2, image.width)
    ymin, ymax = _span(y1, y2, image.height)
    return xmin, ymin, xmax, ymax


def _span(low: float, high: float, side: int) -> tuple[int, int]:
    first, last = math.floor(low + 0.5), math.floor(high + 0.5)
    if last <= first:  # thinner than a pixel: the pixel that it begins in
        first = math.floor(low)
    first = min(max(first, 0), side - 1)
    return first + 1, max(first + 1, min(last, side))


def read_voc(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read the files below `Annotations/`, or below a folder without one; see `registry.Reader`.

    Ids are counted from 1, images in order of the files' names, categories as they appear.
    """
    root = path / ANNOTATIONS if (path / ANNOTATIONS).is_dir() else path
    files = sorted(root.rglob("*.xml"))
    if not files:
        raise InputError(f"{path} is no Pascal VOC: there is no XML file below {root}")
    category_ids: dict[str, int] = {}
    images = tuple(
        _image(file, number, folder, category_ids) for number, file in enumerate(files, start=1)
    )
    return LabelledSet(
        vocabulary_categories(tuple(category_ids)), images, Tally(strict=options.strict)
    )


def _image(
    file: Path, number: int, folder: Path | None, category_ids: dict[str, int]
) -> LabelledImage:
    root = read_xml(file)
    name = root.findtext("filename")
    if root.tag != "annotation" or name is None:
        raise InputError(f"{file} is no Pascal VOC: expected <annotation> with <filename>")
    check_image_name(name, folder, f"{file}: filename")
    width, height = (int(_number(file, root, f"size/{side}")) for side in ("width", "height"))
    annotations = tuple(_annotation(file, each, category_ids) for each in root.findall("object"))
    return LabelledImage(number, name, width, height, annotations)


def _annotation(file: Path, element: Element, category_ids: dict[str, int]) -> Annotation:
    name = element.findtext("name")
    if name is None:
        raise InputError(f"{file}: an object has no <name>")
    xmin, ymin, xmax, ymax = (
        _number(file, element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
    )
    if xmax < xmin - 1 or ymax < ymin - 1:
        raise InputError(f"{file}: {name!r} has a reversed box {xmin, ymin, xmax, ymax}")
    confidence = element.find("confidence")
    found = {key: element.findtext(key) for key in _PROPERTIES}
    attributes = {key: parse_attribute(text) for key, text in found.items() if text is not None}
    return Annotation(
        category_id=category_ids.setdefault(name, len(category_ids) + 1),
        box=(xmin - 1, ymin - 1, xmax, ymax),
        score=None if confidence is None else _number(file, element, "confidence"),
        attributes=attributes,
    )


def _number(file: Path, element: Element, tag: str) -> float:
    text = element.findtext(tag)
    try:
        value = float(text or "")
    except ValueError as error:
        raise InputError(f"{file}: <{tag}> must be a number, got {text!r:.40}") from error
    if not math.isfinite(value):
        raise InputError(f"{file}: <{tag}> must be finite, got {text!r:.40}")
    return value
