"""Example regions of words: what `@` of a vocabulary file names, as regions of the model."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autolabel.run.manifest import COCO, MANIFEST, Manifest, read_complete
from autolabel.run.shards import read_shards
from integrations.fiftyone.examples import labelled_boxes
from integrations.fiftyone.session import FIFTYONE_PREFIX
from integrations.formats.coco import read_coco
from integrations.formats.registry import format_named, read_labels
from integrations.images import check_stated_size, find_images, image_size, read_image
from integrations.vocabulary_file import WordList
from regionspot.boxes import FloatArray, box_iou, relative_to_pixels
from regionspot.errors import InputError
from regionspot.examples.classes import ExampleRegions
from regionspot.model import RegionModel
from regionspot.names import name_key
from regionspot.types import Regions
from regionspot.weights import sha256_of

LABEL_MARK = "#"
SAME_BOX = 0.99  # IoU of a label with the region it was made of
_IN_FIFTYONE = re.compile(rf"{FIFTYONE_PREFIX}(.+?)/(\w+)=(.+)")  # dataset, field, label
_SHA256_DIGITS = 64

WordsWithExamples = dict[str, list[str] | ExampleRegions]


@dataclass(frozen=True)
class StoredExamples:
    """Examples that are regions of a run already.

    Attributes:
        regions: by word.
        sha256: of the words and of which regions they are.
    """

    regions: Mapping[str, Sequence[Regions]]
    sha256: str

    @property
    def counts(self) -> dict[str, int]:
        """Number of examples by word."""
        return {
            word: sum(len(each.embedding) for each in regions)
            for word, regions in self.regions.items()
        }


def words_with_examples(
    words: WordList, model: RegionModel, stored: StoredExamples | None = None
) -> WordsWithExamples:
    """Words as `RegionSpot.vocabulary` takes them, each reference replaced by its regions.

    A word whose examples are stored ones alone keeps its text.

    Args:
        words: with their references.
        model: computes the regions of references.
        stored: further examples; None: there are none.

    Raises:
        InputError: a reference that names nothing usable.
    """
    mapping: WordsWithExamples = {}
    for name, strings in words.as_mapping().items():
        references = words.references_of(name)
        regions = [each for reference in references for each in _regions(name, reference, model)]
        regions += stored.regions.get(name, ()) if stored else ()
        if not regions:
            mapping[name] = strings
            continue
        has_text = len(strings) > 1 or not references
        mapping[name] = ExampleRegions(regions, strings if has_text else ())
    return mapping


def examples_sha256(words: WordList) -> str:
    """Of the content of all examples; empty where there are none.

    Raises:
        InputError: a reference names nothing.
    """
    if not any(words.examples):
        return ""
    digest = hashlib.sha256()
    for references in words.examples:
        for reference in references:
            for path in _files(reference):
                digest.update(sha256_of(path).encode())
            if reference.startswith(FIFTYONE_PREFIX):
                for path, boxes in _in_fiftyone(reference):
                    digest.update(sha256_of(path).encode())
                    digest.update(boxes.tobytes())
    return digest.hexdigest()


def are_in_fiftyone(words: WordList) -> bool:
    """Whether any examples are labels of a FiftyOne dataset, which has to be connected to."""
    return any(
        each.startswith(FIFTYONE_PREFIX) for references in words.examples for each in references
    )


def _files(reference: str) -> list[Path]:
    """The files that decide the examples of a reference; of a dataset's labels, none."""
    if reference.startswith(FIFTYONE_PREFIX):
        return []
    run, _, label = reference.rpartition(LABEL_MARK)
    if label and run and (Path(run) / MANIFEST).exists():
        return [Path(run) / COCO]
    folder = _folder(reference)
    labels = _labels_file(folder)
    images = [folder / path for path in find_images(folder).images]
    return [*([labels] if labels else []), *images]


def _regions(name: str, reference: str, model: RegionModel) -> list[Regions]:
    if reference.startswith(FIFTYONE_PREFIX):
        return _regions_of(_in_fiftyone(reference), model)
    run, _, label = reference.rpartition(LABEL_MARK)
    if run and label and (Path(run) / MANIFEST).exists():
        return list(_run_regions(Path(run), label, model))
    folder = _folder(reference)
    labels = _labels_file(folder)
    found = list(_labelled(folder, labels, name) if labels else _crops(folder))
    if not found:
        what = f"no box of {name!r} in {labels}" if labels else f"no image in {folder}"
        raise InputError(f"@{reference}: {what}; give at least one example")
    return _regions_of(found, model)


