"""What a person did to the labels that a run is about to replace: counted first, and kept."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autolabel.run.images import ImageRef, open_source
from autolabel.run.manifest import (
    COCO,
    LVIS,
    FiftyOneTarget,
    Manifest,
    in_fiftyone,
    read_manifest,
)
from autolabel.run.outputs import as_sample, label_field
from autolabel.run.shards import read_shards
from integrations.annotations import Category, LabelledImage
from integrations.fiftyone.carrying import ReviewedLabels
from integrations.fiftyone.changes import Changes, changes_of_field, samples_by_id
from integrations.fiftyone.dataset import (
    LabelField,
    Sample,
    exists,
    holds_detections,
    is_registered,
    read_detections,
    stored_size,
    words_in_use,
)
from integrations.fiftyone.labels import REVIEWED, from_detection, get_value, is_confirmed
from integrations.fiftyone.review import run_folder_of
from integrations.fiftyone.session import FIFTYONE_PREFIX, load_dataset
from integrations.formats.coco import read_coco, write_coco
from integrations.formats.lvis import read_lvis
from integrations.images import image_size
from integrations.progress import Reporter
from regionspot.errors import InputError
from regionspot.files import atomic_write

Written = dict[str, LabelledImage] | None  # by sample id


@dataclasses.dataclass(frozen=True)
class EarlierReview:
    """The fields of a dataset that a run replaces, and what a person did there.

    Attributes:
        folder: of the run.
        dataset: FiftyOne's name of it.
        fields: those that are replaced.
        changes: over all of them.
        uncounted: why the labels that a person edited or deleted are not in `changes`; else empty.
    """

    folder: Path
    dataset: str
    fields: tuple[str, ...] = ()
    changes: Changes = dataclasses.field(default_factory=Changes)
    uncounted: str = ""

    def refuse(self) -> None:
        """Refuse to replace what a person did.

        Raises:
            InputError: they did something, or that is not known.
        """
        found = "; ".join(filter(None, (str(self.changes), self.uncounted)))
        if found:
            raise InputError(
                f"FiftyOne's dataset {self.dataset!r} holds a review of {', '.join(self.fields)}: "
                f"{found}; say --discard-review to replace it (the labels as they are now are kept "
                f"in {self.folder} then), or choose another --out or --label-field"
            )

    def keep(self) -> list[Path]:
        """Write the labels as they stand into the run folder, under the first free number.

        Returns:
            The files; none where a person did nothing.
        """
        if not self.changes and not self.uncounted:
            return []
        number = 1
        while any(self.folder.glob(f"before-{number}.*")):
            number += 1
        return [self._keep_field(field, f"before-{number}.{field}") for field in self.fields]

    def _keep_field(self, field: str, name: str) -> Path:
        dataset = load_dataset(self.dataset)
        if holds_detections(dataset, field):
            return self._keep_labels(LabelField(self.dataset, field, ""), name)
        path = self.folder / f"{name}.jsonl"
        with atomic_write(path) as out:
            for sample in dataset.select_fields(field).iter_samples():
                out.write(sample.to_json() + "\n")
        return path

    def _keep_labels(self, target: LabelField, name: str) -> Path:
        words = enumerate(words_in_use(target), start=1)
        categories = tuple(Category(number, word) for number, word in words)
        path = self.folder / f"{name}.coco.json"
        info = {"description": f"FiftyOne dataset {target.dataset}, field {target.field}"}
        write_coco(path, categories, _labels_now(target, categories), info)
        return path


def keep_review(earlier: EarlierReview | None, reporter: Reporter) -> None:
    """Keep the labels of an earlier review, and say where."""
    for path in earlier.keep() if earlier else ():
        reporter.message(f"the labels as a person left them: {path}")


def check_review(
    folder: Path,
    target: FiftyOneTarget | None,
    resumed: Manifest | None,
    owns_dataset: bool,
    discard: bool,
) -> EarlierReview | None:
    """What a person did to the labels that a run replaces; None where it replaces none.

    Args:
        folder: of the run.
        target: where it is going to write; None: into files alone.
        resumed: the manifest of the run that is resumed, which writes what is missing alone.
        owns_dataset: whether all of the dataset is replaced, or the field alone.
        discard: whether what a person did may be replaced.

    Raises:
        InputError: it may not, and there is something.
    """
    if target is None:
        return None
    is_same = resumed is not None and resumed.fiftyone == target
    if resumed and is_same and is_registered(label_field(resumed), resumed.started):
        return None
    earlier = find_review(folder, target, owns_dataset)
    if not discard:
        earlier.refuse()
    return earlier


def find_review(folder: Path, target: FiftyOneTarget, owns_dataset: bool) -> EarlierReview:
    """What a person did to the labels that a run replaces.

    Args:
        folder: of the run.
        target: where it is going to write.
        owns_dataset: whether all of the dataset is replaced, or the field alone.
    """
    if not exists(target.dataset):
        return EarlierReview(folder, target.dataset)
    import fiftyone as fo
    from fiftyone import ViewField as F

    dataset, changes, uncounted = load_dataset(target.dataset), Changes(), []
    fields = [each for each in dataset.get_field_schema() if each == target.label_field]
    if owns_dataset:
        changes.images = len(dataset.match(F("tags").length() > 0))
        by_fiftyone = fo.Sample("").field_names
        fields = [each for each in dataset.get_field_schema() if each not in by_fiftyone]
    for field in fields:
        run = _run_that_wrote(folder, target.dataset, field)
        written: Written = None
        names: dict[int, str] = {}
        try:
            if run is not None:
                written, names = _written(target.dataset, run)
        except InputError as error:
            uncounted.append(f"labels edited or deleted cannot be counted ({error})")
        source = _carried_from(run) if run is not None else ""
        place = LabelField(target.dataset, field, "")
        changes.add(changes_of_field(place, written, names, source))
    return EarlierReview(folder, target.dataset, tuple(fields), changes, "; ".join(uncounted))


def reviewed_labels(manifest: Manifest, reporter: Reporter) -> ReviewedLabels | None:
    """What a person reviewed in the run that a run's labels stand beside, to be carried over.

    Args:
        manifest: of the run that is going to write.
        reporter: is told what cannot be known.

    Returns:
        None where nothing is to be carried over.

    Raises:
        InputError: the other run is gone, or has no labels in FiftyOne.
    """
    if not manifest.carry_reviewed:
        return None
    folder = Path(manifest.into or manifest.regions_of)
    target = label_field(in_fiftyone(folder))
    written: Written = None
    names: dict[int, str] = {}
    try:
        written, names = _written(target.dataset, folder)
    except InputError as error:
        reporter.message(f"labels that were moved or deleted there are not known ({error})")
    options = manifest.options
    return ReviewedLabels(target, written, names, options.iou, options.containment)


def note_tagged(dataset: str, reporter: Reporter) -> None:
    """Say how many images are reviewed as a whole, which counts for every field of a dataset."""
    import fiftyone as fo

    if tagged := len(fo.load_dataset(dataset).match_tags(REVIEWED)):
        reporter.message(
            f"{tagged} images have the tag 'reviewed', which counts for all label fields: say "
            "--carry-reviewed to have their reviewed labels in the new one"
        )


def _run_that_wrote(folder: Path, dataset: str, field: str) -> Path | None:
    """This run's folder, wherever it was moved to, or that of the run registered for the field."""
    try:
        last = read_manifest(folder).fiftyone
    except InputError:
        last = None
    if last and (last.dataset, last.label_field) == (dataset, field):
        return folder
    return run_folder_of(dataset, field)


