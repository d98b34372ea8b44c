"""A run's labels in a FiftyOne dataset: its own label field, its registration, its views."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from integrations.annotations import LabelledImage
from integrations.fiftyone.labels import (
    REVIEWED,
    from_detection,
    is_accepted,
    is_reviewed,
    is_whole_reviewed,
    to_detections,
)
from integrations.fiftyone.session import load_dataset
from regionspot.errors import InputError

BATCH = 100
NEEDS_REVIEW, CONFIDENT, NOTHING_FOUND = "needs review", "confident", "nothing found"
_OWNER = "autolabel_run_folder"

Item = TypeVar("Item")


@dataclass(frozen=True)
class LabelField:
    """Where a run's labels are.

    Attributes:
        dataset: FiftyOne's name of it.
        field: of its samples.
        run_key: under which the run is registered with the dataset.
    """

    dataset: str
    field: str
    run_key: str


@dataclass(frozen=True)
class Sample:
    """An image of a dataset, known by FiftyOne's id of it or else by its absolute path."""

    path: Path
    sample_id: str = ""


def check_field_name(field: str) -> None:
    """Refuse what FiftyOne would not take as a field.

    Raises:
        InputError: it is no identifier, or begins with an underscore.
    """
    if not field.isidentifier() or field.startswith("_"):
        raise InputError(
            f"--label-field must be letters, digits and _, starting with a letter, got {field!r}"
        )


def free_dataset_name(name: str) -> str:
    """`name`, or `name-2`, `name-3` ... where FiftyOne has such a dataset already."""
    import fiftyone as fo
    from fiftyone.core.utils import to_slug

    try:
        to_slug(name)
    except ValueError:  # FiftyOne wants at least one plain letter or digit, and no endless name
        name = f"run {name[:100]}"
    taken = {to_slug(each) for each in fo.list_datasets()}
    return _first_free(name, "-", lambda candidate: to_slug(candidate) in taken)


def free_run_key(dataset: str, name: str) -> str:
    """An identifier made of `name` under which the dataset, if it is there, has no run yet."""
    key = "".join(each if each.isascii() and each.isalnum() else "_" for each in name)
    key = key if key.isidentifier() else f"run_{key}"
    taken = load_dataset(dataset).list_runs() if exists(dataset) else []
    return _first_free(key, "_", lambda candidate: candidate in taken)


def _first_free(name: str, mark: str, is_taken: Callable[[str], bool]) -> str:
    number, candidate = 1, name
    while is_taken(candidate):
        number += 1
        candidate = f"{name}{mark}{number}"
    return candidate


def has_field(dataset: str, field: str) -> bool:
    """Whether the samples of a dataset have a field of that name.

    Raises:
        InputError: there is no such dataset, or it does not hold images.
    """
    return bool(load_dataset(dataset).has_sample_field(field))


def make_dataset(name: str, run_folder: Path, resumed: bool = False) -> None:
    """Make a run's own dataset, persistent and empty; what an interrupted run left goes.

    Args:
        name: of the dataset.
        run_folder: absolute folder of the run.
        resumed: whether an earlier process of the run claimed the dataset and did not finish. It
            may have been killed before it could write down whose the dataset is.

    Raises:
        InputError: there is a dataset of that name which another run or a person made.
    """
    import fiftyone as fo
    import fiftyone.core.odm as foo

    if fo.dataset_exists(name):
        if not _is_own(name, run_folder, resumed):
            raise InputError(f"FiftyOne's dataset {name!r} is not this run's; rename one of them")
        try:
            fo.delete_dataset(name)
        except Exception:  # one that is half-made cannot be loaded
            foo.delete_dataset(name)
    dataset = fo.Dataset(name, persistent=True)
    dataset.info[_OWNER] = str(run_folder)
    dataset.save()


