"""`autolabel export`: labels as they stand after the review, in any format."""

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autolabel.convert import Exported, ImageMode, exported, image_placer
from autolabel.options import LABEL_FIELD
from autolabel.review.acceptance import accepted_numbers
from autolabel.review.app import complete_run
from autolabel.review.near_duplicates import near_duplicates
from autolabel.run.images import open_source
from autolabel.run.manifest import LVIS, Manifest, read_manifest
from autolabel.run.outputs import (
    as_sample,
    categories_of,
    file_info,
    label_field,
    thresholds_of,
)
from autolabel.run.shards import read_shards
from integrations.annotations import Category, LabelledImage
from integrations.fiftyone.dataset import LabelField, Sample, read_labels, words_in_use
from integrations.fiftyone.session import FIFTYONE_PREFIX, connect
from integrations.formats.lvis import stream_lvis
from integrations.formats.registry import Format, format_named, write_folder
from integrations.images import image_size
from integrations.split import Split, group_images, parse_shares
from integrations.vocabulary_file import WordList, read_words
from regionspot.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """The arguments of an export, as `autolabel.export` describes them.

    Attributes:
        source: a run folder, or `fiftyone:NAME`.
        min_confidence: of the labels of words without a threshold of their own.
        words: a vocabulary file, or its content, with thresholds of words; None: the run's.
        limit: number of the first images to write, of those that are selected; None: all.
    """

    source: str
    out: Path
    format: str = "coco"
    min_confidence: float = 0.0
    words: Path | WordList | None = None
    only_reviewed: bool = False
    only_accepted: bool = False
    images: ImageMode = "leave"
    label_field: str = LABEL_FIELD
    overwrite: bool = False
    limit: int | None = None
    split: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class _Labels:
    """Labels to write, iterated once, and the folder that file names are relative to.

    Attributes:
        thresholds: minimum confidence of each word with its own.
    """

    categories: tuple[Category, ...]
    images: Iterable[LabelledImage]
    info: Mapping[str, object]
    root: Path
    thresholds: Mapping[str, float] = field(default_factory=dict)


def _with_split(
    format: Format, shares: tuple[float, float, float], request: ExportRequest
) -> Format:
    """The format, which writes parts; images of a run that show the same are in one part."""
    if request.source.startswith(FIFTYONE_PREFIX):
        connect()
        source = open_source(request.source)
        groups = group_images([ref.file_name for ref in source.images], source.root)
    else:
        folder = Path(request.source)
        manifest = read_manifest(folder)
        names, alike = near_duplicates(read_shards(folder, manifest.shards))
        groups = group_images(names, Path(manifest.dataset["root"]), alike)
    return format.with_split(Split(shares, request.seed, groups))


def export_labels(request: ExportRequest) -> Exported:
    """Write the labels of a run or dataset as they stand.

    The ids of a run's words never change; words that only a person used get the ids after them.
    Without FiftyOne, the labels are those of the run's own files.

    Raises:
        InputError: no such run, dataset or format, or the export is there already.
    """
    format = format_named(request.format)
    if request.only_reviewed and request.only_accepted:
        raise InputError("--only-reviewed and --only-accepted exclude each other")
    if not 0 <= request.min_confidence <= 1:
        raise InputError(f"--min-confidence must be from 0 to 1, got {request.min_confidence}")
    if request.source.startswith(FIFTYONE_PREFIX):
        labels = _of_dataset(request)
    else:
        labels = _of_run(Path(request.source), request)
    if request.split is not None:
        format = _with_split(format, parse_shares(request.split), request)
    selected = request.only_reviewed or request.only_accepted
    confident = _confident(labels.images, _thresholds(request, labels), selected)
    images = itertools.islice(confident, request.limit)
    place = image_placer(request.images, labels.root)
    tally = write_folder(
        request.out, format, labels.categories, images, labels.info, place, request.overwrite
    )
    return exported(request.out, format, tally)


