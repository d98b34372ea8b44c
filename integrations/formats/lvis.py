"""LVIS's federated JSON (Gupta, Dollar, Girshick 2019, and lvisdataset.org, "Data format")."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from integrations.annotations import Category, LabelledImage, LabelledSet, ReadOptions, Tally
from integrations.formats.coco import Json, read_image_record, read_instances, write_instances
from integrations.formats.coco_annotations import read_annotation
from integrations.formats.json_stream import stream_records
from integrations.formats.validation import ALL_PARTS

# At most so many images (section 3.1 of the paper).
_RARE, _COMMON = 10, 100


def read_lvis(
    path: Path, folder: Path | None = None, options: ReadOptions = ReadOptions()
) -> LabelledSet:
    """Read an LVIS JSON, v0.5 or v1, whose images say what was verified; see `registry.Reader`."""
    return read_instances(path, folder, options, federated=True)


def stream_lvis(path: Path) -> Iterator[LabelledImage]:
    """The images of a file that `write_lvis` wrote, with their labels, in the memory of one.

    Raises:
        InputError: the file cannot be read or does not hold together, or its annotations do not
            follow the order of its images.
    """
    categories = {each.whole("id") for each in stream_records(path, ("categories",), "images")}
    tally = Tally(strict=True)
    records = stream_records(path, ("annotations",))
    record = next(records, None)
    for entry in stream_records(path, ("images",)):
        image, found = read_image_record(entry, None, federated=True), []
        while record is not None and record.values.get("image_id") == image.id:
            annotation = read_annotation(record, image, categories, tally)
            assert annotation is not None, "a strict tally leaves none out"
            found.append(dataclasses.replace(annotation, id=record.whole("id")))
            record = next(records, None)
        yield dataclasses.replace(image, annotations=tuple(found))
    if record is not None:
        record.refuse("annotations must follow the order of the images; write the file again")


def write_lvis(
    path: Path,
    categories: Sequence[Category],
    images: Iterable[LabelledImage],
    info: Mapping[str, object] | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write an LVIS JSON; see `registry.Writer`.

    LVIS has no crowd regions: they are left out, and their category becomes unverified in the
    image. Counts of images and instances are those of this file, and so is the frequency of a
    category that brings none.
    """
    tally = Tally() if tally is None else tally
    kept = _without_crowds(images, tally)
    return write_instances(path, categories, kept, info or {}, tally, ALL_PARTS, _image, _category)


def _without_crowds(images: Iterable[LabelledImage], tally: Tally) -> Iterator[LabelledImage]:
    for image in images:
        crowds = {each.category_id for each in image.annotations if each.is_crowd}
        if crowds:
            count = sum(each.is_crowd for each in image.annotations)
            place = f"image {image.file_name!r}"
            tally.leave_out("crowd region", "LVIS has none; its class is unverified", place, count)
            image = dataclasses.replace(
                image,
                annotations=tuple(each for each in image.annotations if not each.is_crowd),
                unverified=tuple(sorted(crowds.union(image.unverified))),
            )
        yield image


def _image(image: LabelledImage) -> Json:
    return {
        # Trainers for LVIS v1 find an image by this key; a bare name is a relative address.
        "coco_url": image.attributes.get("coco_url", image.file_name),
        "neg_category_ids": list(image.absent),
        "not_exhaustive_category_ids": list(image.unverified),
    }


def _category(category: Category, tally: Tally) -> Json:
    count = tally.images_with[category.id]
    return {
        "id": category.id,
        "name": category.name,
        "synonyms": [category.name, *category.synonyms],
        "synset": category.synset,
        "def": category.definition,
        "frequency": category.frequency or _frequency(count),
        "image_count": count,
        "instance_count": tally.instances_of[category.id],
        **({"supercategory": category.supercategory} if category.supercategory else {}),
        **category.extra,
    }


def _frequency(images: int) -> str:
    return "r" if images <= _RARE else "c" if images <= _COMMON else "f"
