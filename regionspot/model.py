"""The whole model: localizer, encoder and head, from images and boxes to labels.

`RegionSpot` labels images in batches; `Predictor` encodes one image once and labels its boxes as
often as wanted.

Axes: N regions of one image, T token width, P pooled channels, D text width, L map tokens, C map
width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regionspot.boxes import FloatArray
from regionspot.checkpoint import load_head, preset_of_head
from regionspot.config import (
    CropConfig,
    ModelConfig,
    TokenSource,
    fast_dtype,
    model_config,
    resolve_device,
)
from regionspot.crops.classifier import CropClassifier
from regionspot.devices.runtime import TORCH, Runtime, build_runtime, resolve_runtime
from regionspot.devices.transfer import pixels_on
from regionspot.encoders import VisionLanguageEncoder, build_encoder
from regionspot.errors import InputError
from regionspot.examples.classes import ExampleRegions, Examples, WordOrExamples
from regionspot.localizers.masks import masks_of_all
from regionspot.localizers.sam import SamLocalizer, build_sam
from regionspot.scoring import (
    RegionScorer,
    Stage,
    checked_batch,
    checked_input,
    label_regions,
    untimed,
)
from regionspot.tensor_files.hub import HubHead
from regionspot.types import (
    ImageArray,
    ImageEmbedding,
    ImageTokens,
    Labels,
    Pixels,
    Regions,
    RegionTokens,
    ScoreCalibration,
    Vocabulary,
)
from regionspot.vocabulary import Words
from regionspot.weights import cache_folder, sha256_by_preset, sha256_of, versions

SHIPPED = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class _Inputs:
    """`HeadInputs` of an image that was encoded just now."""

    tokens: torch.Tensor
    memory: torch.Tensor
    pooled: torch.Tensor | None
    prior: torch.Tensor | None


@dataclass(frozen=True)
class RegionSpot(HubHead):
    """A frozen localizer, a frozen encoder and the trained head between them.

    Attributes:
        scorer: the encoder and the head.
        device: where they compute.
        dtype: of the frozen towers' large products.
        checkpoint: the file of the head, or None for a head that was made in memory.
        runtime: what computes the image towers.
    """

    config: ModelConfig
    localizer: SamLocalizer
    scorer: RegionScorer
    device: torch.device
    dtype: torch.dtype
    checkpoint: Path | None = None
    runtime: Runtime = TORCH

    @classmethod
    def of_head_file(cls, path: Path, **options: Any) -> "RegionSpot":
        """The model of a trained head; options and errors as of `load_model`."""
        loaded = load_model(preset_of_head(path), checkpoint=path, **options)
        assert isinstance(loaded, cls), "a preset of heads"
        return loaded

    @property
    def encoder(self) -> VisionLanguageEncoder:
        """The scorer's."""
        return self.scorer.encoder

    @property
    def calibration(self) -> ScoreCalibration:
        """The scorer's."""
        return self.scorer.calibration

    def vocabulary(self, words: Words | Mapping[str, WordOrExamples]) -> Vocabulary:
        """Embed words for this model.

        Args:
            words: names; or each name with its synonyms or examples; or each prompt with the name
                that it stands for.

        Example:
            >>> model.vocabulary({"forklift": Examples(images, boxes), "dog": []})
            >>> model.vocabulary({"a photo of a dog": "dog", "a photo of a puppy": "dog"})

        Raises:
            InputError: no words, an empty word, the same word twice, or examples without a box.
        """
        if not isinstance(words, Mapping):
            return self.scorer.vocabulary(words)
        return self.scorer.with_examples(
            {
                name: self._example_regions(each) if isinstance(each, Examples) else each
                for name, each in words.items()
            }
        )

    def _example_regions(self, examples: Examples) -> ExampleRegions:
        checked = checked_batch(examples.images, examples.boxes)
        regions = [
            self.regions([image], [boxes])[0]
            for image, boxes in zip(examples.images, checked, strict=True)
            if len(boxes)
        ]
        return ExampleRegions(regions, examples.strings)

    def predict(
        self, image: ImageArray, boxes: FloatArray, vocabulary: Vocabulary, masks: bool = False
    ) -> Labels:
        """Label given boxes of one image.

        Args:
            image: uint8 (H, W, 3) RGB.
            boxes: float32 (N, 4) xyxy pixels of that image.
            vocabulary: as this model embeds it.
            masks: whether the labels get a mask each.

        Returns:
            One row a box, in the order of the boxes.

        Raises:
            InputError: an image or boxes that cannot be used; the message says which and why.
        """
        (regions,) = self.regions([image], [boxes], masks)
        return self.label(boxes, regions, vocabulary)

    def regions(
        self, images: Sequence[ImageArray], boxes: Sequence[FloatArray], masks: bool = False
    ) -> list[Regions]:
        """Embed the boxes of each image, whatever the words.

        Args:
            images: uint8 (H, W, 3) RGB each.
            boxes: for each image, float32 (N, 4) xyxy pixels.
            masks: whether the regions get a mask each.

        Raises:
            InputError: an image or boxes that cannot be used.
        """
        checked = checked_batch(images, boxes)
        if not images:
            return []
        pixels = self.upload(images)
        embeddings = self.localizer.encode_all(pixels)
        return self.read(pixels, embeddings, self.encoder.image_tokens(pixels), checked, masks)

    @property
    def in_batches(self) -> bool:
        """Whether images are computed together, which changes the last bits of their regions."""
        return self.localizer.in_batches

    def no_regions(self) -> Regions:
        """The regions of an image without boxes."""
        return self.scorer.no_regions()

    def prepare(self, message: Callable[[str], None]) -> None:
        """Get the image towers ready where their runtime has to convert them first.

        Args:
            message: is told what takes long.

        Raises:
            InputError: the runtime cannot compute a tower.
        """
        self.runtime.prepare(message)

    def upload(self, images: Sequence[ImageArray]) -> Sequence[Pixels]:
        """The images where the model computes: once for all its parts."""
        return images if self.device.type == "cpu" else pixels_on(self.device, images)

    def read(
        self,
        images: Sequence[Pixels],
        embeddings: Sequence[ImageEmbedding],
        maps: Sequence[ImageTokens],
        boxes: Sequence[FloatArray],
        masks: bool = False,
        stage: Stage = untimed,
    ) -> list[Regions]:
        """As `regions`, for images that both towers have encoded already.

        Args:
            images: uint8 (H, W, 3) RGB each.
            embeddings: of each image, by the localizer.
            maps: of each image, by the encoder.
            boxes: for each image, float32 (N, 4) xyxy pixels that were checked.
            masks: whether each region gets a mask.
            stage: gives the context of `localizer` and of `encoder+head`.
        """
        with stage("localizer"):
            tokens = self.localizer.tokens_of_all(embeddings, boxes, masks)
        with stage("encoder+head"):
            regions = self.embed(images, tokens, maps, boxes)
        if not masks:
            return regions
        with stage("localizer"):
            found = masks_of_all(tokens, embeddings, boxes)
            return [
                replace(each, masks=own, mask_iou=iou)
                for each, (own, iou) in zip(regions, found, strict=True)
            ]

    @torch.inference_mode()
    def embed(
        self,
        images: Sequence[Pixels],
        tokens: Sequence[RegionTokens],
        maps: Sequence[ImageTokens],
        boxes: Sequence[FloatArray],
    ) -> list[Regions]:
        """The regions of each image, from what both towers gave; box-pooled where they pool."""
        pooler = self.encoder.pooler
        if pooler is None:
            batch = [
                _Inputs(t.tokens, m.sequence(), None, None)
                for t, m in zip(tokens, maps, strict=True)
            ]
        else:
            pooled = pooler.pool_all(images, maps, boxes)  # (N, P) each; priors are (N, D)
            batch = [
                _Inputs(t.tokens, m.sequence(), p, pooler.prior(p))
                for t, m, p in zip(tokens, maps, pooled, strict=True)
            ]
        return self.scorer.regions(batch)

    def label(self, boxes: FloatArray, regions: Regions, vocabulary: Vocabulary) -> Labels:
        """The best word of each region: a matrix product.

        Args:
            boxes: (N, 4) xyxy pixels of the regions.
            regions: of the boxes.
            vocabulary: K words of this model.

        Raises:
            InputError: the words were embedded by another model.
        """
        return label_regions(boxes, regions, vocabulary, self.calibration)

    def provenance(self) -> dict[str, str]:
        """What the labels of this model come from: versions and sha256 of every weight file."""
        result = versions() | sha256_by_preset(self.config.name)
        result["precision"] = str(self.dtype).removeprefix("torch.")
        result["runtime"] = self.runtime.name
        if self.checkpoint:
            result["head"] = sha256_of(self.checkpoint)
        return result


