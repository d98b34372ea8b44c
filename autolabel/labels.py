"""The labels of a complete run, as rows and as `supervision.Detections`.

Axes: N labels of one image, H W rows and columns of the image.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import supervision as sv

from autolabel.run.manifest import COCO, Manifest, read_complete
from integrations.annotations import Annotation, LabelledSet, as_rle
from integrations.formats.coco import read_coco
from regionspot.types import Rle, decode_mask


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

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "Run":
        """The run of a run folder.

        Raises:
            InputError: the folder is no run's, or the run is not complete.
        """
        return cls(Path(folder), read_complete(Path(folder)))

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
    ) -> npt.NDArray[np.bool_] | None:
        if not self.manifest.options.masks:
            return None
        masks = np.zeros((len(labels), height, width), np.bool_)  # (N, H, W)
        for mask, each in zip(masks, labels, strict=True):
            assert each.mask is not None, "either all labels of a run have masks or none"
            mask[:] = decode_mask(as_rle(each.mask, width, height))
        return masks
