"""Boxes that a person or another detector gave, as the proposals of a run.

Axes: N boxes of one image, E classes of all boxes that have a score.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autolabel.evaluation.pairing import counted, match_images
from autolabel.options import BOXES_FROM_PYTHON, split_format
from autolabel.run.images import ImageRef, ImageSource
from integrations.annotations import (
    Annotation,
    LabelledImage,
    LabelledSet,
    Tally,
    as_rle,
    class_labels,
)
from integrations.detectors.base import one_class_scores
from integrations.fiftyone.dataset import load_detections, samples_with_detections
from integrations.fiftyone.labels import from_detection
from integrations.fiftyone.session import FIFTYONE_PREFIX
from integrations.formats.coco import read_coco, read_coco_results
from integrations.formats.json_stream import is_list
from integrations.formats.registry import FORMATS, Format, format_named, read_labels
from integrations.images import check_stated_size, find_images
from regionspot.boxes import FloatArray, as_boxes, clip_boxes
from regionspot.errors import InputError
from regionspot.types import Proposals, Rle

BoxesOfImages = Mapping[str, FloatArray]


@dataclass(frozen=True)
class GivenBox:
    """A box as it was given.

    Attributes:
        id: of the box.
        annotation: box, score and mask.
        name: of its class; empty where it has none.
    """

    id: str
    annotation: Annotation
    name: str = ""

    def values(self) -> list[object]:
        """What tells whether it was changed."""
        each = self.annotation
        return [self.id, each.box, each.score, each.mask, self.name]


# The boxes of an image of a width and height in pixels.
_Load = Callable[[int, int], Sequence[GivenBox]]


@dataclass(frozen=True)
class GivenImage:
    """What was given for one image.

    Attributes:
        proposals: N boxes inside the image, none of them empty, with scores and ids.
        masks: N run-length masks of the image's size; None where a box has none.
    """

    proposals: Proposals
    masks: tuple[Rle | None, ...]


@dataclass(frozen=True)
class GivenBoxes:
    """Boxes by image.

    Attributes:
        by_image: of those images of the run that have boxes.
        sha256: of all that was given for these images.
        contents: sha256 of what was given for each of these images.
        lines: what was paired, changed and left out, for the user.
        keep_score: whether a box's own score counts; False: each counts as 1.
        class_names: of the E classes.
    """

    by_image: Mapping[int, _Load] = field(repr=False)
    sha256: str
    contents: Mapping[int, str] = field(repr=False)
    lines: tuple[str, ...] = ()
    keep_score: bool = True
    class_names: tuple[str, ...] = ()

    def of(self, image: ImageRef, width: int, height: int) -> GivenImage:
        """The boxes of an image in the order in which they were given; of others none.

        Args:
            image: of the run.
            width: of the upright image, in pixels.
            height: of the upright image, in pixels.

        Raises:
            InputError: the boxes are those of an image of another size, or lie outside of it.
        """
        load = self.by_image.get(image.id)
        found = load(width, height) if load else ()
        boxes = clip_boxes(
            as_boxes([each.annotation.box for each in found]), width, height
        )  # (N, 4)
        boxes = np.round(boxes, 3)  # thousandths of a pixel survive every file format
        if ((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])).any():
            raise InputError(f"a box that was given has no pixel of the image, {width} x {height}")
        score = np.array([self._score(each.annotation) for each in found], np.float32)
        masks = tuple(
            None if mask is None else as_rle(mask, width, height)
            for mask in (each.annotation.mask for each in found)
        )
        proposals = Proposals(
            boxes,
            score,
            ids=tuple(each.id for each in found),
            class_names=self.class_names,
            class_scores=self._class_scores(found, score) if self.class_names else None,
        )
        return GivenImage(proposals, masks)

    def _class_scores(self, found: Sequence[GivenBox], score: FloatArray) -> FloatArray:
        """(N, E), NaN for a box without score or class: a person may have drawn it."""
        row = {name: index for index, name in enumerate(self.class_names)}
        class_id = np.array([row.get(each.name, -1) for each in found], np.int64)
        is_scored = np.array([each.annotation.score is not None for each in found], np.bool_)
        scores = np.full((len(found), len(row)), np.nan, np.float32)
        rows = np.flatnonzero(is_scored & (class_id >= 0))
        scores[rows] = one_class_scores(class_id[rows], score[rows], len(row))
        return scores

    def _score(self, annotation: Annotation) -> float:
        if annotation.score is None or not self.keep_score:
            return 1.0
        if not 0 <= annotation.score <= 1:
            raise InputError(
                f"the score of a box must be from 0 to 1, got {annotation.score}; --no-score "
                "leaves the scores out"
            )
        return annotation.score


def read_given_boxes(
    boxes: str | BoxesOfImages, source: ImageSource, coco: Path | None, keep_score: bool
) -> GivenBoxes:
    """Read boxes, and find their images among those of a run.

    Args:
        boxes: `fiftyone:FIELD` of the dataset that is labelled, the path of a label file or
            folder, `FORMAT:PATH`, or boxes (N, 4) xyxy by the path of the image.
        source: the images of the run.
        coco: the COCO JSON that lists these images, whose ids a list of results has.
        keep_score: whether a box's own score counts.

    Raises:
        InputError: the boxes cannot be read, or none is of an image of the run.
    """
    if isinstance(boxes, str) and boxes.startswith(FIFTYONE_PREFIX):
        return _of_field(boxes.removeprefix(FIFTYONE_PREFIX), source, keep_score)
    data = _read(boxes, source.root, coco) if isinstance(boxes, str) else _of_mapping(boxes)
    name = boxes if isinstance(boxes, str) else BOXES_FROM_PYTHON
    refs = [LabelledImage(each.id, each.file_name, 0, 0) for each in source.images]
    is_results = isinstance(boxes, str) and _is_results(Path(split_format(boxes)[1]))
    try:
        matches = match_images(refs, data.images, "id" if is_results else "name")
    except InputError as error:
        raise InputError(
            f"--boxes {name}: none of its images is labelled here, such as "
            f"{data.images[0].file_name!r}; name images alike, by path or unique file name"
        ) from error
    tally = Tally()
    tally.merge(data.tally)
    found: dict[int, _Load] = {}
    contents: dict[int, str] = {}
    names, scored = class_labels(data.categories), set[str]()
    for ref, image in zip(refs, matches.predicted, strict=True):
        if image is None:
            continue
        kept = _usable(image, name, names, tally)
        found[ref.id] = _loader(image, kept)
        contents[ref.id] = _sha256([image.width, image.height, [each.values() for each in kept]])
        scored |= {each.name for each in kept if each.annotation.score is not None}
    lines = [
        *counted("images without boxes", matches.without_predictions),
        *counted(
            "images of the boxes that are not labelled here",
            matches.without_ground_truth,
            f"; left out with {matches.left_out} boxes",
        ),
        *tally.lines(),
    ]
    class_names = tuple(names.values()) if scored and keep_score else ()
    return GivenBoxes(found, _sha256(contents), contents, tuple(lines), keep_score, class_names)


def content_with_boxes(
    source: ImageSource, image: ImageRef, boxes: GivenBoxes | None, all_bytes: bool
) -> str:
    """What an image's file and the boxes that were given for it are known by.

    Args:
        source: that lists the image.
        image: the image.
        boxes: that were given for the images.
        all_bytes: whether the hash of all bytes is part of it, which reads the whole file.
    """
    content = source.content(image)
    if boxes is not None:
        content = f"{content}-{boxes.contents.get(image.id, '')}"
    return f"{content} {source.sha256_of(image)}" if all_bytes else content


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _read(boxes: str, images: Path, coco: Path | None) -> LabelledSet:
    """Labels with the sizes of their images, which are those of the run where they have none."""
    name, path = split_format(boxes)[0], Path(split_format(boxes)[1])
    if not path.exists():
        raise InputError(f"--boxes: {path} is not there; give a label file or folder")
    if _is_results(path):
        if coco is None:
            raise InputError(
                f"--boxes: {path} is a list of results, which names images by id alone; give the "
                "COCO JSON that lists the images as DATASET"
            )
        return read_coco_results(path, read_coco(coco))
    folder = images if path.is_dir() and not find_images(path).images else None
    return read_labels(format_named(name) if name else _format_of(path), path, folder)


def _is_results(path: Path) -> bool:
    return path.suffix.lower() == ".json" and path.is_file() and is_list(path)


def _format_of(path: Path) -> Format:
    """The format of a label file or folder whose format was not said."""
    if path.is_file() and path.suffix.lower() == ".json":
        return FORMATS["coco"]
    found = [each for each in FORMATS.values() if (path / each.entries[0]).exists()]
    if not found:
        raise InputError(
            f"--boxes: the format of {path} is not clear; say FORMAT:{path}, with one of "
            f"{', '.join(name for name in FORMATS if name != 'fiftyone')}"
        )
    return found[0]


def _of_mapping(boxes: BoxesOfImages) -> LabelledSet:
    images = []
    for number, (path, rows) in enumerate(boxes.items(), start=1):
        try:
            values = as_boxes(rows)  # (N, 4)
        except InputError as error:
            raise InputError(f"boxes of {path}: {error}") from error
        found = tuple(Annotation(0, (x1, y1, x2, y2)) for x1, y1, x2, y2 in values.tolist())
        images.append(LabelledImage(number, Path(path).as_posix(), 0, 0, found))
    return LabelledSet((), tuple(images))


def _usable(
    image: LabelledImage, name: str, class_names: Mapping[int, str], tally: Tally
) -> list[GivenBox]:
    """The boxes of single objects; one without an id has its number."""
    kept = []
    for number, each in enumerate(image.annotations, start=1):
        if each.is_crowd:
            tally.leave_out("box", "of a crowd", f"{name}: {image.file_name}")
            continue
        box_id = str(number if each.id is None else each.id)
        kept.append(GivenBox(box_id, each, class_names.get(each.category_id, "")))
    return kept


def _loader(image: LabelledImage, kept: Sequence[GivenBox]) -> _Load:
    def load(width: int, height: int) -> Sequence[GivenBox]:
        check_stated_size((width, height), (image.width, image.height))
        return kept

    return load


def _of_field(name: str, source: ImageSource, keep_score: bool) -> GivenBoxes:
    """The boxes of a field of the FiftyOne dataset that is labelled."""
    if source.kind != "fiftyone":
        raise InputError(f"--boxes fiftyone:{name} needs a dataset fiftyone:NAME to label")
    wanted = {image.sample_id: image for image in source.images}
    found: dict[int, _Load] = {}
    contents: dict[int, str] = {}
    empty, scored = [], set[str]()
    view = load_detections(source.name, name).select_fields(name)
    for sample, detections in samples_with_detections(view, name):
        image = wanted.get(sample.id)
        if image is None:
            continue
        if not detections:
            empty.append(image.file_name)
        found[image.id] = _field_loader(detections)
        scored |= {each.label for each in detections if each.confidence is not None}
        rows = [
            [each.id, list(each.bounding_box), each.confidence, each.label] for each in detections
        ]
        contents[image.id] = _sha256(rows)
    lines = counted("images without boxes", empty)
    class_names = tuple(sorted(scored)) if keep_score else ()
    return GivenBoxes(found, _sha256(contents), contents, tuple(lines), keep_score, class_names)


def _field_loader(detections: Sequence[Any]) -> _Load:
    def load(width: int, height: int) -> Sequence[GivenBox]:
        return [
            GivenBox(
                str(each.id), Annotation(0, read.box, each.confidence, read.mask), each.label or ""
            )
            for each in detections
            for read in [from_detection(each, {each.label: 0}, width, height)]
        ]

    return load
