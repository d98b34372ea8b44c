"""Pascal VOC (host.robots.ox.ac.uk/pascal/VOC, development kit of 2012, section 5).

    Annotations/               an XML file for each image, with the image's sub-folders
    ImageSets/Main/all.txt     the images' names without suffix
    JPEGImages/                the images
    labelmap.txt               all classes, as CVAT and Datumaro write and want them

Corners are whole pixels, counted from 1, and the last pixel belongs to the box. There are no ids
and no masks, and crowd regions are left out. An XML file belongs to the image of its own place and
stem, whatever its `<filename>` says. Read are also outlines as Roboflow, LabelMe and supervision
write them (`<polygon>`), rotated boxes of roLabelImg (`<robndbox>`) and of CVAT (an attribute
`rotation`), and CVAT's `<attributes>`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
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
from integrations.formats.outlines import Outline, enclosing_box, parse_degrees, rotated_box
from integrations.formats.validation import (
    LabelFileNames,
    Part,
    checked_images,
    names_by_id,
)
from integrations.formats.xml import (
    attribute_text,
    leaf,
    name_problem,
    parse_attribute,
    read_xml,
    start,
)
from integrations.image_kinds import SUFFIXES
from integrations.images import find_images, image_size
from integrations.masks import LARGEST_COORDINATE
from regionspot.boxes import Box
from regionspot.errors import InputError
from regionspot.files import atomic_write, check_image_name, path_exists

ANNOTATIONS, LISTS, IMAGES = "Annotations", "ImageSets", "JPEGImages"
LABELMAP = "labelmap.txt"
_LABELMAP_HEAD = "# label:color_rgb:parts:actions"
_BACKGROUND = "background"  # CVAT's first label, which no object has
# Folders of masks as images, which are not read.
_MASKS = ("SegmentationObject", "SegmentationClass")
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
    """Write `Annotations/`, `ImageSets/` and `labelmap.txt`; the images belong into `JPEGImages/`.

    See `registry.Writer`; `info`'s `description` becomes the source of each file.
    """
    tally, files = Tally() if tally is None else tally, LabelFileNames(".xml")
    names = names_by_id(folder, categories)
    source = str((info or {}).get("description", ""))
    properties = frozenset(_PROPERTIES)
    with atomic_write(folder / LISTS / "Main" / "all.txt") as listed:
        checked = checked_images(
            folder,
            categories,
            images,
            tally,
            _HOLDS,
            properties,
            lambda image: files.problem(image.file_name) or name_problem(image.file_name),
        )
        for image in checked:
            file = files.name(image.file_name)
            listed.write(str(PurePosixPath(file).with_suffix("")) + "\n")
            with atomic_write(folder / ANNOTATIONS / file) as out:
                out.write("\n".join(_lines(image, names, source)) + "\n")
    with atomic_write(folder / LABELMAP) as out:
        out.write("\n".join(_labelmap(folder, tuple(names.values()), tally)) + "\n")
    return tally


def _labelmap(folder: Path, names: Sequence[str], tally: Tally) -> list[str]:
    """The lines of `labelmap.txt`, with the colours of VOC's own colour map."""
    lines = [_LABELMAP_HEAD]
    for number, name in enumerate(dict.fromkeys((_BACKGROUND, *names))):
        if ":" in name or name.startswith("#") or [name] != name.strip().splitlines():
            reason = "it cannot hold this name, which the objects keep"
            tally.leave_out("class of labelmap.txt", reason, f"{folder}: {name!r}")
            continue
        colour = [
            sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
            for channel in range(3)
        ]
        lines.append(f"{name}:{','.join(map(str, colour))}::")
    return lines


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


@dataclass
class _Set:
    """What all files of a set share.

    Attributes:
        root: folder of the XML files.
        folder: of the images, or where they are looked for.
        tally: counts what is changed and left out.
        category_ids: by name, in the order in which they appear.
    """

    root: Path
    folder: Path
    tally: Tally
    category_ids: dict[str, int] = field(default_factory=dict)


