"""What puts words on boxes: the protocol that the model and the paper's baselines share.

Axes: N regions, K words, D text width.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from regionspot.boxes import FloatArray, as_boxes, check_boxes
from regionspot.errors import InputError
from regionspot.scoring import Scoring, cosines, presence, word_shares
from regionspot.types import ImageArray, Labels, Regions, Vocabulary
from regionspot.vocabulary import Words


class RegionClassifier(Protocol):
    """Labels given boxes with words: `RegionSpot`, or CLIP on crops."""

    def vocabulary(self, words: Words) -> Vocabulary:
        """Embed words, or words with their synonyms, for this classifier."""

    def regions(
        self, images: Sequence[ImageArray], boxes: Sequence[FloatArray], masks: bool = False
    ) -> list[Regions]:
        """Embeddings of the xyxy pixel boxes (N, 4) of each RGB image, uint8 (H, W, 3)."""

    def label(self, boxes: FloatArray, regions: Regions, vocabulary: Vocabulary) -> Labels:
        """Compare region embeddings with words."""

    def predict(
        self, image: ImageArray, boxes: FloatArray, vocabulary: Vocabulary, masks: bool = False
    ) -> Labels:
        """One row a box of one image, in the order of the boxes."""


def checked_input(image: ImageArray, boxes: FloatArray) -> FloatArray:
    """The boxes as float32 (N, 4), once image and boxes are found usable.

    Raises:
        InputError: the message says what was expected and what came.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        came = getattr(image, "dtype", type(image).__name__)
        raise InputError(f"image must be a uint8 array (H, W, 3) RGB, got {came}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"image must be (H, W, 3) RGB, got {image.shape}")
    array = as_boxes(boxes)
    check_boxes(array, width=image.shape[1], height=image.shape[0])
    return array


def checked_batch(images: Sequence[ImageArray], boxes: Sequence[FloatArray]) -> list[FloatArray]:
    """The boxes of each image of a batch, as `checked_input`.

    Raises:
        InputError: not as many sets of boxes as images, or one that cannot be used.
    """
    if len(images) != len(boxes):
        raise InputError(f"expected boxes for {len(images)} images, got {len(boxes)}")
    return [checked_input(i, b) for i, b in zip(images, boxes, strict=True)]


def label_regions(
    boxes: FloatArray, regions: Regions, vocabulary: Vocabulary, scoring: Scoring
) -> Labels:
    """Compare region embeddings (N, D) with words (K, D): one matrix product.

    Args:
        boxes: (N, 4) that the regions were made of.

    Raises:
        InputError: the words were embedded by another model.
    """
    widths = regions.embedding.shape[-1], vocabulary.embedding.shape[-1]
    if widths[0] != widths[1]:
        raise InputError(
            f"the vocabulary must be (K, {widths[0]}) as this model embeds it, got "
            f"{tuple(vocabulary.embedding.shape)}; make it with model.vocabulary(words)"
        )
    cosine = cosines(regions.embedding, vocabulary)
    shares = word_shares(cosine, scoring)
    best, order = shares.topk(min(2, len(vocabulary)), dim=-1)
    class_id = order[:, :1]
    second = best[:, 1] if len(vocabulary) > 1 else torch.zeros(len(best))
    return Labels(
        boxes=as_boxes(boxes),
        class_id=class_id[:, 0].numpy(),
        score=best[:, 0].numpy(),
        runner_up=order[:, -1].numpy(),
        margin=(best[:, 0] - second).numpy(),
        presence=presence(cosine, vocabulary, scoring).gather(1, class_id)[:, 0].numpy(),
        names=vocabulary.names,
        masks=regions.masks,
        mask_iou=regions.mask_iou,
    )
