"""The tool from Python: `label`, `relabel` and `export`, with the options of the command line."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from autolabel.cluster.ray_workers import ray_workers
from autolabel.convert import Exported, ImageMode
from autolabel.labels import LabelRow, Run
from autolabel.options import (
    LABEL_FIELD,
    Options,
    absolute_detectors,
    absolute_model,
    with_thresholds,
)
from autolabel.review.export import ExportRequest, export_labels
from autolabel.review.learn import words_to_relabel
from autolabel.run.pipeline import run as run_request
from autolabel.run.plan import RunRequest
from autolabel.run.relabel import RelabelRequest
from autolabel.run.relabel import relabel as relabel_request
from integrations.progress import NullReporter, Reporter
from integrations.vocabulary_file import WordList, Words, word_list
from regionspot.boxes import FloatArray

PathLike = str | os.PathLike[str]
Vocabulary = PathLike | Words

__all__ = ["LabelRow", "Run", "export", "label", "relabel"]


def label(
    images: PathLike | Sequence[PathLike],
    words: Vocabulary,
    *,
    image_folder: PathLike | None = None,
    out: PathLike | None = None,
    label_field: str = "",
    fiftyone: bool = True,
    into: Run | PathLike | None = None,
    carry_reviewed: bool = False,
    database: PathLike | None = None,
    overwrite: bool = False,
    discard_review: bool = False,
    conf_threshold: float | None = None,
    presence_threshold: float | None = None,
    iou: float | None = None,
    containment: float | None = None,
    max_boxes: int | None = Options.max_boxes,
    masks: bool = Options.masks,
    model: str = Options.model,
    checkpoint: PathLike | None = None,
    detector: str = Options.detector,
    tile: int | None = Options.tile,
    tile_overlap: float = Options.tile_overlap,
    boxes: PathLike | Mapping[str, FloatArray] | None = None,
    keep_score: bool = Options.keep_score,
    detector_weight: float = Options.detector_weight,
    device: str = Options.device,
    runtime: str = Options.runtime,
    batch_size: int = Options.batch_size,
    shard_size: int = Options.shard_size,
    limit: int | None = None,
    only_unlabelled: bool = False,
    only_unreviewed: bool = False,
    rehash: bool = False,
    workers: int = 0,
    ray: str = "",
    gpus_per_worker: float = 0.0,
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
        images: a folder (with all below it), an image, a list of image files or the path of a
            `.txt` file that lists them, a COCO JSON, `fiftyone:NAME`, or a URL.
        words: a list of words or of entries, `{"name": "dog", "synonyms": ["puppy"], "threshold":
            0.5, "group": "animal"}` or `{"name": "shadow", "background": True}`; a mapping of words
            to synonyms or entries; a mapping of prompts to words, `{"a photo of a dog": "dog"}`; or
            the path of a vocabulary file.
        image_folder: folder of the images that a COCO JSON names (`--images`).
        out: run folder; None: `runs/NAME` of the images' folder, JSON or dataset. The same call
            again resumes a run that was stopped, labels what is new or has changed, or returns the
            run that is complete.
        label_field: FiftyOne's field of the labels; empty: `predictions`, or with `into` the field
            of that run and the name of this one.
        fiftyone: whether the labels are written to FiftyOne, too.
        into: a run over the same images; the labels go into a new field of its FiftyOne dataset.
        carry_reviewed: whether labels of that run that a person renamed, drew, edited or confirmed
            take the place of those of the same boxes, and labels that were deleted there are left
            out.
        database: folder of a private FiftyOne database; None: the user's own.
        overwrite: whether an earlier run in the folder, or a label field, is replaced.
        discard_review: whether that holds, too, where a person changed its labels. These are kept
            in the run folder as `before-N.FIELD.coco.json`.
        conf_threshold: minimum confidence of a label, in [0, 1]; None: 0.3, or 0 for `boxes`.
        presence_threshold: minimum presence of a label's word, in [0, 1]; None: 0.1, or 0 for a
            model without a trained head.
        iou: IoU threshold of the class-agnostic non-maximum suppression, in [0, 1]; None: 0.5, or
            no suppression among `boxes`.
        containment: a label goes where more than this share of its mask (or box) lies in that of a
            more confident label of the same word, or of that in its own; None: 0.9, or 1, which
            keeps all, for `boxes`.
        max_boxes: maximum number of proposals per image, highest scores first; None: 100, or 200
            where the detector names classes and not all of the words are among them.
        masks: whether each label gets a mask.
        model: `mini`, `bb`, `bl` or `bl-336`; without a trained head `clip-b16`, `clip-l14`,
            `siglip2-b16` or `openclip:MODEL/PRETRAINED`, PRETRAINED a name or a file.
        checkpoint: a trained head; None: the model's own.
        detector: `nanodet`, `sam-grid`, `torchvision:NAME`, `hf:REPO_OR_FOLDER`, one of another
            package, or several with commas between them; empty: the model's.
        tile: side of tiles, in pixels, on which the detector finds small objects, beside the whole
            image; None: it sees the whole image alone.
        tile_overlap: of neighbouring tiles, in parts of their side, from 0 to 0.9.
        boxes: boxes to label instead of a detector's: COCO annotations or results, `FORMAT:PATH` of
            another format, `fiftyone:FIELD` of the dataset that is labelled, or a mapping of the
            path of an image to an array (N, 4) of xyxy pixels. Each label has the `box_id` of its
            box.
        keep_score: whether the score of such a box counts in a label's.
        detector_weight: of the detector's own class scores beside the model's, in [0, 1], for words
            that are among its classes.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        runtime: what computes the image towers: `torch`; `openvino`, on a CPU, for `mini` alone; or
            `auto`, which is OpenVINO there where it is installed and the CPU is x86-64.
        batch_size: images read at once; on a GPU also images per forward pass.
        shard_size: images per file of regions; a killed run repeats at most this many.
        limit: number of the first images to label; None: all.
        only_unlabelled: whether images of `fiftyone:NAME` with a label in another field are left
            out.
        only_unreviewed: whether images of `fiftyone:NAME` that are reviewed, or have a reviewed
            label in another field, are left out.
        rehash: whether all bytes of the images are compared with those of the run that is there;
            else their sizes and samples of their bytes.
        workers: number of processes that compute regions, by Ray; 0: this one alone, or with `ray`
            as many as the cluster has room for.
        ray: address of the Ray cluster whose machines compute regions; empty: one of this machine.
        gpus_per_worker: GPUs of each worker; 0: its CPUs.
        reporter: receives the progress; None: nothing is shown.

    Returns:
        The run. Images that could not be read are in its `skipped.jsonl`, and
        `run.manifest.counts["skipped"]` is their number.

    Raises:
        InputError: nothing could start; one line says what is wrong and how to mend it.
    """
    texts = os.fspath(boxes) if isinstance(boxes, str | os.PathLike) else None
    given = boxes if isinstance(boxes, Mapping) else None
    request = RunRequest(
        source=_source(images),
        words=_words(words),
        images=_path(image_folder),
        out=_path(out),
        label_field=label_field,
        into=None if into is None else _folder(into),
        carry_reviewed=carry_reviewed,
        options=with_thresholds(
            Options(
                model=absolute_model(model),
                detector=absolute_detectors(detector),
                tile=tile,
                tile_overlap=tile_overlap,
                max_boxes=max_boxes,
                masks=masks,
                batch_size=batch_size,
                shard_size=shard_size,
                device=device,
                runtime=runtime,
                checkpoint=str(Path(checkpoint).resolve()) if checkpoint else "",
                keep_score=keep_score,
                detector_weight=detector_weight,
            ),
            texts if given is None else given,
            conf_threshold,
            presence_threshold,
            iou,
            containment,
        ),
        fiftyone=fiftyone,
        database=_path(database),
        overwrite=overwrite,
        limit=limit,
        discard_review=discard_review,
        only_unlabelled=only_unlabelled,
        only_unreviewed=only_unreviewed,
        rehash=rehash,
        boxes=given,
    )
    processes = ray_workers(workers, ray, gpus_per_worker)
    done = run_request(request, reporter or NullReporter(), processes)
    return Run(done.folder, done.manifest)


