"""Detection models of torchvision: `torchvision:NAME`, or `torchvision:NAME/WEIGHTS`.

Axes: N boxes of one image, E classes.
"""

from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from torch import nn
from torchvision.models import (
    WeightsEnum,
    detection,
    get_model,
    get_model_weights,
    list_models,
)

from integrations.detectors.base import (
    MIN_SCORE,
    Detector,
    DetectorOptions,
    check_image,
    one_class_scores,
    select,
)
from regionspot.boxes import box_iou
from regionspot.errors import InputError
from regionspot.types import ImageArray, Proposals

DEFAULT_WEIGHTS = "DEFAULT"
_NO_CLASS = ("__background__", "N/A")
# Boxes of several classes that overlap by this are one object, of which each class is scored.
_SAME_BOX_IOU = 0.9


class TorchvisionDetector:
    """A detection model of torchvision.

    A model gives each box one class and its score. Those of other classes are the scores of boxes
    in the same place, or else as `one_class_scores` has them.
    """

    def __init__(self, model: nn.Module, categories: list[str], options: DetectorOptions) -> None:
        """Wrap a model.

        Args:
            model: as torchvision builds it.
            categories: name of each of its labels.
            options: limits and device.
        """
        self.name = f"torchvision:{options.argument}"
        self.options = options
        self.model = model.to(options.device).eval().requires_grad_(False)
        limits: Any = getattr(model, "roi_heads", model)  # two stages, one stage
        limits.score_thresh = MIN_SCORE if options.min_score is None else options.min_score
        limits.detections_per_img = max(limits.detections_per_img, options.max_boxes)
        self.labels = [n for n, name in enumerate(categories) if name not in _NO_CLASS]
        self.class_names = tuple(categories[label] for label in self.labels)

    @torch.inference_mode()
    def detect(self, image: ImageArray) -> Proposals:
        """See `Detector.detect`."""
        size = check_image(image)
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
        (found,) = self.model([pixels.to(self.options.device).float() / 255])
        boxes, labels, score = (found[name].cpu().numpy() for name in ("boxes", "labels", "scores"))
        named = np.isin(labels, self.labels)
        boxes, labels, score = boxes[named], labels[named], score[named]
        own = one_class_scores(np.searchsorted(self.labels, labels), score, len(self.labels))
        for row, same in enumerate(box_iou(boxes, boxes) > _SAME_BOX_IOU):
            own[row] = np.minimum(own[same | (np.arange(len(score)) == row)].max(axis=0), 1)
        # A box that another class is more certain of goes in the suppression.
        own = np.minimum(own, score[:, None])
        proposals = Proposals(boxes, score, class_names=self.class_names, class_scores=own)
        return select(proposals, size, self.options.nms_iou, self.options.max_boxes)


def build_torchvision(options: DetectorOptions) -> Detector:
    """The model of a name, with its published weights.

    Raises:
        InputError: no such model or weights, or the weights cannot be fetched.
    """
    name = options.argument.partition("/")[0]
    known = list_models(module=detection)
    if name not in known:
        raise InputError(
            f"--detector torchvision:{name} is unknown; torchvision has {', '.join(known)}"
        )
    entry = _entry(options.argument)
    try:
        # The backbone's own weights would be overwritten.
        model = get_model(name, weights=entry, weights_backbone=None)
    except (OSError, HTTPException, RuntimeError) as error:
        raise InputError(
            f"--detector torchvision:{name}: its weights cannot be had ({error}); where there is "
            f"no network, put {entry.url} into {_cache()}"
        ) from error
    return TorchvisionDetector(model, entry.meta["categories"], options)


def torchvision_files(argument: str) -> list[Path]:
    """The file of weights of a detector that was built, in torch hub's cache."""
    return [_cache() / Path(urlparse(_entry(argument).url).path).name]


def _entry(argument: str) -> WeightsEnum:
    """The weights that `NAME` or `NAME/WEIGHTS` stands for.

    Raises:
        InputError: the model has no such weights.
    """
    name, _, chosen = argument.partition("/")
    weights = get_model_weights(name)
    if chosen not in ("", DEFAULT_WEIGHTS, *weights.__members__):
        raise InputError(
            f"--detector torchvision:{name}/{chosen}: there are no such weights; there are "
            f"{', '.join(weights.__members__)}"
        )
    return weights[chosen or DEFAULT_WEIGHTS]


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"