def _thresholds(request: ExportRequest, labels: _Labels) -> dict[int, float]:
    """The minimum confidence of a label of each category."""
    words = read_words(request.words) if isinstance(request.words, Path) else request.words
    own = labels.thresholds if words is None else words.own_thresholds()
    return {each.id: own.get(each.name, request.min_confidence) for each in labels.categories}


def _confident(
    images: Iterable[LabelledImage], lowest: Mapping[int, float], selected: bool
) -> Iterator[LabelledImage]:
    """The images without labels whose confidence is below the lowest one of their category.

    Of reviewed or accepted labels alone, an image that loses all its labels so is left out: it
    would stand for one that a person verified to be empty.
    """
    for image in images:
        kept = tuple(
            each
            for each in image.annotations
            if each.score is None or each.score >= lowest[each.category_id]
        )
        if kept or not (selected and image.annotations):
            yield dataclasses.replace(image, annotations=kept)


def _of_run(folder: Path, request: ExportRequest) -> _Labels:
    manifest = read_manifest(folder)
    root = Path(manifest.dataset["root"])
    accepted = accepted_numbers(folder, manifest) if request.only_accepted else None
    if manifest.is_complete and manifest.fiftyone is None and not request.only_reviewed:
        images: Iterable[LabelledImage] = stream_lvis(folder / LVIS)
        if accepted is not None:
            images = _accepted(images, accepted)
        categories, thresholds = categories_of(manifest), thresholds_of(manifest)
        return _Labels(categories, images, file_info(manifest), root, thresholds)
    manifest = complete_run(folder)
    target = label_field(manifest)
    categories = with_new_words(categories_of(manifest), words_in_use(target))
    ids = {category.name: category.id for category in categories}
    only = (request.only_reviewed, request.only_accepted)
    images = read_labels(target, empty_images(folder, manifest), ids, *only)
    return _Labels(categories, images, file_info(manifest), root, thresholds_of(manifest))


def _accepted(images: Iterable[LabelledImage], numbers: Collection[int]) -> Iterator[LabelledImage]:
    """The images with accepted labels, and these alone.

    Args:
        images: all of the run.
        numbers: of the accepted labels, counted from 1 over all images.
    """
    number = 0
    for image in images:
        kept = tuple(
            label
            for place, label in enumerate(image.annotations, start=number + 1)
            if place in numbers
        )
        number += len(image.annotations)
        if kept:
            yield dataclasses.replace(image, annotations=kept)


def _of_dataset(request: ExportRequest) -> _Labels:
    """All labels of a field of a FiftyOne dataset; category ids follow the words' alphabet."""
    connect()
    source = open_source(request.source)
    target = LabelField(source.name, request.label_field, "")
    categories = with_new_words((), words_in_use(target))
    words = tuple(category.id for category in categories)

    def empty() -> Iterator[tuple[Sample, LabelledImage]]:
        for ref in source.images:
            width, height = image_size(source.path(ref))
            image = LabelledImage(ref.id, ref.file_name, width, height, unverified=words)
            yield Sample(source.path(ref), ref.sample_id), image

    ids = {category.name: category.id for category in categories}
    images = read_labels(target, empty(), ids, request.only_reviewed, request.only_accepted)
    info = {"description": f"FiftyOne dataset {source.name}, field {request.label_field}"}
    return _Labels(categories, images, info, source.root)


def with_new_words(categories: tuple[Category, ...], words: list[str]) -> tuple[Category, ...]:
    """The run's categories, and after them the words that only a person used."""
    known = {category.name for category in categories}
    new = [word for word in words if word not in known]
    return categories + tuple(
        Category(number, word) for number, word in enumerate(new, start=len(categories) + 1)
    )


def empty_images(folder: Path, manifest: Manifest) -> Iterator[tuple[Sample, LabelledImage]]:
    """The images that the run labelled, without labels.

    A review corrects labels and does not search for every word, so all words stay unverified.
    """
    words = tuple(range(1, len(manifest.vocabulary["words"]) + 1))
    for each in read_shards(folder, manifest.shards):
        if not each.skipped:
            ref = each.image
            image = LabelledImage(ref.id, ref.file_name, each.width, each.height, unverified=words)
            yield as_sample(manifest, ref), image