RegionModel = RegionSpot | CropClassifier


def load_model(
    model: str | ModelConfig | CropConfig = "mini",
    device: str = "auto",
    checkpoint: str | Path | None = None,
    dtype: torch.dtype | None = None,
    runtime: str = "auto",
) -> RegionModel:
    """Build a model and load its weights.

    Args:
        model: a name, as of `regionspot.config.model_config`, or a configuration.
        device: `auto`, `cpu` or `cuda`.
        checkpoint: the trained head; by default the one that is shipped or was imported.
        dtype: of the towers' large products; by default bfloat16 where the device is fast at it.
        runtime: what computes the image towers: `torch`, `openvino`, or `auto` for OpenVINO where
            it is installed and `resolve_runtime` knows it to be faster.

    Raises:
        InputError: an unknown name, or weights that cannot be had or do not fit.
    """
    config = model_config(model) if isinstance(model, str) else model
    where = resolve_device(device)
    precision = dtype or fast_dtype(where)
    path = head_file(config, checkpoint)
    trained = load_head(path, config) if path and isinstance(config, ModelConfig) else None
    towers = build_runtime(resolve_runtime(runtime, where, config.name))
    encoder = build_encoder(config.encoder, where, precision, towers)
    if isinstance(config, CropConfig):
        build = partial(build_localizer, config.localizer, where, precision, "transformer", towers)
        return CropClassifier(config, encoder, build, where, precision)
    assert trained is not None, "a model that takes no crops has a head"
    trained = replace(trained, head=trained.head.to(where))
    localizer = build_localizer(config.localizer, where, precision, config.token, towers)
    scorer = RegionScorer.of(encoder, trained, config.encoder.templates)
    return RegionSpot(config, localizer, scorer, where, precision, path, towers)


