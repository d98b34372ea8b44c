"""`autolabel export`: the labels of a run as they stand in FiftyOne."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autolabel.outputs import as_sample, categories_of, file_info, label_field
from autolabel.regions import read_shards
from autolabel.review import complete_run
from autolabel.run_folder import COCO, LVIS, Manifest
from integrations.fiftyone_dataset import Sample, read_labels, words_in_use
from integrations.formats.coco import write_coco
from integrations.formats.json_writer import Tally
from integrations.formats.labels import Category, LabelledImage
from integrations.formats.lvis import write_lvis
from regionspot.errors import InputError

FORMATS: dict[str, tuple[str, Callable[..., Tally]]] = {
    "coco": (COCO, write_coco),
    "lvis": (LVIS, write_lvis),
}


@dataclass(frozen=True)
class Exported:
    """A file of labels."""

    path: Path
    images: int
    annotations: int


def export_labels(folder: Path, format: str, out: Path, overwrite: bool = False) -> Exported:
    """Write labels after the review. Nobody's edits change a word's id; new words follow.

    Args:
        folder: the run folder.
        format: `coco` or `lvis`.
        out: folder for the file, which takes its name once it is complete.
        overwrite: whether a file that is there is replaced.

    Raises:
        InputError: no such run or format, the dataset is gone, or the file is there.
    """
    if format not in FORMATS:
        raise InputError(f"--format must be one of {', '.join(FORMATS)}, got {format!r}")
    file_name, write = FORMATS[format]
    path = out / file_name
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already; choose another --out, or say --overwrite")
    manifest = complete_run(folder)
    target = label_field(manifest)
    categories = with_new_words(categories_of(manifest), words_in_use(target))
    ids = {category.name: category.id for category in categories}
    images = read_labels(target, empty_images(folder, manifest), ids)
    tally = write(path, categories, images, file_info(manifest))
    return Exported(path, tally.images, tally.annotations)


def with_new_words(categories: tuple[Category, ...], words: list[str]) -> tuple[Category, ...]:
    """The run's categories, and after them the words that only a person used."""
    known = {category.name for category in categories}
    new = [word for word in words if word not in known]
    return categories + tuple(
        Category(number, word) for number, word in enumerate(new, start=len(categories) + 1)
    )


def empty_images(folder: Path, manifest: Manifest) -> Iterator[tuple[Sample, LabelledImage]]:
    """The images that the run labelled, without labels.

    A person who reviewed an image looked at what was labelled, not for every word there is, so
    all words stay unverified.
    """
    words = tuple(range(1, len(manifest.vocabulary["words"]) + 1))
    for each in read_shards(folder, manifest.shards):
        if not each.skipped:
            ref = each.image
            image = LabelledImage(ref.id, ref.file_name, each.width, each.height, unverified=words)
            yield as_sample(manifest, ref), image
