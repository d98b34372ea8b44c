"""What round trips through a format are compared with."""

import copy
import dataclasses
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from integrations.annotations import (
    Annotation,
    LabelledImage,
    LabelledSet,
    Polygons,
    area,
    as_rle,
)
from integrations.formats.registry import format_named, write_folder
from integrations.masks import box_outline
from regionspot.errors import InputError
from regionspot.types import Rle

Write = Callable[..., object]
BAD_XML = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
_HARD = re.compile("[^ \x21-\x7e\u00a1-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]")


def plain(data: LabelledSet) -> LabelledSet:
    """The set with names that XML can hold, that differ, and that are no hidden files."""

    def text(name: str) -> str:
        return _HARD.sub("_", name)

    def clean(values: dict[str, object]) -> dict[str, object]:
        return {k: text(v) if isinstance(v, str) else v for k, v in values.items()}

    categories = tuple(
        dataclasses.replace(each, name=f"{text(each.name)}{index}")
        for index, each in enumerate(data.categories)
    )
    images = []
    for image in data.images:
        parts = [f"ä{text(part)}ü" for part in image.file_name.split("/")]
        annotations = tuple(
            dataclasses.replace(each, attributes=clean(each.attributes), area=None)
            for each in image.annotations
        )
        images.append(
            dataclasses.replace(
                image,
                file_name="/".join([*parts[:-1], f"{parts[-1]}-{image.id}.png"]),
                annotations=annotations,
                attributes=clean(image.attributes),
            )
        )
    return LabelledSet(categories, tuple(images))


def blank(image: LabelledImage, path: Path) -> None:
    Image.new("1", (image.width, image.height)).save(path)


def through(name: str, data: LabelledSet) -> LabelledSet:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sub" / "über"
        format = format_named(name)
        write_folder(out, format, data.categories, data.images, {"model": "m"}, blank)
        for entry in (*format.entries, format.images):
            assert (out / entry).exists() or not data.images
        return format.read(out, out / format.images)


def names(data: LabelledSet) -> dict[int, str]:
    return {category.id: category.name for category in data.categories}


def assert_holds(
    found: LabelledSet,
    data: LabelledSet,
    keep: Callable[[Annotation], bool],
    pixels: float,
    compare: Callable[[Annotation, Annotation, LabelledImage], None],
) -> None:
    by_name = {image.file_name: image for image in found.images}
    assert len(by_name) == len(data.images)
    for image in data.images:
        one = by_name[image.file_name]
        assert (one.width, one.height) == (image.width, image.height)
        kept = [each for each in image.annotations if keep(each)]
        assert len(one.annotations) == len(kept)
        for label, expected in zip(one.annotations, kept, strict=True):
            assert names(found)[label.category_id] == names(data)[expected.category_id]
            assert label.box == pytest.approx(expected.box, abs=pixels)
            compare(label, expected, image)


def same_mask(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
    assert (label.mask is None) == (expected.mask is None)
    if label.mask is not None and expected.mask is not None:
        size = (image.width, image.height)
        assert as_rle(label.mask, *size) == as_rle(expected.mask, *size)


def number_labels(data: LabelledSet) -> LabelledSet:
    """With ids, counted over all images."""
    images, first = [], 1
    for image in data.images:
        numbered = tuple(
            dataclasses.replace(each, id=number)
            for number, each in enumerate(image.annotations, start=first)
        )
        first += len(numbered)
        images.append(dataclasses.replace(image, annotations=numbered))
    return LabelledSet(data.categories, tuple(images))


def assert_refused(folder: Path, format: str, file: str, content: str, message: str) -> None:
    """A file of a label set with this content is refused with one line that names it."""
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        format_named(format).read(folder, None)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def through_file(
    file: Path, write: Write, read: Callable[[Path], LabelledSet], data: LabelledSet
) -> LabelledSet:
    write(file, data.categories, iter(data.images))
    return read(file)


def as_read(
    image: LabelledImage, first_id: int, keep: Callable[[Annotation], bool] = lambda _: True
) -> LabelledImage:
    """The image as a reader gives it: ids counted, areas worked out, crowds as run lengths."""
    kept = [each for each in image.annotations if keep(each)]
    return dataclasses.replace(
        image,
        annotations=tuple(
            dataclasses.replace(
                each,
                id=number,
                area=area(each, image.width, image.height),
                mask=_mask_as_read(each, image),
            )
            for number, each in enumerate(kept, start=first_id)
        ),
    )


def _mask_as_read(each: Annotation, image: LabelledImage) -> Rle | Polygons | None:
    if not each.is_crowd or each.mask is None:
        return each.mask
    outline, mask = (
        as_rle(polygons, image.width, image.height)
        for polygons in ((box_outline(each.box),), each.mask)
    )
    return None if mask == outline else mask


def assert_same_image(found: LabelledImage, expected: LabelledImage) -> None:
    assert len(found.annotations) == len(expected.annotations)
    for one, other in zip(found.annotations, expected.annotations, strict=True):
        assert one.box == pytest.approx(other.box, abs=1e-4)
        assert dataclasses.replace(one, box=other.box) == other
    assert dataclasses.replace(found, annotations=expected.annotations) == expected


GOOD: dict[str, Any] = {
    "images": [{"id": 3, "file_name": "sub/a.jpg", "width": 4, "height": 2}],
    "annotations": [{"id": 8, "image_id": 3, "category_id": 1, "bbox": [0, 0, 2, 2]}],
    "categories": [{"id": 1, "name": "cat"}],
}


def written(tmp_path: Path, change: Callable[[Any], object]) -> Path:
    """A small COCO JSON that was changed."""
    top = copy.deepcopy(GOOD)
    change(top)
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(top))
    return path
