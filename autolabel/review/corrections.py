"""The reviewed images of a label field, found by a run folder or the name of a dataset."""

import dataclasses
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autolabel.options import LABEL_FIELD
from autolabel.review.app import complete_run
from autolabel.run.images import open_source
from autolabel.run.manifest import MANIFEST, Manifest
from autolabel.run.outputs import as_sample, label_field
from autolabel.run.shards import read_shards
from integrations.annotations import Tally
from integrations.fiftyone.dataset import LabelField, Sample
from integrations.fiftyone.review import (
    ReviewedImage,
    SeenLabel,
    read_seen,
    reviewed_image,
    run_folder_of,
)
from integrations.fiftyone.session import FIFTYONE_PREFIX, connect, load_dataset
from integrations.images import image_size
from regionspot.boxes import FloatArray
from regionspot.errors import InputError


@dataclass(frozen=True)
class FieldImage:
    """An image of the field's dataset, with its labels as they are now.

    Attributes:
        id: of the image in its run or dataset.
        path: absolute path.
        size: width and height of the upright image, in pixels.
        proposals: (P, 4) xyxy pixels of the run's proposals; None where the run is gone.
        labels: as FiftyOne has them.
        is_empty: whether a person verified that it has none.
    """

    id: int
    path: Path
    size: tuple[int, int]
    proposals: FloatArray | None
    labels: tuple[SeenLabel, ...] = ()
    is_empty: bool = False


@dataclass(frozen=True)
class Review:
    """A label field that a person reviews.

    Attributes:
        target: the field, its dataset and its run.
        run: folder of the run that wrote the field; None where that is gone or there was none.
        manifest: manifest of that run.
    """

    target: LabelField
    run: Path | None
    manifest: Manifest | None

    def images(self) -> Iterator[FieldImage]:
        """Every image that was not skipped, one after another."""
        for image, labels, is_empty in read_seen(self.target, self._without_labels()):
            yield dataclasses.replace(image, labels=labels, is_empty=is_empty)

    def _without_labels(self) -> Iterator[tuple[Sample, FieldImage]]:
        if self.run is None or self.manifest is None:
            source = open_source(f"{FIFTYONE_PREFIX}{self.target.dataset}")
            for ref in source.images:
                path = source.path(ref)
                yield Sample(path, ref.sample_id), FieldImage(ref.id, path, image_size(path), None)
            return
        for each in read_shards(self.run, self.manifest.shards):
            if not each.skipped:
                sample = as_sample(self.manifest, each.image)
                size = (each.width, each.height)
                yield sample, FieldImage(each.image.id, sample.path, size, each.proposals.boxes)


def find_review(source: str, run: str, field: str) -> Review:
    """Connect to FiftyOne, and find the label field that is reviewed.

    Args:
        source: a run folder, or the name of a FiftyOne dataset with or without `fiftyone:`.
        run: with a dataset: folder or key of the run that wrote the field; may be empty.
        field: with a dataset: the label field; empty: the run's, or else `predictions`.

    Raises:
        InputError: there is no such run, dataset or field.
    """
    if (Path(source) / MANIFEST).exists():
        if run or field:
            raise InputError(f"{source} is a run folder; --run and --label-field go with a dataset")
        return _of_run(Path(source))
    name = source.removeprefix(FIFTYONE_PREFIX)
    if run and (Path(run) / MANIFEST).exists():
        review = _of_run(Path(run))
        if review.target.dataset != name or field not in ("", review.target.field):
            raise InputError(
                f"{run} wrote {review.target.field!r} of the dataset {review.target.dataset!r}"
            )
        return review
    connect()
    load_dataset(name)
    target = LabelField(name, field or LABEL_FIELD, run)
    folder = run_folder_of(name, target.field, run)
    if folder is None or not (folder / MANIFEST).exists():
        return Review(target, None, None)
    return _of_run(folder)


def _of_run(folder: Path) -> Review:
    manifest = complete_run(folder)
    return Review(label_field(manifest), folder, manifest)


def count_left_out(image: FieldImage, tally: Tally) -> None:
    """Count the labels that are no region of a class."""
    for label in image.labels:
        x1, y1, x2, y2 = label.box
        if not label.word:
            tally.leave_out("label", "it has no class", str(image.path))
        elif min(x2, 1) <= max(x1, 0) or min(y2, 1) <= max(y1, 0):
            tally.leave_out("label", "its box has no area in the image", str(image.path))


def reviewed_images(
    review: Review, keep: int, seed: int, limit: int | None = None, tally: Tally | None = None
) -> list[ReviewedImage]:
    """All images with a reviewed label, and a random sample of the images that have proposals.

    The sample (reservoir sampling) does not depend on the review, so that it stays the same while
    a person continues. No more than these images are in memory.

    Args:
        review: whose label field is read.
        keep: maximum size of the sample.
        seed: of the sample.
        limit: number of the first images that are read; None: all.
        tally: counts the labels that cannot be trained on.
    """
    random_source = random.Random(seed)
    sample: list[ReviewedImage] = []
    reviewed: list[ReviewedImage] = []
    count = 0
    for each in itertools.islice(review.images(), limit):
        image = reviewed_image(each.id, each.path, each.size, each.labels, each.proposals)
        image = dataclasses.replace(image, is_empty=each.is_empty and len(image.proposals) > 0)
        if tally is not None:
            count_left_out(each, tally)
        if image.is_touched:
            reviewed.append(image)
        if not len(image.proposals):
            continue
        count += 1
        place = count - 1 if count <= keep else random_source.randrange(count)
        if place < keep:
            sample[place : place + 1] = [dataclasses.replace(image, sampled=True)]
    chosen = {image.id: image for image in reviewed} | {image.id: image for image in sample}
    return [chosen[id] for id in sorted(chosen)]