def relabel(
    run: Run | PathLike,
    words: Vocabulary | None = None,
    *,
    learn_from_review: bool = False,
    out: PathLike | None = None,
    label_field: str | None = None,
    conf_threshold: float | None = None,
    presence_threshold: float | None = None,
    iou: float | None = None,
    containment: float | None = None,
    detector_weight: float | None = None,
    overwrite: bool = False,
    discard_review: bool = False,
    carry_reviewed: bool = False,
    checkpoint: PathLike | None = None,
    limit: int | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Label the images of a complete run with other words, as `autolabel relabel` does.

    Args:
        run: the run, or its folder.
        words: as in `label`; None, with `learn_from_review`: the run's and those of the review.
        learn_from_review: whether reviewed labels of the run are examples of their words.
        out: the new run folder; None: beside the first, named after the run and the words.
        label_field: FiftyOne's field; None: named after the first run's and the words.
        conf_threshold: as in `label`; None: as in the first run.
        presence_threshold: as in `label`; None: as in the first run.
        iou: as in `label`; None: as in the first run.
        containment: as in `label`; None: as in the first run.
        detector_weight: as in `label`; None: as in the first run.
        overwrite: whether an earlier run in the folder, or a label field, is replaced.
        discard_review: as in `label`.
        carry_reviewed: as in `label`, of the first run.
        checkpoint: where the first run's head is now, if its file was moved.
        limit: number of the first images to label; None: all.
        reporter: receives the progress; None: nothing is shown.

    Raises:
        InputError: nothing could start.
    """
    reporter = reporter or NullReporter()
    chosen, reviewed = words_to_relabel(
        _folder(run), None if words is None else _words(words), learn_from_review, reporter
    )
    request = RelabelRequest(
        run=_folder(run),
        words=chosen,
        reviewed=reviewed,
        out=_path(out),
        label_field=label_field,
        conf_threshold=conf_threshold,
        presence_threshold=presence_threshold,
        iou=iou,
        containment=containment,
        detector_weight=detector_weight,
        overwrite=overwrite,
        discard_review=discard_review,
        carry_reviewed=carry_reviewed,
        checkpoint=_path(checkpoint),
        limit=limit,
    )
    done = relabel_request(request, reporter)
    return Run(done.folder, done.manifest)


def export(
    run: Run | PathLike,
    out: PathLike,
    *,
    format: str = "coco",
    min_confidence: float = 0.0,
    words: Vocabulary | None = None,
    only_reviewed: bool = False,
    only_accepted: bool = False,
    images: ImageMode = "leave",
    label_field: str = LABEL_FIELD,
    overwrite: bool = False,
    limit: int | None = None,
    split: str | None = None,
    seed: int = 0,
) -> Exported:
    """Write the labels of a run as they stand after the review, as `autolabel export` does.

    Args:
        run: the run, its folder, or `fiftyone:NAME`.
        out: folder of the labels; other files in it stay.
        format: `coco`, `lvis`, `yolo`, `yolo-seg`, `yolo-scores`, `voc`, `cvat`, `label-studio`,
            `fiftyone`.
        min_confidence: minimum confidence of a model's label of a word without a threshold of its
            own; a person's label has none and is kept.
        words: with the thresholds of words, as in `label`; None: the run's.
        only_reviewed: only labels that a person drew, renamed or marked `reviewed`, and only
            images with such a label. An image that is tagged `reviewed` counts as a whole: all its
            labels, or that it is empty where it has none.
        only_accepted: these, and the labels that `autolabel accept` accepted.
        images: whether the images stay (`leave`), or are put beside the labels (`copy`, `link`).
        label_field: field of a FiftyOne dataset; a run has its own.
        overwrite: whether an earlier export is replaced.
        limit: number of the first images to write; None: all.
        split: share of train, or of train and val, for YOLO's formats: "0.8", "0.8,0.1".
        seed: of the split.

    Raises:
        InputError: there is no such run or format, or an export is there already.
    """
    request = ExportRequest(
        source=str(run.folder) if isinstance(run, Run) else os.fspath(run),
        out=Path(out),
        format=format,
        min_confidence=min_confidence,
        words=None if words is None else _words(words),
        only_reviewed=only_reviewed,
        only_accepted=only_accepted,
        images=images,
        label_field=label_field,
        overwrite=overwrite,
        limit=limit,
        split=split,
        seed=seed,
    )
    return export_labels(request)


def _source(images: PathLike | Sequence[PathLike]) -> str | tuple[Path, ...]:
    if isinstance(images, str | os.PathLike):
        return os.fspath(images)
    return tuple(Path(each) for each in images)


def _words(words: Vocabulary) -> Path | WordList:
    return Path(words) if isinstance(words, str | os.PathLike) else word_list(words)


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


def _folder(run: Run | PathLike) -> Path:
    return run.folder if isinstance(run, Run) else Path(run)