def read_voc(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read the files below `Annotations/`, or below a folder without one; see `registry.Reader`.

    Ids are counted from 1, images in order of the files' names, categories as `labelmap.txt` and
    then the objects name them. Where the images' folder is known, images without an XML file are
    counted as left out: nobody said that nothing is in them.
    """
    root = path / ANNOTATIONS if (path / ANNOTATIONS).is_dir() else path
    files = sorted(root.rglob("*.xml"))
    if not files:
        raise InputError(f"{path} is no Pascal VOC: there is no XML file below {root}")
    found = _Set(root, root if folder is None else folder, Tally(strict=options.strict))
    _read_labelmap(path / LABELMAP, found)
    images = tuple(_image(file, number, found) for number, file in enumerate(files, start=1))
    names: dict[str, Path] = {}
    for image, file in zip(images, files, strict=True):
        check_image_name(image.file_name, folder, f"{file}:")
        if (other := names.setdefault(image.file_name, file)) != file:
            raise InputError(f"{file} and {other} belong to one image, {image.file_name!r}")
    _count_the_rest(path, folder, names.keys(), found.tally)
    categories = vocabulary_categories(tuple(found.category_ids))
    return LabelledSet(categories, images, found.tally)


def _count_the_rest(path: Path, folder: Path | None, names: Iterable[str], tally: Tally) -> None:
    """Count images without an XML file, and masks that are files of their own."""
    if folder is not None and folder.is_dir():
        known = set(names)
        for file in find_images(folder, linked=True).images:
            if file.relative_to(folder).as_posix() not in known:
                tally.leave_out("image", "it has no XML file", str(file))
    for masks in (path / name for name in _MASKS):
        for file in sorted(masks.rglob("*.png")):
            tally.leave_out("mask", "masks as images are not read", str(file))


def _read_labelmap(file: Path, found: _Set) -> None:
    if not file.is_file():
        return
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8: {error.reason}; save it as UTF-8") from error
    for number, line in enumerate(lines, start=1):
        name, _, rest = line.strip().partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not name or "\0" in name:
            raise InputError(f"{file}: line {number}: expected label:color_rgb:parts:actions")
        if name != _BACKGROUND:
            found.category_ids.setdefault(name, len(found.category_ids) + 1)
        if any(part.strip() for part in rest.split(":")[1:]):
            reason = "classes have none here"
            found.tally.leave_out("parts and actions of a class", reason, f"{file}: line {number}")


def _image(file: Path, number: int, found: _Set) -> LabelledImage:
    root = read_xml(file)
    if root.tag != "annotation":
        raise InputError(f"{file} is no Pascal VOC: expected <annotation>, got <{root.tag[:40]}>")
    name = _file_name(file, root, found)
    width, height = (_side(file, root, f"size/{side}") for side in ("width", "height"))
    if not width or not height:
        if not (found.folder / name).is_file():
            raise InputError(
                f"{file}: <size> is missing, and so is {found.folder / name}, which would say it; "
                "give the folder of the images with --images"
            )
        width, height = image_size(found.folder / name)
    annotations = (_annotation(file, each, found) for each in root.findall("object"))
    kept = tuple(each for each in annotations if each is not None)
    return LabelledImage(number, name, width, height, kept)


def _file_name(file: Path, root: Element, found: _Set) -> str:
    """The image that a file is of: that of its own place and stem, where there is one."""
    stem = file.relative_to(found.root).with_suffix("")
    written = given = (root.findtext("filename") or "").strip()
    if PureWindowsPath(given).anchor:  # where the image was on the machine that wrote the file
        given = PureWindowsPath(given).name
    if given:
        check_image_name(given, None, f"{file}: filename")
    suffix = PurePosixPath(given).suffix
    own = PurePosixPath(f"{stem.as_posix()}{suffix}")
    check_image_name(own.as_posix(), None, f"{file}: filename")
    names = [own, *(own.parent / f"{stem.name}{each}" for each in sorted(SUFFIXES))]
    if given:
        names += [PurePosixPath(given), own.parent / PurePosixPath(given).name]
    fallback = own if given else own.with_name(f"{own.name}.jpg")
    name = next((each for each in names if path_exists(found.folder / each)), fallback)
    if written and written not in (name.as_posix(), name.name):
        reason = "the image of the XML file's own place and name is meant"
        found.tally.change("<filename>", reason, str(file))
    elif not written:
        found.tally.change("<filename>", "it is missing; the XML file's name counts", str(file))
    return name.as_posix()


def _annotation(file: Path, element: Element, found: _Set) -> Annotation | None:
    """An object; None where it is left out."""
    name = (element.findtext("name") or "").strip()
    if not name:
        found.tally.leave_out("label", "it has no <name>", str(file))
        return None
    parts = len(element.findall("part"))
    found.tally.leave_out("part of an object", "objects have none here", str(file), parts)
    known = {key: element.findtext(key) for key in _PROPERTIES}
    attributes = {key: parse_attribute(text) for key, text in known.items() if text is not None}
    for each in element.findall("attributes/attribute"):
        key = (each.findtext("name") or "").strip()
        if key:
            attributes.setdefault(key, parse_attribute(each.findtext("value") or ""))
    outlines = _outlines(file, element, found.tally)
    box = _bounding_box(file, element)
    degrees = parse_degrees(attributes.pop("rotation", None), str(file))
    if element.find("robndbox") is not None or (box is not None and degrees and not outlines):
        outlines = (_rotated(file, element, box, degrees),)
        box = None
        reason = "its outline and the box around it stand for its angle"
        found.tally.change("rotated box", reason, str(file))
    if box is None and outlines:
        box = enclosing_box(outlines)
    if box is None or box[2] < box[0] or box[3] < box[1]:
        reason = "it has no <bndbox>" if box is None else "its <bndbox> is reversed"
        found.tally.leave_out("label", reason, str(file))
        return None
    confidence = element.find("confidence")
    return Annotation(
        category_id=found.category_ids.setdefault(name, len(found.category_ids) + 1),
        box=box,
        score=None if confidence is None else _number(file, element, "confidence"),
        mask=outlines or None,
        attributes=attributes,
    )


def _bounding_box(file: Path, element: Element) -> Box | None:
    if element.find("bndbox") is None:
        return None
    xmin, ymin, xmax, ymax = (
        _number(file, element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
    )
    return xmin - 1, ymin - 1, xmax, ymax


def _rotated(file: Path, element: Element, box: Box | None, degrees: float) -> Outline:
    """The outline of roLabelImg's centre, size and angle in radians, or of CVAT's rotated box."""
    if element.find("robndbox") is None:
        assert box is not None, "the caller has one of the two"
        return rotated_box(box, degrees)
    x, y, width, height, angle = (
        _number(file, element, f"robndbox/{key}") for key in ("cx", "cy", "w", "h", "angle")
    )
    upright = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return rotated_box(upright, math.degrees(angle))


def _outlines(file: Path, element: Element, tally: Tally) -> tuple[Outline, ...]:
    """The polygons of an object, corners counted from 1 as those of its box."""
    outlines = []
    for polygon in element.findall("polygon"):
        values = {each.tag: each for each in polygon}
        if polygon.find("pt") is not None:  # LabelMe
            corners = [(each, "x", each, "y") for each in polygon.findall("pt")]
        else:  # x1, y1, x2, y2, ...
            numbers = [key[1:] for key in values if key[:1] == "x" and f"y{key[1:]}" in values]
            corners = [(polygon, f"x{number}", polygon, f"y{number}") for number in numbers]
        if len(corners) < 3:
            tally.leave_out("polygon", "it has fewer than three corners", str(file))
            continue
        outlines.append(
            tuple(
                _number(file, holder, key) - 1
                for x_of, x, y_of, y in corners
                for holder, key in ((x_of, x), (y_of, y))
            )
        )
    return tuple(outlines)


def _side(file: Path, root: Element, tag: str) -> int:
    """A side of the image; 0 where the file does not say."""
    if not (root.findtext(tag) or "").strip():
        return 0
    side = _number(file, root, tag)
    if not side.is_integer() or side < 0:
        raise InputError(f"{file}: <{tag}> must be a whole number of pixels, got {side}")
    return int(side)


def _number(file: Path, element: Element, tag: str) -> float:
    text = element.findtext(tag)
    try:
        value = float(text or "")
    except ValueError as error:
        raise InputError(f"{file}: <{tag}> must be a number, got {text!r:.40}") from error
    if not abs(value) <= LARGEST_COORDINATE:
        raise InputError(f"{file}: <{tag}> must be finite and near the image, got {text!r:.40}")
    return value
