"""Detectors propose boxes. `--detector` takes one of these, or several with commas between them:

| name | boxes |
|---|---|
| `nanodet` | of things like COCO's 80 classes: NanoDet-g at 416 and 640 pixels; the default |
| `nanodet-416` | the same at the published 416 pixels alone: a third of the time, few small ones |
| `sam-grid` | around whatever SAM segments from a grid of points, 5 s an image on a core |
| `torchvision:NAME` | of a detection model of torchvision, with `/WEIGHTS` of other weights |
| `hf:REPO_OR_FOLDER` | of a detection model of transformers, zero-shot or with classes of its own |

The boxes of several detectors are joined by class-agnostic NMS. Any of them can detect on tiles of
an image, too (`integrations/detectors/tiled.py`).

A package adds a detector by an entry point of the group `regionspot_autolabel.detectors`, which
names a builder, `def build(options: DetectorOptions) -> Detector`. What follows the first colon on
the command line is `options.argument`.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import torch
from segment_anything.modeling import Sam

from integrations.detectors.base import (
    MAX_BOXES,
    NMS_IOU,
    Detector,
    DetectorOptions,
    Ensemble,
)
from integrations.detectors.hugging_face import build_hugging_face, hugging_face_files
from integrations.detectors.nanodet import PUBLISHED_SIDE, NanoDet
from integrations.detectors.sam_grid import SamGrid
from integrations.detectors.tiled import TILE_OVERLAP, Tiled
from integrations.detectors.torchvision_models import build_torchvision, torchvision_files
from regionspot.devices.runtime import TORCH, Runtime
from regionspot.errors import InputError
from regionspot.weights import sha256_of

__all__ = [
    "DETECTORS",
    "Detector",
    "DetectorOptions",
    "build_detector",
    "check_detectors",
    "detector_weights",
]

ENTRY_POINTS = "regionspot_autolabel.detectors"
Builder = Callable[[DetectorOptions], Detector]

# What a detector's scores are multiplied by beside those of others. NanoDet's score is a class
# probability; SAM's says how well-defined a mask is, be it a thing or a patch of wall. On training
# photos a box of SAM's grid meets a label of COCO one time in eight, whatever its score; NanoDet's
# do so at a score of 0.15. So SAM's boxes rank above NanoDet's guesses, for the sake of what COCO
# does not name, and below what NanoDet is sure of.
ENSEMBLE_WEIGHTS = {"sam-grid": 0.3}


def _nanodet(options: DetectorOptions) -> Detector:
    return NanoDet.of(options, "nanodet")


def _nanodet_416(options: DetectorOptions) -> Detector:
    return NanoDet.of(options, "nanodet-416", (PUBLISHED_SIDE,))


def _sam_grid(options: DetectorOptions) -> Detector:
    if options.sam is None:
        raise InputError("the detector sam-grid needs the model of a SAM localizer")
    return SamGrid(options.sam, options.max_boxes, options.nms_iou)


DETECTORS: dict[str, Builder] = {
    "nanodet": _nanodet,
    "nanodet-416": _nanodet_416,
    "sam-grid": _sam_grid,
    "torchvision": build_torchvision,
    "hf": build_hugging_face,
}
# Weights that `regionspot.weights` does not list, by the argument.
_WEIGHT_FILES: dict[str, Callable[[str], list[Path]]] = {
    "torchvision": torchvision_files,
    "hf": hugging_face_files,
}
_NEEDS_ARGUMENT = {"torchvision": "torchvision:NAME", "hf": "hf:REPO_OR_FOLDER"}


def build_detector(
    names: str,
    *,
    sam: Callable[[], Sam] | None = None,
    device: str | torch.device = "cpu",
    max_boxes: int = MAX_BOXES,
    nms_iou: float = NMS_IOU,
    words: Sequence[str] = (),
    min_score: float | None = None,
    tile: int | None = None,
    tile_overlap: float = TILE_OVERLAP,
    runtime: Runtime = TORCH,
) -> Detector:
    """The detector of a name, or several as one.

    Args:
        names: as `--detector` takes them.
        sam: gives the localizer's model, where a detector may use it; `sam-grid` needs it.
        device: where a detector with a network of its own runs it.
        max_boxes: at most so many boxes an image, of all detectors together.
        nms_iou: of two boxes that overlap by more than this, the one of lower score goes.
        words: of the vocabulary, synonyms too; zero-shot detectors need them.
        min_score: boxes of a lower score are left out; None: each detector's own limit.
        tile: side of the tiles, in pixels, on which they detect, too; None: on whole images alone.
        tile_overlap: of neighbouring tiles, in parts of the side.
        runtime: what computes the network of `nanodet`.

    Raises:
        InputError: no such name, something that a detector needs is missing, or a weight file
            cannot be had.
    """
    checked, found = check_detectors(names), []
    own = DETECTORS.keys() - {"sam-grid"}  # of these none uses it
    is_used = any(name not in own for name, _ in checked)
    segmenter = sam() if sam is not None and is_used else None
    for name, argument in checked:
        options = DetectorOptions(
            argument, tuple(words), segmenter, device, max_boxes, nms_iou, min_score, runtime
        )
        found.append((_builder(name)(options), ENSEMBLE_WEIGHTS.get(name, 1.0)))
    detector = found[0][0]
    if len(found) > 1:
        weights = [weight for _, weight in found]
        detector = Ensemble([each for each, _ in found], weights, max_boxes, nms_iou)
    return detector if tile is None else Tiled(detector, tile, tile_overlap, max_boxes, nms_iou)


def detector_weights(names: str) -> dict[str, str]:
    """Sha256 of the files of weights of detectors that were built, for a run's manifest.

    Those of the presets' own detectors are listed with the presets; of another package's detector
    none is known.

    Args:
        names: as `--detector` takes them.
    """
    return {
        f"{name}:{argument}/{path.name}": sha256_of(path)
        for name, argument in check_detectors(names)
        if name in _WEIGHT_FILES
        for path in _WEIGHT_FILES[name](argument)
    }


def check_detectors(names: str) -> list[tuple[str, str]]:
    """Name and argument of each detector of a list with commas; nothing is loaded.

    Raises:
        InputError: a name is unknown, is there twice, or lacks its argument.
    """
    found: list[tuple[str, str]] = []
    for text in names.split(","):
        name, _, argument = text.strip().partition(":")
        if name not in DETECTORS and name not in _entry_points():
            known = [_NEEDS_ARGUMENT.get(each, each) for each in [*DETECTORS, *_entry_points()]]
            raise InputError(
                f"--detector: {text.strip()!r} is unknown; it must be one of {', '.join(known)}, "
                "or several with commas between them"
            )
        if name in _NEEDS_ARGUMENT and not argument:
            raise InputError(f"--detector: {name} must be {_NEEDS_ARGUMENT[name]}, got {text!r}")
        if name in DETECTORS and name not in _NEEDS_ARGUMENT and argument:
            raise InputError(f"--detector: {name} takes no argument, got {text!r}")
        if (name, argument) in found:
            raise InputError(f"--detector: {text.strip()!r} is there twice; leave one out")
        found.append((name, argument))
    return found


def _entry_points() -> dict[str, EntryPoint]:
    """Detectors of other packages by name; those that are shipped keep their names."""
    return {each.name: each for each in entry_points(group=ENTRY_POINTS)}


def _builder(name: str) -> Builder:
    if name in DETECTORS:
        return DETECTORS[name]
    entry = _entry_points()[name]
    try:
        builder: Builder = entry.load()
    except Exception as error:  # code of another package
        raise InputError(
            f"--detector: {name} ({entry.value}) cannot be imported: {error}; mend or reinstall "
            "its package"
        ) from error
    return builder