def build_localizer(
    name: str, device: torch.device, dtype: torch.dtype, token: TokenSource, runtime: Runtime
) -> SamLocalizer:
    """A SAM on a device; arguments as of `build_sam` and `SamLocalizer`."""
    return SamLocalizer(build_sam(name).to(device), dtype, token, runtime=runtime)


def head_file(config: ModelConfig | CropConfig, checkpoint: str | Path | None) -> Path | None:
    """The trained head of a model; None for a model without one.

    Args:
        config: of the model.
        checkpoint: that was asked for; None: the one that is shipped or was imported.

    Raises:
        InputError: there is none, or one was asked for of a model without.
    """
    if isinstance(config, ModelConfig):
        return Path(checkpoint) if checkpoint else find_checkpoint(config.name)
    if checkpoint:
        raise InputError(f"{config.name} has no trained head; leave --checkpoint out")
    return None


def find_checkpoint(name: str) -> Path:
    """Where the head of a preset lies: shipped in the package, or imported into the cache.

    Raises:
        InputError: there is none.
    """
    for folder in (SHIPPED, cache_folder() / "heads"):
        path = folder / f"{name}.safetensors"
        if path.exists():
            return path
    raise InputError(
        f"no trained head for {name!r}: import a released one with "
        f"`autolabel models import FILE --preset {name}`, or train one"
    )


class Predictor:
    """Interactive use, after segment-anything's `SamPredictor`: both towers run once an image."""

    def __init__(self, model: RegionSpot) -> None:
        self.model = model
        self._image: ImageArray | None = None
        self._embedding: ImageEmbedding | None = None
        self._map: ImageTokens | None = None

    def set_image(self, image: ImageArray) -> None:
        """Encode the image that boxes are then given of.

        Args:
            image: uint8 (H, W, 3) in [0, 255], RGB, upright (after EXIF orientation), of any size.

        Raises:
            InputError: another shape or type.
        """
        checked_input(image, np.zeros((0, 4), np.float32))
        self._image = image
        self._embedding = self.model.localizer.encode(image)
        (self._map,) = self.model.encoder.image_tokens([image])

    def predict(self, boxes: FloatArray, vocabulary: Vocabulary, masks: bool = False) -> Labels:
        """Label boxes of the image that was set.

        Args:
            boxes: (N, 4) xyxy pixels of that image, x1 < x2 in [0, W] and y1 < y2 in [0, H]; (0, 4)
                is allowed. Regions attend to each other: a box's label depends on the others.
            vocabulary: K words, made with `model.vocabulary(words)`.
            masks: whether each label gets a mask, cut to its box.

        Returns:
            One row a box, in the order of the boxes:
            `boxes` (N, 4) float32, as given;
            `class_id` and `runner_up` (N,) int64 in [0, K), the best and the second-best word;
            `score` (N,) float32 in [0, 1], the best word's softmax probability over the K words;
            `margin` (N,) float32 in [0, 1], the best probability less the second-best;
            `presence` (N,) float32 in [0, 1], a sigmoid of the best word's score alone, which does
            not depend on the other words;
            `masks`, N run-length masks (H, W) in the image's frame, or empty;
            `mask_iou` (N,) float32, the localizer's estimate of each mask's IoU, or (0,).

        Raises:
            InputError: no image was set, boxes that cannot be used, or words of another model.
        """
        if self._image is None or self._embedding is None or self._map is None:
            raise InputError("no image is set; call set_image first")
        checked = checked_input(self._image, boxes)
        (regions,) = self.model.read(
            [self._image], [self._embedding], [self._map], [checked], masks
        )
        return self.model.label(checked, regions, vocabulary)
