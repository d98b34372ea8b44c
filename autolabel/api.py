"""The tool from Python: `label`, `relabel` and `export`, with the options of the command line.

Axes: N labels of one image, H W rows and columns of the image.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import supervision as sv

from autolabel.convert import Exported, ImageMode
from autolabel.options import LABEL_FIELD, Options
from autolabel.review.export import ExportRequest, export_labels
from autolabel.run.manifest import COCO, Manifest
from autolabel.run.pipeline import run as run_request
from autolabel.run.plan import RunRequest
from autolabel.run.relabel import RelabelRequest
from autolabel.run.relabel import relabel as relabel_request
from integrations.annotations import Annotation, LabelledSet, as_rle
from integrations.formats.coco import read_coco
from integrations.progress import NullReporter, Reporter
from integrations.vocabulary_file import WordList, word_list
from regionspot.types import Rle, decode_mask

PathLike = str | os.PathLike[str]
Words = PathLike | Sequence[str] | Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class LabelRow:
    """One label of a run.

    Attributes:
        file_name: of the image, relative to the images' folder.
        word: the best word.
        score: confidence in [0, 1], the detector's score times the word's probability.
        box: x1, y1, x2, y2 in pixels of the upright image.
        runner_up: the second-best word.
        margin: probability of the best word minus that of the second-best, in [0, 1].
        presence: of the word, in [0, 1]; does not depend on the other words.
        mask: COCO's compressed run lengths of the image's size; None without masks.
    """

    file_name: str
    word: str
    score: float
    box: tuple[float, float, float, float]
    runner_up: str
    margin: float
    presence: float
    mask: Rle | None


@dataclass(frozen=True)
class Run:
    """A complete run and its labels, as the model gave them; `export` has those of a review.

    Attributes:
        folder: the run folder.
        manifest: the content of its `run.json`: options, versions, counts, seconds.
    """

    folder: Path
    manifest: Manifest

    @cached_property
    def _labels(self) -> LabelledSet:
        return read_coco(self.folder / COCO)

    @cached_property
    def _names(self) -> dict[int, str]:
        return {category.id: category.name for category in self._labels.categories}

    def rows(self) -> list[LabelRow]:
        """All labels, image by image, the most confident of an image first."""
        return [
            LabelRow(
                file_name=image.file_name,
                word=self._names[each.category_id],
                score=each.score or 0.0,
                box=each.box,
                runner_up=str(each.attributes["runner_up"]),
                margin=float(each.attributes["margin"] or 0),
                presence=float(each.attributes["presence"] or 0),
                mask=as_rle(each.mask, image.width, image.height) if each.mask else None,
            )
            for image in self._labels.images
            for each in image.annotations
        ]

    def detections(self) -> Iterator[tuple[Path, sv.Detections]]:
        """Absolute path and labels of each image that was labelled, one after another.

        Yields:
            `xyxy` (N, 4) float32 pixels of the upright image, `confidence` (N,), `class_id` (N,)
            from 0 in the order of the words, `data["class_name"]` (N,) the words, and `mask`
            (N, H, W) bool, or None without masks.
        """
        root = Path(self.manifest.dataset["root"])
        for image in self._labels.images:
            labels = image.annotations
            class_id = np.array([each.category_id - 1 for each in labels], np.int64)
            names = np.array([self._names[each.category_id] for each in labels], np.str_)
            yield (
                root / image.file_name,
                sv.Detections(
                    xyxy=np.array([each.box for each in labels], np.float32).reshape(-1, 4),
                    mask=self._masks(labels, image.width, image.height),
                    confidence=np.array([each.score for each in labels], np.float32),
                    class_id=class_id,
                    data={"class_name": names},
                ),
            )

    def _masks(
        self, labels: Sequence[Annotation], width: int, height: int
    ) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None":
        if not self.manifest.options.masks:
            return None
        masks = np.zeros((len(labels), height, width), np.bool_)  # (N, H, W)
        for mask, each in zip(masks, labels, strict=True):
            assert each.mask is not None, "either all labels of a run have masks or none"
            mask[:] = decode_mask(as_rle(each.mask, width, height))
        return masks


def label(
    images: PathLike | Sequence[PathLike],
    words: Words,
    *,
    image_folder: PathLike | None = None,
    out: PathLike | None = None,
    label_field: str = LABEL_FIELD,
    fiftyone: bool = True,
    database: PathLike | None = None,
    overwrite: bool = False,
    conf_threshold: float = Options.conf_threshold,
    presence_threshold: float = Options.presence_threshold,
    iou: float = Options.iou,
    max_boxes: int = Options.max_boxes,
    masks: bool = Options.masks,
    model: str = Options.model,
    checkpoint: PathLike | None = None,
    detector: str = Options.detector,
    device: str = Options.device,
    batch_size: int = Options.batch_size,
    shard_size: int = Options.shard_size,
    reporter: Reporter | None = None,
) -> Run:
    """Label images with words, as `autolabel run` does.

    Example:
        >>> from autolabel import label
        >>> run = label("photos", ["person", "cat"], fiftyone=False)
        >>> for row in run.rows():
        ...     print(row.file_name, row.word, row.score, row.box)
        >>> for path, detections in run.detections():
        ...     print(path, detections.data["class_name"], detections.xyxy)

        Synonyms, images by name, a run folder of one's own:

        >>> label(["a.jpg", "b.jpg"], {"cat": ["kitten"], "cup": []}, out="runs/two")

    Args:
        images: a folder (with all below it), a list of image files, a COCO JSON, or
            `fiftyone:NAME`.
        words: a list of words, a mapping of words to synonyms, or the path of a vocabulary file.
        image_folder: folder of the images that a COCO JSON names (`--images`).
        out: run folder; None: `runs/NAME` of the images' folder, JSON or dataset. The same call
            again resumes a run that was stopped, or returns the one that is complete.
        label_field: FiftyOne's field of the labels.
        fiftyone: whether the labels are written to FiftyOne, too.
        database: folder of a private FiftyOne database; None: the user's own.
        overwrite: whether an earlier run in the folder, or a label field, is replaced.
        conf_threshold: minimum confidence of a label, in [0, 1].
        presence_threshold: minimum presence of a label's word, in [0, 1].
        iou: IoU threshold of the class-agnostic non-maximum suppression, in [0, 1].
        max_boxes: maximum number of proposals per image, highest scores first.
        masks: whether each label gets a mask.
        model: preset: `mini`, `bb`, `bl` or `bl-336`.
        checkpoint: a trained head; None: the model's own.
        detector: `nanodet`, `sam-grid` or `nanodet+sam-grid`; empty: the model's.
        device: `auto`, `cpu` or `cuda`.
        batch_size: images per forward pass.
        shard_size: images per file of regions; a killed run repeats at most this many.
        reporter: receives the progress; None: nothing is shown.

    Returns:
        The run. Images that could not be read are in its `skipped.jsonl`, and
        `run.manifest.counts["skipped"]` is their number.

    Raises:
        InputError: nothing could start; one line says what is wrong and how to mend it.
    """
    request = RunRequest(
        source=_source(images),
        words=_words(words),
        images=_path(image_folder),
        out=_path(out),
        label_field=label_field,
        options=Options(
            model=model,
            detector=detector,
            conf_threshold=conf_threshold,
            presence_threshold=presence_threshold,
            iou=iou,
            max_boxes=max_boxes,
            masks=masks,
            batch_size=batch_size,
            shard_size=shard_size,
            device=device,
            checkpoint=str(Path(checkpoint).resolve()) if checkpoint else "",
        ),
        fiftyone=fiftyone,
        database=_path(database),
        overwrite=overwrite,
    )
    done = run_request(request, reporter or NullReporter())
    return Run(done.folder, done.manifest)


def relabel(
    run: Run | PathLike,
    words: Words,
    *,
    out: PathLike | None = None,
    label_field: str | None = None,
    conf_threshold: float | None = None,
    presence_threshold: float | None = None,
    iou: float | None = None,
    overwrite: bool = False,
    checkpoint: PathLike | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Label the images of a complete run with other words, as `autolabel relabel` does.

    Args:
        run: the run, or its folder.
        words: as in `label`.
        out: the new run folder; None: beside the first, named after the run and the words.
        label_field: FiftyOne's field; None: named after the first run's and the words.
        conf_threshold, presence_threshold, iou: as in `label`; None: as in the first run.
        overwrite: whether an earlier run in the folder, or a label field, is replaced.
        checkpoint: where the first run's head is now, if its file was moved.
        reporter: receives the progress; None: nothing is shown.

    Raises:
        InputError: nothing could start.
    """
    request = RelabelRequest(
        run=_folder(run),
        words=_words(words),
        out=_path(out),
        label_field=label_field,
        conf_threshold=conf_threshold,
        presence_threshold=presence_threshold,
        iou=iou,
        overwrite=overwrite,
        checkpoint=_path(checkpoint),
    )
    done = relabel_request(request, reporter or NullReporter())
    return Run(done.folder, done.manifest)