def _regions_of(examples: Iterable[tuple[Path, FloatArray]], model: RegionModel) -> list[Regions]:
    """The regions of boxes (n, 4) in each image, one image in memory at a time."""
    return [model.regions([read_image(path)], [boxes])[0] for path, boxes in examples]


def _in_fiftyone(reference: str) -> Iterator[tuple[Path, FloatArray]]:
    """Each image of a FiftyOne dataset that has labels of a class, with their pixel boxes."""
    match = _IN_FIFTYONE.fullmatch(reference)
    if match is None:
        raise InputError(f"@{reference}: expected {FIFTYONE_PREFIX}DATASET/FIELD=LABEL")
    dataset, field, label = match.groups()
    for path, boxes in labelled_boxes(dataset, field, label):
        yield path, relative_to_pixels(boxes, *image_size(path)).astype(np.float32)


def _folder(reference: str) -> Path:
    folder = Path(reference)
    if not folder.is_dir():
        raise InputError(
            f"@{reference}: expected a folder of example images, or RUN{LABEL_MARK}LABEL with the "
            "folder of a complete run; there is none of that name"
        )
    return folder


def _labels_file(folder: Path) -> Path | None:
    """The COCO JSON of a folder of images, of which there may be one."""
    files = sorted(folder.glob("*.json"))
    if len(files) > 1:
        raise InputError(f"{folder} must hold one labels file, got {len(files)} JSON files")
    return files[0] if files else None


def _crops(folder: Path) -> Iterator[tuple[Path, FloatArray]]:
    """Each image with one box, the whole of it."""
    for relative in find_images(folder).images:
        height, width = read_image(folder / relative).shape[:2]
        yield folder / relative, np.array([[0, 0, width, height]], np.float32)


def _labelled(folder: Path, labels: Path, name: str) -> Iterator[tuple[Path, FloatArray]]:
    """Each image that has boxes of a class, with these."""
    data = read_labels(format_named("coco"), labels, folder)
    wanted = {each.id for each in data.categories if name_key(each.name) == name_key(name)}
    for image in data.images:
        boxes = [each.box for each in image.annotations if each.category_id in wanted]
        if boxes:
            path = next(
                (p for p in (folder / image.file_name, folder / "images" / image.file_name)
                 if p.exists()),
                folder / image.file_name,
            )  # fmt: skip
            check_stated_size(image_size(path), (image.width, image.height), path)
            yield path, np.array(boxes, np.float32)


def _run_regions(folder: Path, label: str, model: RegionModel) -> Iterator[Regions]:
    """The stored regions of a run's labels of one word, without a tower."""
    manifest = read_complete(folder)
    check_same_weights(model, manifest)
    data = read_coco(folder / COCO)
    wanted = {each.id for each in data.categories if each.name == label}
    if not wanted:
        words = ", ".join(each.name for each in data.categories)
        raise InputError(f"@{folder}{LABEL_MARK}{label}: the run has no such word, only {words}")
    boxes: dict[int, list[tuple[float, float, float, float]]] = defaultdict(list)
    for image in data.images:
        boxes[image.id] += [e.box for e in image.annotations if e.category_id in wanted]
    if not any(boxes.values()):
        raise InputError(f"@{folder}{LABEL_MARK}{label}: the run has no label of that word")
    for each in read_shards(folder, manifest.shards):
        if each.skipped or not boxes[each.image.id]:
            continue
        iou = box_iou(np.array(boxes[each.image.id], np.float32), each.proposals.boxes)  # (n, N)
        rows = np.unique(iou.argmax(1)[iou.max(1) >= SAME_BOX])
        yield each.regions.select(rows.tolist())


def check_same_weights(model: RegionModel, source: Manifest) -> None:
    """Refuse a model whose embeddings are not those that were stored.

    Raises:
        InputError: names the weights that differ.
    """
    changed = [
        name
        for name, value in model.provenance().items()
        if len(value) == _SHA256_DIGITS and source.model.get(name) != value
    ]
    if changed:
        raise InputError(
            f"the regions were made with other weights ({', '.join(changed)}); run `autolabel run`"
        )
