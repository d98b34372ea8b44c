"""Zero-shot classification of boxes without a trained head: the encoder on what each box cuts out.

With crops at one scale these are the baselines of the paper's Table 1; the crop presets ensemble
the box and its context, as ViLD does (Gu et al. 2022, arXiv 2104.13921, section 3.2).

Axes: N regions, S scales of crops, D text width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional as F

from regionspot.boxes import FloatArray
from regionspot.config import CropConfig
from regionspot.devices.runtime import TORCH, Runtime
from regionspot.devices.transfer import pixels_on
from regionspot.encoders import VisionLanguageEncoder
from regionspot.errors import InputError
from regionspot.examples.classes import ExampleRegions, Examples, WordOrExamples
from regionspot.localizers.masks import masks_of_all
from regionspot.localizers.sam import SamLocalizer
from regionspot.scoring import Stage, checked_batch, label_regions, untimed
from regionspot.types import (
    ImageArray,
    Labels,
    Pixels,
    Regions,
    Rle,
    ScoreCalibration,
    Vocabulary,
    decode_mask,
)
from regionspot.vocabulary import Words, build_vocabulary
from regionspot.weights import sha256_by_preset, versions

BACKGROUND = (122, 116, 104)  # CLIP's mean colour, which its normalisation turns into zeros
BATCH = 32  # crops that go through the image tower at once


@dataclass(frozen=True)
class CropClassifier:
    """Each region cut out and encoded as an image of its own: a pass of the image tower a crop.

    Its interface is that of `RegionSpot`.

    Attributes:
        config: which crops are taken.
        build_localizer: gives the SAM of masks, which is loaded once it is needed.
        device: where both compute.
        dtype: of the image tower's large products.
    """

    config: CropConfig
    encoder: VisionLanguageEncoder
    build_localizer: Callable[[], SamLocalizer]
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def localizer(self) -> SamLocalizer:
        """The SAM that gives masks.

        Raises:
            InputError: its weights cannot be had.
        """
        try:
            return self.build_localizer()
        except InputError as error:
            raise InputError(f"{error}; {self.config.name} needs it for masks alone") from error

    @property
    def calibration(self) -> ScoreCalibration:
        """Of the encoder's own logits.

        `presence` is a trained sigmoid where the encoder has one, as SigLIP has; of CLIP it only
        orders labels.
        """
        return ScoreCalibration.of_encoder(self.encoder.logit_scale, self.encoder.logit_bias)

    @property
    def runtime(self) -> Runtime:
        """What computes the image tower."""
        return TORCH

    @property
    def in_batches(self) -> bool:
        """Whether the crops of several images share batches, which changes their last bits."""
        return self.device.type != "cpu"

    def vocabulary(self, words: Words | Mapping[str, WordOrExamples]) -> Vocabulary:
        """Embed words, as `RegionSpot.vocabulary`.

        Raises:
            InputError: no words, an empty word, the same word twice, or examples.
        """
        texts: dict[str, Sequence[str]] = {}
        if not isinstance(words, Mapping):
            return build_vocabulary(self.encoder, words, self.config.encoder.templates)
        for name, strings in words.items():
            if isinstance(strings, Examples | ExampleRegions):
                raise InputError(
                    f"examples of {name!r}: their weights are fitted to models with a trained "
                    f"head, and {self.config.name} has none; give words alone, or take mini"
                )
            texts[name] = strings
        return build_vocabulary(self.encoder, texts, self.config.encoder.templates)

    def regions(
        self, images: Sequence[ImageArray], boxes: Sequence[FloatArray], masks: bool = False
    ) -> list[Regions]:
        """As `RegionSpot.regions`; the crops of all images share their batches.

        Raises:
            InputError: an image or boxes that cannot be used.
        """
        return self.compute(images, checked_batch(images, boxes), masks)

    def compute(
        self,
        images: Sequence[ImageArray],
        boxes: Sequence[FloatArray],
        masks: bool = False,
        stage: Stage = untimed,
    ) -> list[Regions]:
        """As `regions`, for boxes that were checked; `stage` as of `RegionSpot.read`."""
        by_mask = self.config.crops == "mask"
        on_cpu = self.device.type == "cpu"
        pixels: Sequence[Pixels] = images if on_cpu else pixels_on(self.device, images)
        found: list[tuple[tuple[Rle, ...], FloatArray]] = [((), np.zeros(0, np.float32))] * len(
            images
        )
        if (masks or by_mask) and images:
            with stage("localizer"):
                embeddings = self.localizer.encode_all(pixels)
                tokens = self.localizer.tokens_of_all(embeddings, boxes, masks=True)
                found = masks_of_all(tokens, embeddings, boxes)
        with stage("encoder+head"):
            crops = [
                cut_out(image, box, of_image[row] if by_mask else None, scale)
                for image, rows, (of_image, _) in zip(pixels, boxes, found, strict=True)
                for row, box in enumerate(rows)
                for scale in self.config.scales
            ]
            embedded = torch.split(self._embed(crops), [len(rows) for rows in boxes])
        return [
            Regions(rows, *each) if masks else Regions(rows)
            for rows, each in zip(embedded, found, strict=True)
        ]

    def _embed(self, crops: Sequence[Pixels]) -> torch.Tensor:
        """Unit embeddings (N, D) of N S crops, S of each region: the mean of unit embeddings."""
        parts = [
            self.encoder.image_features(crops[start : start + BATCH])
            for start in range(0, len(crops), BATCH)
        ]
        features = torch.cat([torch.zeros(0, self.encoder.text_width), *parts])  # (N S, D)
        S, D = len(self.config.scales), features.shape[-1]
        return F.normalize(F.normalize(features.view(-1, S, D), dim=-1).mean(1), dim=-1)

    def no_regions(self) -> Regions:
        """The regions of an image without boxes."""
        return Regions(torch.zeros(0, self.encoder.text_width))

    def label(self, boxes: FloatArray, regions: Regions, vocabulary: Vocabulary) -> Labels:
        """Compare region embeddings with words, as `RegionSpot.label`."""
        return label_regions(boxes, regions, vocabulary, self.calibration)

    def predict(
        self, image: ImageArray, boxes: FloatArray, vocabulary: Vocabulary, masks: bool = False
    ) -> Labels:
        """Label given boxes of one image, as `RegionSpot.predict`."""
        (regions,) = self.regions([image], [boxes], masks)
        return self.label(boxes, regions, vocabulary)

    def prepare(self, _message: Callable[[str], None]) -> None:
        """Nothing is left to do: torch computes the towers."""

    def provenance(self) -> dict[str, str]:
        """What the labels come from: versions, and sha256 of every weight file."""
        return (
            versions()
            | sha256_by_preset(self.config.name)
            | dict(self.encoder.weights)
            | {"precision": str(self.dtype).removeprefix("torch."), "runtime": "torch"}
        )


def cut_out(image: Pixels, box: FloatArray, mask: Rle | None = None, scale: float = 1.0) -> Pixels:
    """The pixels that an xyxy pixel box touches, and of these, if a mask is given, the mask's.

    Args:
        image: uint8 (H, W, 3) RGB.
        box: (4,) inside the image.
        mask: of the image's size.
        scale: of the box's sides, about its centre; what lies outside of the image is left out.

    Returns:
        uint8 (h, w, 3), at least one pixel.
    """
    margin = (scale - 1) / 2 * (box[2:] - box[:2])
    x1, y1 = (max(0, int(v)) for v in np.floor(box[:2] - margin))
    x2, y2 = (int(v) for v in np.ceil(box[2:] + margin))
    crop = image[y1:y2, x1:x2]
    if mask is None:
        return crop
    inside = decode_mask(mask)[y1:y2, x1:x2, None]
    pixels = crop.cpu().numpy() if isinstance(crop, torch.Tensor) else crop
    return np.where(inside, pixels, np.array(BACKGROUND, np.uint8))