def export(
    run: Run | PathLike,
    out: PathLike,
    *,
    format: str = "coco",
    min_confidence: float = 0.0,
    only_reviewed: bool = False,
    images: ImageMode = "leave",
    label_field: str = LABEL_FIELD,
    overwrite: bool = False,
) -> Exported:
    """Write the labels of a run as they stand after the review, as `autolabel export` does.

    Args:
        run: the run, its folder, or `fiftyone:NAME`.
        out: folder of the labels.
        format: `coco`, `lvis`, `yolo`, `yolo-scores`, `voc`, `cvat`, `label-studio`, `fiftyone`.
        min_confidence: minimum confidence of a model's label; a person's has none and is kept.
        only_reviewed: only labels that a person drew, renamed or tagged `reviewed`.
        images: whether the images stay (`leave`), or are put beside the labels (`copy`, `link`).
        label_field: field of a FiftyOne dataset; a run has its own.
        overwrite: whether an earlier export is replaced.

    Raises:
        InputError: there is no such run or format, or an export is there already.
    """
    request = ExportRequest(
        source=str(run.folder) if isinstance(run, Run) else os.fspath(run),
        out=Path(out),
        format=format,
        min_confidence=min_confidence,
        only_reviewed=only_reviewed,
        images=images,
        label_field=label_field,
        overwrite=overwrite,
    )
    return export_labels(request)


def _source(images: PathLike | Sequence[PathLike]) -> str | tuple[Path, ...]:
    if isinstance(images, str | os.PathLike):
        return os.fspath(images)
    return tuple(Path(each) for each in images)


def _words(words: Words) -> Path | WordList:
    return Path(words) if isinstance(words, str | os.PathLike) else word_list(words)


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


def _folder(run: Run | PathLike) -> Path:
    return run.folder if isinstance(run, Run) else Path(run)