def _carried_from(run: Path) -> str:
    """The field whose reviewed labels a run carries over; empty: none, or it is gone."""
    try:
        manifest = read_manifest(run)
        if not manifest.carry_reviewed:
            return ""
        return label_field(in_fiftyone(Path(manifest.into or manifest.regions_of))).field
    except InputError:
        return ""


def _written(dataset: str, run: Path) -> tuple[Written, dict[int, str]]:
    """The labels that a run wrote, and its classes' names; None where it is not complete.

    Raises:
        InputError: its folder, or one of its files, is gone or cannot be read.
    """
    manifest = read_manifest(run)
    if not manifest.is_complete:
        return None, {}
    try:
        data = read_coco(run / COCO)
    except InputError:
        data = read_lvis(run / LVIS)
    images = {image.id: image for image in data.images}
    root = Path(manifest.dataset["root"])
    samples = [(Sample(root / image.file_name), image) for image in data.images]
    if manifest.dataset["kind"] == "fiftyone":
        samples = [
            (as_sample(manifest, each.image), images[each.image.id])
            for each in read_shards(run, manifest.shards)
            if each.image.id in images
        ]
    return samples_by_id(dataset, samples), {each.id: each.name for each in data.categories}


def _labels_now(target: LabelField, categories: tuple[Category, ...]) -> Iterator[LabelledImage]:
    """The images of a dataset with the labels of a field, their tags and predicted classes."""
    ids = {category.name: category.id for category in categories}
    source = open_source(f"{FIFTYONE_PREFIX}{target.dataset}")
    refs = ((Sample(source.path(ref), ref.sample_id), ref) for ref in source.images)
    for ref, sample, detections in read_detections(target, refs):
        yield _image_now(ref, sample, detections, ids)


def _image_now(ref: ImageRef, sample: Any, detections: Any, ids: dict[str, int]) -> LabelledImage:
    width, height = stored_size(sample) or image_size(Path(sample.filepath))
    annotations = []
    for each in detections:
        annotation = from_detection(each, ids, width, height)
        said = {
            "predicted": get_value(each, "predicted"),
            "reviewed": is_confirmed(each),
            "tags": ", ".join(each.tags or ()),
        }
        attributes = {**annotation.attributes, **said}
        annotations.append(dataclasses.replace(annotation, attributes=attributes))
    tags = {"tags": ", ".join(sample.tags)} if sample.tags else {}
    return LabelledImage(ref.id, ref.file_name, width, height, tuple(annotations), attributes=tags)
