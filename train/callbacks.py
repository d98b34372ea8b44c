"""Monitoring of a training: progress, held-out accuracy, TensorBoard's curves and pictures.

Axes: N regions, L map tokens (class token first), h w rows and columns of the map.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from integrations.drawing import attention_over, outlined
from integrations.images import read_image
from integrations.progress import Reporter
from integrations.text import printable
from regionspot.attention import RegionAttention, recorded_cross_attention
from regionspot.boxes import FloatArray
from regionspot.errors import InputError
from regionspot.head import RegionHead
from regionspot.types import ImageArray, Vocabulary
from train.batch import collate
from train.features.cache import ImageFeatures
from train.metrics import region_scores, top_k
from train.sampler import TrainingSet
from train.trainer import ProgressCallback

CURVE_EVERY = 20  # steps between two points of a curve
SIDE, MAX_PANELS = 320, 6  # pixels of a panel of the picture, and number of panels


@dataclass(frozen=True)
class AttentionImage:
    """The held-out image whose attention is drawn.

    Attributes:
        features: of N regions.
        path: of the image file.
        boxes: (N, 4) xyxy pixels, one a region of the features.
    """

    features: ImageFeatures
    path: Path
    boxes: FloatArray


class Monitor(ProgressCallback, AbstractContextManager["Monitor"]):
    """Reports and writes the progress of a training; a context, which closes its files.

    Args:
        iterations: number of steps.
        held_out: each data set's held-out images.
        vocabulary: classes of all data sets.
        attention: whose attention is drawn, or None.
        curves: folder of TensorBoard's files, or None for none.

    Raises:
        InputError: curves are asked for and TensorBoard is not installed.
    """

    def __init__(
        self,
        reporter: Reporter,
        iterations: int,
        held_out: Sequence[TrainingSet],
        vocabulary: Vocabulary,
        attention: AttentionImage | None = None,
        curves: Path | None = None,
    ) -> None:
        super().__init__(reporter, "train", iterations)
        self.held_out, self.vocabulary, self.attention = held_out, vocabulary, attention
        self.curves = curves
        self.writer: Any = None  # a SummaryWriter, once something is written
        if curves:
            load_tensorboard()

    def __exit__(self, *_: object) -> None:
        if self.writer:
            self.writer.close()

    def on_step(self, done: int, loss: float, rate: float, gradient_norm: float) -> None:
        """Report the step, and add a point to the curves after every `CURVE_EVERY`."""
        super().on_step(done, loss, rate, gradient_norm)
        if done % CURVE_EVERY == 0 or done == self.iterations:
            values = {"loss": loss, "learning_rate": rate, "gradient_norm": gradient_norm}
            for name, value in values.items():
                self._write("scalar", f"train/{name}", value, done)

    def on_evaluation(self, done: int, head: RegionHead) -> None:
        """Evaluate the head on the held-out images, and draw its attention."""
        for data in self.held_out:
            if not len(data):
                continue
            classes = self.vocabulary.only(data.classes)
            scores = region_scores(head, data.features, classes, ancestors=data.ancestors)
            best, five = (top_k(scores, data.features, classes, k) for k in (1, 5))
            self.reporter.message(
                f"step {done}/{self.iterations}: {data.name} held-out top-1 {best}, top-5 {five}"
            )
            self._write("scalar", f"held_out/{data.name}/top-1", best.value, done)
            self._write("scalar", f"held_out/{data.name}/top-5", five.value, done)
        if self.attention and self.curves and head.config.read_map:
            picture = attention_picture(head, self.attention)
            self._write("image", "attention", picture, done, dataformats="HWC")

    def _write(self, kind: str, name: str, value: Any, done: int, **options: str) -> None:
        if self.curves is None:
            return
        if self.writer is None:
            # Hides what a killed run wrote after the checkpoint that is resumed.
            self.writer = load_tensorboard().SummaryWriter(str(self.curves), purge_step=done)
        getattr(self.writer, f"add_{kind}")(name, value, done, **options)


def load_tensorboard() -> ModuleType:
    """PyTorch's writer for TensorBoard.

    Raises:
        InputError: TensorBoard is not installed.
    """
    try:
        import torch.utils.tensorboard as tensorboard
    except ImportError as error:
        raise InputError(
            "TensorBoard is not installed: pip install 'regionspot-autolabel[train]', "
            "or train with --no-curves"
        ) from error
    return tensorboard


@torch.inference_mode()
def attention_picture(head: RegionHead, image: AttentionImage) -> ImageArray:
    """Cross-attention maps of an image's first regions (paper, Figure 4).

    Returns:
        uint8 (H, W, 3): a panel a region, its box drawn over the mean of the attention over layers
        and heads, without the class token, scaled to its maximum.
    """
    names = image.features.names
    index = dict.fromkeys(names, 0)
    with recorded_cross_attention(head) as layers:
        collate([image.features], [torch.arange(len(names))], index).embed(head)
    # The encoder resizes the whole image to a square.
    side = math.isqrt(layers[0].shape[-1] - head.config.class_token)
    maps, _ = RegionAttention.of_layers(layers, side, head.config.class_token).mean()
    pixels = read_image(image.path)
    panels = [
        _panel(pixels, *each) for each in zip(maps[:MAX_PANELS], image.boxes, names, strict=False)
    ]
    return np.concatenate(panels, axis=1)


def _panel(pixels: ImageArray, weights: FloatArray, box: FloatArray, name: str) -> ImageArray:
    """The heat map (h, w) of one region over its image, as a square of SIDE pixels."""
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels).resize((SIDE, SIDE))
    scale = np.array([SIDE / width, SIDE / height] * 2, np.float32)
    panel = outlined(attention_over(image, weights), box * scale)
    ImageDraw.Draw(panel).text((6, 6), printable(name), "white")
    return np.asarray(panel)