def _is_own(name: str, run_folder: Path, resumed: bool) -> bool:
    """Whether a dataset is the run's: it says so, or is half-made and was claimed by the run."""
    from fiftyone.core.odm import get_db_conn

    db = get_db_conn()
    record = db.datasets.find_one({"name": name}) or {}
    owner = (record.get("info") or {}).get(_OWNER)
    if owner is not None or not resumed:
        return bool(owner == str(run_folder))
    collection = record.get("sample_collection_name")
    return collection is None or db[collection].find_one() is None


def exists(dataset: str) -> bool:
    """Whether FiftyOne has a dataset of that name."""
    import fiftyone as fo

    return bool(fo.dataset_exists(dataset))


def add_labels(
    target: LabelField,
    images: Iterable[tuple[Sample, LabelledImage]],
    names: Sequence[str],
    provenance: Mapping[str, str],
    new_samples: bool,
    merge: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> None:
    """Write a run's labels into its field, batch by batch. A field of that name is deleted first.

    Args:
        target: the run's field.
        images: in order; those that the dataset does not hold any more are passed over.
        names: of category 1, 2, ...
        provenance: goes into each label.
        new_samples: whether the images are added to the dataset, or are in it already.
        merge: from the labels of samples that are there, by id, to those that are written; None:
            these.
    """
    import fiftyone as fo

    dataset = load_dataset(target.dataset)
    if dataset.has_run(target.run_key):  # what is registered is whole
        dataset.delete_run(target.run_key)
    if dataset.has_sample_field(target.field):
        dataset.delete_sample_field(target.field)
    dataset.add_sample_field(
        target.field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections
    )
    has_schema = False  # all labels have the same attributes
    for batch in in_batches(images):
        labels = [to_detections(image, names, provenance) for _, image in batch]
        if new_samples:
            samples = [
                new_sample(sample, image, target.field, detections)
                for (sample, image), detections in zip(batch, labels, strict=True)
            ]
            schema = {"expand_schema": not has_schema, "dynamic": not has_schema}
            dataset.add_samples(samples, batcher=False, progress=False, **schema)
            has_schema = has_schema or any(image.annotations for _, image in batch)
            continue
        ids = present_ids(dataset, [sample for sample, _ in batch])
        values = {
            ids[sample]: detections
            for (sample, _), detections in zip(batch, labels, strict=True)
            if sample in ids
        }
        if values:
            values = merge(values) if merge else values
            dataset.set_values(target.field, values, key_field="id", dynamic=True)


def new_sample(sample: Sample, image: LabelledImage, field: str, detections: Any) -> Any:
    """FiftyOne's sample of an image that a dataset does not hold yet, with its labels."""
    import fiftyone as fo

    metadata = fo.ImageMetadata(width=image.width, height=image.height)
    return fo.Sample(filepath=str(sample.path), metadata=metadata, **{field: detections})


def register_run(target: LabelField, config: Mapping[str, Any]) -> None:
    """Register the run with its dataset; `config` holds values that JSON can."""
    dataset = load_dataset(target.dataset)
    dataset.register_run(
        target.run_key,
        dataset.init_run(label_field=target.field, **config),
        overwrite=dataset.has_run(target.run_key),
    )


def holds_run(target: LabelField) -> bool:
    """Whether a run's field is there and the run registered, whenever it was started."""
    if not exists(target.dataset):
        return False
    dataset = load_dataset(target.dataset)
    return bool(dataset.has_run(target.run_key) and dataset.has_sample_field(target.field))


def is_registered(target: LabelField, started: str) -> bool:
    """Whether the run that was started then is registered with its dataset.

    Args:
        target: the run's field.
        started: value of the registered config of that name.
    """
    if not holds_run(target):
        return False
    dataset = load_dataset(target.dataset)
    return getattr(dataset.get_run_info(target.run_key).config, "started", None) == started


def save_views(
    target: LabelField,
    confidence: float,
    margin: float,
    confidences: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Save the views of a run.

    "needs review" holds the images with a label whose confidence or margin is below the given ones,
    least confident first; "confident" all other images with labels; "nothing found" those without.
    A label that a person drew, gave another class, or marked "reviewed" needs no review, nor does
    any of an image with the tag "reviewed".

    No view filters labels: where one does, the App's Annotate tab (FiftyOne 1.22) deletes from the
    dataset, at the first edit, all labels of the image that the view leaves out.

    Args:
        target: the run's field.
        confidence: below which a label needs review.
        margin: below which a label needs review.
        confidences: of words that have their own, in place of `confidence`; None: none has.

    Returns:
        The name of each view: a name that the dataset uses otherwise gets the field's added.
    """
    from fiftyone import ViewField as F

    dataset = load_dataset(target.dataset)
    by_model = F("predicted").exists() & (F("label") == F("predicted"))
    confidences = confidences or {}
    unsure = (F("margin") < margin) | (F("confidence") < confidence)
    if confidences:
        others = ~F("label").is_in(list(confidences))
        unsure = (F("margin") < margin) | ((F("confidence") < confidence) & others)
    for value in sorted(set(confidences.values())):
        words = [word for word, own in confidences.items() if own == value]
        unsure |= (F("confidence") < value) & F("label").is_in(words)
    is_marked = F("tags").contains(REVIEWED) | (F(REVIEWED) == True)  # noqa: E712
    of_marked_image = F("$tags").contains(REVIEWED)
    detections = F(f"{target.field}.detections")
    open_labels = detections.filter(by_model & unsure & ~is_marked & ~of_marked_image)
    views = {
        NEEDS_REVIEW: dataset.match(open_labels.length() > 0).sort_by(
            open_labels.map(F("confidence")).min()
        ),
        CONFIDENT: dataset.match((detections.length() > 0) & (open_labels.length() == 0)),
        NOTHING_FOUND: dataset.match(detections.length() == 0),
    }
    ours = registered_views(target)
    names = {}
    for name, view in views.items():
        is_theirs = dataset.has_saved_view(name) and ours.get(name) != name
        names[name] = f"{name} {target.field}" if is_theirs else name
        dataset.save_view(names[name], view, overwrite=True)
    return names


def save_selection(target: LabelField, name: str, samples: Sequence[Sample]) -> str:
    """Save a view of some samples in their order, whole, and return its name.

    The name gets the field's added, and a view that has it is replaced.
    """
    dataset = load_dataset(target.dataset)
    ids = present_ids(dataset, samples)
    view = dataset.select([ids[each] for each in samples if each in ids], ordered=True)
    name = f"{name} {target.field}"
    dataset.save_view(name, view, overwrite=True)
    return name


def registered_views(target: LabelField) -> dict[str, str]:
    """Name of each view that the run registered; empty where it is not registered."""
    dataset = load_dataset(target.dataset)
    if not dataset.has_run(target.run_key):
        return {}
    return dict(getattr(dataset.get_run_info(target.run_key).config, "views", {}))


def read_labels(
    target: LabelField,
    images: Iterable[tuple[Sample, LabelledImage]],
    category_ids: Mapping[str, int],
    only_reviewed: bool = False,
    only_accepted: bool = False,
) -> Iterator[LabelledImage]:
    """Images, given without labels, with their labels as they stand in FiftyOne now.

    Args:
        target: a field of detections.
        images: as `read_detections` takes them.
        category_ids: by name; `words_in_use` says which there are.
        only_reviewed: leave out the labels that nobody reviewed, and the images without a reviewed
            label that are not reviewed as a whole.
        only_accepted: as `only_reviewed`, and keep the accepted labels, too.

    Raises:
        InputError: the dataset is gone, or has no such field of detections.
    """
    for image, sample, detections in read_detections(target, images):
        whole = is_whole_reviewed(sample)
        if (only_reviewed or only_accepted) and not whole:
            detections = [
                each
                for each in detections
                if is_reviewed(each) or (only_accepted and is_accepted(each))
            ]
            if not detections:
                continue
        annotations = tuple(
            from_detection(each, category_ids, image.width, image.height) for each in detections
        )
        if whole:
            image = dataclasses.replace(image, attributes={**image.attributes, REVIEWED: True})
        if whole and not annotations:  # a person verified that none of the words is there
            image = dataclasses.replace(image, absent=tuple(category_ids.values()), unverified=())
        yield dataclasses.replace(image, annotations=annotations)


def words_in_use(target: LabelField) -> list[str]:
    """All class names of the field's labels, sorted.

    Raises:
        InputError: the dataset is gone, or has no such field of detections.
    """
    dataset = load_detections(target.dataset, target.field)
    return sorted(dataset.distinct(f"{target.field}.detections.label"))


def load_detections(name: str, field: str) -> Any:
    """FiftyOne's dataset of that name, checked to have a field of detections.

    Raises:
        InputError: there is no such dataset or field, or the field holds something else.
    """
    dataset = load_dataset(name)
    if not holds_detections(dataset, field):
        fields = ", ".join(dataset.get_field_schema())
        raise InputError(
            f"FiftyOne's dataset {name!r} has no field {field!r} of detections; "
            f"its fields are {fields}"
        )
    return dataset


def holds_detections(dataset: Any, field: str) -> bool:
    """Whether FiftyOne's dataset has a field of that name, of detections."""
    import fiftyone as fo

    return getattr(dataset.get_field(field), "document_type", None) is fo.Detections


def stored_size(sample: Any) -> tuple[int, int] | None:
    """Width and height that FiftyOne's metadata of a sample say; None where they say nothing."""
    metadata = sample.metadata
    return (metadata.width, metadata.height) if metadata is not None and metadata.width else None


def samples_with_detections(view: Any, field: str) -> Iterator[tuple[Any, Sequence[Any]]]:
    """Each of FiftyOne's samples of a view, and its detections in a field."""
    for sample in view.iter_samples():
        yield sample, sample[field].detections if sample[field] else ()


def read_detections(
    target: LabelField, images: Iterable[tuple[Sample, Item]]
) -> Iterator[tuple[Item, Any, Sequence[Any]]]:
    """FiftyOne's sample of each image and its detections, beside an item that goes with the image.

    Images that the dataset does not hold any more are passed over.

    Raises:
        InputError: the dataset is gone, or has no such field of detections.
    """
    dataset = load_detections(target.dataset, target.field)
    for batch in in_batches(images):
        ids = present_ids(dataset, [sample for sample, _ in batch])
        view = dataset.select(list(ids.values())).select_fields(target.field)
        found = {pair[0].id: pair for pair in samples_with_detections(view, target.field)}
        for sample, item in batch:
            if sample in ids:
                yield item, *found[ids[sample]]


def present_ids(dataset: Any, samples: Sequence[Sample]) -> dict[Sample, str]:
    """FiftyOne's id of each of these samples that the dataset holds."""
    if all(sample.sample_id for sample in samples):
        there = set(dataset.select([sample.sample_id for sample in samples]).values("id"))
        return {sample: sample.sample_id for sample in samples if sample.sample_id in there}
    paths, ids = dataset.select_by("filepath", [str(sample.path) for sample in samples]).values(
        ["filepath", "id"]
    )
    by_path = dict(zip(paths, ids, strict=True))
    return {sample: by_path[str(sample.path)] for sample in samples if str(sample.path) in by_path}


def samples_not_there(name: str, samples: Iterable[Sample]) -> list[Sample]:
    """Those of some samples that a dataset does not hold.

    Raises:
        InputError: there is no such dataset, or it does not hold images.
    """
    dataset, missing = load_dataset(name), []
    for batch in in_batches(samples):
        there = present_ids(dataset, batch)
        missing += [each for each in batch if each not in there]
    return missing


def in_batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items in lists of `BATCH` at most."""
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
