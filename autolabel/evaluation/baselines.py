"""The baselines of the paper's Table 1: the encoder alone, on what each box cuts out.

Axes: N regions, D text width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from regionspot import RegionSpot
from regionspot.boxes import FloatArray
from regionspot.encoders import VisionLanguageEncoder
from regionspot.localizers.masks import run_length_masks
from regionspot.localizers.sam import SamLocalizer
from regionspot.scoring import checked_batch, label_regions
from regionspot.types import (
    ImageArray,
    Labels,
    Regions,
    Rle,
    ScoreCalibration,
    Vocabulary,
    decode_mask,
)
from regionspot.vocabulary import Words, build_vocabulary

CropKind = Literal["box", "mask"]
BACKGROUND = (122, 116, 104)  # CLIP's mean colour, which its normalisation turns into zeros


@dataclass(frozen=True)
class CropClassifier:
    """Each region cut out and encoded as an image of its own: a pass of the image tower a box.

    Attributes:
        localizer: gives the masks.
        templates: the prompt ensemble, as of `regionspot.vocabulary.templates`.
        crops: `box`, the pixels of the box; `mask`, the same with all that is not the region
            painted over.
        calibration: of the encoder's logit scale. No sigmoid was trained on these scores, so that
            `presence` orders labels and is no probability.
        batch_size: crops that go through the image tower at once.
    """

    encoder: VisionLanguageEncoder
    localizer: SamLocalizer
    templates: str
    crops: CropKind
    calibration: ScoreCalibration
    batch_size: int = 32

    def vocabulary(self, words: Words) -> Vocabulary:
        """Embed words, or words with their synonyms, as `RegionSpot.vocabulary`."""
        return build_vocabulary(self.encoder, words, self.templates)

    def regions(
        self, images: Sequence[ImageArray], boxes: Sequence[FloatArray], masks: bool = False
    ) -> list[Regions]:
        """As `RegionSpot.regions`; the crops of all images share their batches.

        Raises:
            InputError: an image or boxes that cannot be used.
        """
        checked = checked_batch(images, boxes)
        with_masks = masks or self.crops == "mask"
        empty = Regions(torch.zeros(0, self.encoder.text_width))
        found = [
            self._masks(image, rows) if with_masks else empty
            for image, rows in zip(images, checked, strict=True)
        ]
        crops = [
            cut_out(image, box, each.masks[row] if self.crops == "mask" else None)
            for image, rows, each in zip(images, checked, found, strict=True)
            for row, box in enumerate(rows)
        ]
        features = torch.split(self._encode(crops), [len(rows) for rows in checked])
        return [
            Regions(feature, each.masks, each.mask_iou) if masks else Regions(feature)
            for feature, each in zip(features, found, strict=True)
        ]

    def _masks(self, image: ImageArray, boxes: FloatArray) -> Regions:
        embedding = self.localizer.encode(image)
        tokens = self.localizer.tokens(embedding, boxes, masks=True)
        assert tokens.mask_iou is not None, "masks were asked for"
        masks = run_length_masks(tokens, embedding, boxes)
        return Regions(tokens.tokens, masks, tokens.mask_iou.cpu().numpy())

    def _encode(self, crops: Sequence[ImageArray]) -> torch.Tensor:
        parts = [
            self.encoder.image_features(crops[start : start + self.batch_size])
            for start in range(0, len(crops), self.batch_size)
        ]
        return torch.cat([torch.zeros(0, self.encoder.text_width), *parts])

    def label(self, boxes: FloatArray, regions: Regions, vocabulary: Vocabulary) -> Labels:
        """Compare region embeddings with words, as `RegionSpot.label`."""
        return label_regions(boxes, regions, vocabulary, self.calibration)

    def predict(
        self, image: ImageArray, boxes: FloatArray, vocabulary: Vocabulary, masks: bool = False
    ) -> Labels:
        """Label given boxes of one image, as `RegionSpot.predict`."""
        (regions,) = self.regions([image], [boxes], masks)
        return self.label(boxes, regions, vocabulary)


def cut_out(image: ImageArray, box: FloatArray, mask: Rle | None = None) -> ImageArray:
    """The pixels that an xyxy pixel box touches, and of these, if a mask is given, the mask's.

    Returns:
        uint8 (h, w, 3), at least one pixel.
    """
    x1, y1 = (int(v) for v in np.floor(box[:2]))
    x2, y2 = (int(v) for v in np.ceil(box[2:]))
    crop = image[y1:y2, x1:x2]
    if mask is None:
        return crop
    inside = decode_mask(mask)[y1:y2, x1:x2, None]
    return np.where(inside, crop, np.array(BACKGROUND, np.uint8))


def crop_baseline(model: RegionSpot, crops: CropKind) -> CropClassifier:
    """A baseline with the towers of a model, whose head it does not use."""
    calibration = ScoreCalibration.of_encoder(model.encoder.logit_scale)
    templates = model.config.encoder.templates
    return CropClassifier(model.encoder, model.localizer, templates, crops, calibration)
