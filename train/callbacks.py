"""What a person sees of a training: progress, held-out figures, TensorBoard's curves and pictures.

Axes: N regions, L map tokens (class token first), h w the map's rows and columns.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from integrations.images import read_image
from regionspot.attention import recorded_cross_attention
from regionspot.boxes import FloatArray
from regionspot.errors import InputError
from regionspot.head import RegionHead
from regionspot.types import ImageArray, Vocabulary
from train.batch import collate
from train.features.cache import ImageFeatures
from train.metrics import region_scores, top_k
from train.sampler import TrainingSet
from train.trainer import Observer

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

CURVE_EVERY = 20  # steps between two points of a curve
SIDE, MOST_REGIONS = 320, 6  # pixels of a picture, and regions that are drawn


@dataclass(frozen=True)
class Shown:
    """The held-out image whose attention is drawn.

    Attributes:
        path: of its pixels.
        boxes: (N, 4) xyxy pixels, one a region of the features.
    """

    features: ImageFeatures
    path: Path
    boxes: FloatArray


class Monitor(Observer, AbstractContextManager["Monitor"]):
    """Shows and writes what a training tells; a context, which ends its bar and closes its files.

    Args:
        held_out: each data set's images that are not trained on.
        vocabulary: of all data sets.
        shown: whose attention is drawn, or None.
        curves: folder of TensorBoard's files, or None for none.

    Raises:
        InputError: curves are asked for and TensorBoard is not installed.
    """

    def __init__(
        self,
        console: Console,
        iterations: int,
        held_out: Sequence[TrainingSet],
        vocabulary: Vocabulary,
        shown: Shown | None = None,
        curves: Path | None = None,
    ) -> None:
        self.console, self.iterations = console, iterations
        self.held_out, self.vocabulary, self.shown = held_out, vocabulary, shown
        self.curves = curves
        self.writer: SummaryWriter | None = None
        if curves:
            check_tensorboard()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console)
        self.task = self.bar.add_task("train", total=iterations)

    def __enter__(self) -> "Monitor":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        if self.writer:
            self.writer.close()

    def stepped(self, done: int, loss: float, rate: float, gradient_norm: float) -> None:
        """Move the bar, and now and then add a point to the curves."""
        self.bar.update(self.task, completed=done, description=f"loss {loss:.3f}")
        if done % CURVE_EVERY == 0 or done == self.iterations:
            values = {"loss": loss, "learning_rate": rate, "gradient_norm": gradient_norm}
            for name, value in values.items():
                self._write("scalar", f"train/{name}", value, done)

    def evaluated(self, done: int, head: RegionHead) -> None:
        """Measure the head on the held-out images, and draw where it looks."""
        for data in self.held_out:
            if not len(data):
                continue
            words = self.vocabulary.only(data.words)
            found = region_scores(head.regions, data.features, words, data.broader)
            best, five = (top_k(found, data.features, words, k) for k in (1, 5))
            self.console.print(
                f"step {done}/{self.iterations}: {data.name} held-out top-1 {best}, top-5 {five}"
            )
            self._write("scalar", f"held_out/{data.name}/top-1", best.value, done)
            self._write("scalar", f"held_out/{data.name}/top-5", five.value, done)
        if self.shown and self.curves and head.config.read_map:
            picture = attention_picture(head, self.shown)
            self._write("image", "attention", picture, done, dataformats="HWC")

    def _write(self, kind: str, name: str, value: Any, done: int, **options: str) -> None:
        if self.curves is None:
            return
        if self.writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            # What a killed run wrote beyond the state that it goes on from is taken back.
            self.writer = SummaryWriter(str(self.curves), purge_step=done)
        getattr(self.writer, f"add_{kind}")(name, value, done, **options)


def check_tensorboard() -> None:
    """See that curves can be written.

    Raises:
        InputError: TensorBoard is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError(
            "TensorBoard is not installed: pip install 'regionspot-autolabel[train]', "
            "or train with --no-curves"
        ) from error


@torch.inference_mode()
def attention_picture(head: RegionHead, shown: Shown) -> ImageArray:
    """Where the head looks for an image's first regions (paper, Figure 4).

    Returns:
        uint8 (H, W, 3): a panel a region, its box drawn, lit where the cross-attention lay; the
        mean over layers and heads, without the class token, scaled to its brightest place.
    """
    image = shown.features
    words = {name: i for i, name in enumerate(dict.fromkeys(image.names))}
    with recorded_cross_attention(head) as layers:
        collate([image], [torch.arange(len(image.names))], words).embed(head)
    weights = torch.stack([layer[0].mean(0) for layer in layers]).mean(0).float().cpu()
    places = weights[:, 1:] if head.config.class_token else weights
    side = math.isqrt(places.shape[1])  # the encoder sees the whole image as a square
    pixels = read_image(shown.path)
    panels = [
        _panel(pixels, place, box, name)
        for place, box, name in zip(
            places[:MOST_REGIONS].reshape(-1, side, side).numpy(),
            shown.boxes,
            image.names,
            strict=False,
        )
    ]
    return np.concatenate(panels, axis=1)


def _panel(pixels: ImageArray, weights: FloatArray, box: FloatArray, name: str) -> ImageArray:
    """An image as a square of SIDE pixels under the weights (h, w) of one region."""
    height, width = pixels.shape[:2]
    heat = Image.fromarray(weights / max(float(weights.max()), 1e-12)).resize((SIDE, SIDE))
    colours = matplotlib.colormaps["inferno"](np.asarray(heat))[..., :3] * 255
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((SIDE, SIDE)), np.float32)
    panel = Image.fromarray(np.asarray(0.5 * grey[..., None] + 0.5 * colours, np.uint8))
    draw = ImageDraw.Draw(panel)
    x1, y1, x2, y2 = (box * np.array([SIDE / width, SIDE / height] * 2)).tolist()
    draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline="white", width=2)
    draw.text((6, 6), name, "white")
    return np.asarray(panel)
