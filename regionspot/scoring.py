"""From regions and words to scores, probabilities and labels.

Axes: N regions, K words, D text width, M classes of the encoder's own classifier.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional as F

from regionspot.boxes import FloatArray, as_boxes, check_boxes
from regionspot.checkpoint import TrainedHead
from regionspot.devices.transfer import to_host
from regionspot.encoders import VisionLanguageEncoder
from regionspot.errors import InputError
from regionspot.examples.classes import (
    PRESENCE_BIAS,
    PRESENCE_SCALE,
    ExampleRegions,
    add_examples,
    check_examples,
    example_classes,
)
from regionspot.head import HeadInputs, RegionHead
from regionspot.nouns.bank import bank_presence, evidence, noun_bank
from regionspot.nouns.detector_classes import pooled_probabilities
from regionspot.nouns.wordnet import noun_hierarchy
from regionspot.types import ImageArray, Labels, NounBank, Regions, ScoreCalibration, Vocabulary
from regionspot.vocabulary import Words, build_vocabulary
from regionspot.zero_shot import (
    CLASSIFIER_WEIGHT,
    SEEN_DISCOUNT,
    UNSEEN_BIAS,
    ZeroShotClassifier,
    region_features,
)

# Gives the context in which the work of a stage, `localizer` or `encoder+head`, is done.
Stage = Callable[[str], AbstractContextManager[None]]


def untimed(_stage: str) -> AbstractContextManager[None]:
    """A stage that nobody times."""
    return nullcontext()


class RegionClassifier(Protocol):
    """Labels given boxes with words: `RegionSpot`, or CLIP on crops."""

    @property
    def calibration(self) -> ScoreCalibration:
        """How its scores become probabilities."""

    def vocabulary(self, words: Words) -> Vocabulary:
        """Embed words, or words with their synonyms, for this classifier."""

    def regions(
        self, images: Sequence[ImageArray], boxes: Sequence[FloatArray], masks: bool = False
    ) -> list[Regions]:
        """Embeddings of the xyxy pixel boxes (N, 4) of each RGB image, uint8 (H, W, 3)."""

    def label(self, boxes: FloatArray, regions: Regions, vocabulary: Vocabulary) -> Labels:
        """Label boxes (N, 4) by their regions."""

    def predict(
        self, image: ImageArray, boxes: FloatArray, vocabulary: Vocabulary, masks: bool = False
    ) -> Labels:
        """Label xyxy pixel boxes (N, 4) of one RGB image, uint8 (H, W, 3)."""


@dataclass(frozen=True)
class RegionScorer:
    """Scores regions against words: the encoder, the trained head, calibration and zero-shot.

    Attributes:
        templates: the prompt ensemble of words, as of `regionspot.vocabulary.templates`.
        zero_shot: scores the classes that the head was not trained on; None: as all others.
    """

    encoder: VisionLanguageEncoder
    templates: str
    head: RegionHead
    calibration: ScoreCalibration
    zero_shot: ZeroShotClassifier | None = None

    @classmethod
    def of(
        cls, encoder: VisionLanguageEncoder, trained: TrainedHead, templates: str
    ) -> "RegionScorer":
        """A trained head beside the encoder that it was trained with."""
        calibration = trained.calibration or ScoreCalibration.of_encoder(encoder.logit_scale)
        zero_shot = None
        if encoder.pooler and trained.seen_classes:
            seen = build_vocabulary(encoder, trained.seen_classes, templates)
            zero_shot = encoder.pooler.zero_shot(seen.embedding, trained.adapter)
        return cls(encoder, templates, trained.head, calibration, zero_shot)

    def vocabulary(self, words: Words) -> Vocabulary:
        """Embed words, or words with their synonyms.

        Raises:
            InputError: no words, an empty word, or the same word twice.
        """
        vocabulary = build_vocabulary(self.encoder, words, self.templates)
        if self.zero_shot is None:
            return vocabulary
        vocabulary = self.zero_shot.extend(vocabulary)
        return replace(vocabulary, bank=noun_bank(self._nouns, vocabulary))

    @cached_property
    def _nouns(self) -> Vocabulary:
        """The bank's nouns, embedded; their texts are kept in the user's cache."""
        assert self.zero_shot is not None, "their presence is asked for"
        nouns = build_vocabulary(self.encoder, noun_hierarchy().names, self.templates)
        return self.zero_shot.extend(nouns)

    def with_examples(self, words: Mapping[str, Sequence[str] | ExampleRegions]) -> Vocabulary:
        """Embed words of which some have example regions.

        Raises:
            InputError: as `vocabulary`, or examples that cannot be used.
        """
        groups = [each if isinstance(each, ExampleRegions) else None for each in words.values()]
        texts = {
            name: each.strings if isinstance(each, ExampleRegions) else each
            for name, each in words.items()
        }
        vocabulary = self.vocabulary(texts)
        if not any(groups):
            return vocabulary
        return with_example_classes(vocabulary, groups)

    def regions(self, batch: Sequence[HeadInputs]) -> list[Regions]:
        """The regions of each image of a batch, on the CPU."""
        found = self.head.regions(batch)
        logits = [each for image in batch if (each := self._class_logits(image)) is not None]
        on_host = to_host([*(each.embedding for each in found), *logits])
        embeddings = on_host[: len(found)]
        classes: Sequence[torch.Tensor | None] = on_host[len(found) :] or [None] * len(found)
        return [
            replace(regions, embedding=embedding, class_logits=own)
            for regions, embedding, own in zip(found, embeddings, classes, strict=True)
        ]

    @torch.inference_mode()
    def class_logits(self, image: HeadInputs) -> torch.Tensor | None:
        """(N, M) of an image's regions, on the CPU; None without a zero-shot classifier."""
        logits = self._class_logits(image)
        return None if logits is None else logits.cpu()

    def _class_logits(self, image: HeadInputs) -> torch.Tensor | None:
        if self.zero_shot is None:
            return None
        assert image.pooled is not None, "an encoder with a classifier pools boxes"
        return self.zero_shot.class_logits(region_features(image.pooled, image.tokens))

    def no_regions(self) -> Regions:
        """The regions of an image without boxes."""
        logits = torch.zeros(0, len(self.zero_shot.meanings)) if self.zero_shot else None
        return Regions(torch.zeros(0, self.head.config.text_width), class_logits=logits)


def class_scores(regions: Regions, vocabulary: Vocabulary) -> torch.Tensor:
    """Scores (N, K) of regions with words, in float32; gradients reach the embeddings.

    Examples of a word add to the score of its text, as `regionspot.examples` says.

    Raises:
        InputError: the words were embedded by another model.
    """
    scores = text_scores(regions, vocabulary)
    if vocabulary.examples is None:
        return scores
    embedding = F.normalize(regions.embedding.float(), dim=-1)
    return add_examples(scores, embedding, regions.class_logits, vocabulary.examples)


def with_example_classes(
    vocabulary: Vocabulary, groups: Sequence[ExampleRegions | None]
) -> Vocabulary:
    """A vocabulary whose classes have examples.

    Args:
        vocabulary: K classes.
        groups: the examples of each; None: text alone scores it.

    Raises:
        InputError: a class has no example, or its regions are those of another model.
    """
    check_examples(groups, vocabulary.names, vocabulary.embedding.shape[-1])
    texts = [
        torch.cat([text_scores(each, vocabulary) for each in group.regions])
        for group in groups
        if group
    ]
    return replace(vocabulary, examples=example_classes(groups, texts, vocabulary))


def text_scores(regions: Regions, vocabulary: Vocabulary) -> torch.Tensor:
    """Scores (N, K) of regions with the texts of words.

    Of a seen class the score is the cosine of region and word. Of an unseen class, by its novelty
    n in [0, 1], it is `cosine * (1 - SEEN_DISCOUNT n) + CLASSIFIER_WEIGHT n * logit + UNSEEN_BIAS
    n`, where the logit is that of the class's synthesized row in the encoder's own classifier.

    Raises:
        InputError: the words were embedded by another model.
    """
    width = regions.embedding.shape[-1]
    if vocabulary.embedding.shape[-1] != width:
        raise InputError(
            f"the vocabulary must be (K, {width}) as this model embeds it, got "
            f"{tuple(vocabulary.embedding.shape)}; make it with model.vocabulary(words)"
        )
    embedding = F.normalize(regions.embedding.float(), dim=-1)
    device = embedding.device
    cosine = embedding @ vocabulary.embedding.to(device).T  # (N, K)
    if vocabulary.zero_shot is None:
        return cosine
    novelty, mixture = vocabulary.zero_shot.novelty, vocabulary.zero_shot.mixture
    if regions.class_logits is None or regions.class_logits.shape[-1] != mixture.shape[-1]:
        came = None if regions.class_logits is None else tuple(regions.class_logits.shape)
        raise InputError(
            f"the regions must have class logits (N, {mixture.shape[-1]}) as the vocabulary mixes "
            f"them, got {came}; make both with the same model"
        )
    novelty = novelty.to(device)
    synthesized = regions.class_logits.float() @ mixture.to(device).T  # (N, M) @ (M, K)
    seen = (1 - SEEN_DISCOUNT * novelty) * cosine
    return seen + CLASSIFIER_WEIGHT * novelty * synthesized + UNSEEN_BIAS * novelty


def class_probabilities(scores: torch.Tensor, calibration: ScoreCalibration) -> torch.Tensor:
    """Softmax (N, K) over the vocabulary, of scores (N, K)."""
    return (scores * calibration.logit_scale).softmax(-1)


def presence(
    regions: Regions, scores: torch.Tensor, vocabulary: Vocabulary, calibration: ScoreCalibration
) -> torch.Tensor:
    """Probability (N, K) that a region shows a word, which does not depend on the other words.

    It compares the word with a bank of common nouns, as `regionspot.nouns.bank` says. Of a model
    without a bank, and of a word with examples, it is a sigmoid of the word's score alone, which
    depends on the examples of the other words, too.

    Args:
        regions: N of them.
        scores: (N, K) of `class_scores`.
        vocabulary: K words of the same model.
        calibration: from scores to probabilities.
    """
    bank, zero_shot, examples = vocabulary.bank, vocabulary.zero_shot, vocabulary.examples
    with_examples = None if examples is None else examples.has_examples.to(scores.device)  # (K,)
    if bank is None or zero_shot is None or (with_examples is not None and with_examples.all()):
        return _score_presence(scores, vocabulary, calibration)
    found = bank_presence(
        noun_evidence(regions, scores, bank, calibration.logit_scale), zero_shot.novelty
    )
    if with_examples is None:
        return found
    return torch.where(with_examples, _score_presence(scores, vocabulary, calibration), found)


def noun_evidence(
    regions: Regions, scores: torch.Tensor, bank: NounBank, logit_scale: float
) -> torch.Tensor:
    """Evidence (N, K) for words against the nouns of the bank, from scores (N, K) of the words."""
    return evidence(logit_scale * scores, logit_scale * text_scores(regions, bank.nouns), bank)


def _score_presence(
    scores: torch.Tensor, vocabulary: Vocabulary, calibration: ScoreCalibration
) -> torch.Tensor:
    """Sigmoid (N, K) of each score alone.

    The bias of unseen classes is subtracted: it only makes up for the head's preference for seen
    ones. Words with examples have a scale and bias of their own.
    """
    unbiased = scores
    if vocabulary.zero_shot is not None:
        bias = UNSEEN_BIAS * vocabulary.zero_shot.novelty.to(scores.device)  # (K,)
        unbiased = scores - bias
    found = torch.sigmoid(unbiased * calibration.presence_scale + calibration.presence_bias)
    if vocabulary.examples is None:
        return found
    by_examples = torch.sigmoid(scores * PRESENCE_SCALE + PRESENCE_BIAS)
    return torch.where(vocabulary.examples.has_examples.to(scores.device), by_examples, found)


def label_regions(
    boxes: FloatArray,
    regions: Regions,
    vocabulary: Vocabulary,
    calibration: ScoreCalibration,
    detected: torch.Tensor | None = None,
    detector_weight: float = 0.0,
) -> Labels:
    """The best word of each region.

    Args:
        boxes: (N, 4) xyxy pixels of the regions.
        regions: of the boxes.
        vocabulary: K words of the same model.
        calibration: from scores to probabilities.
        detected: (N, K) the detector's confidence in each word, as of `detected_words`.
        detector_weight: of `detected` beside the model's probabilities, in [0, 1].

    Raises:
        InputError: the words were embedded by another model.
    """
    scores = class_scores(regions, vocabulary)
    probabilities = class_probabilities(scores, calibration)
    if detected is not None:
        probabilities = pooled_probabilities(probabilities, detected, detector_weight)
    best, order = probabilities.topk(min(2, len(vocabulary)), dim=-1)  # (N, 2)
    class_id = order[:, :1]
    present = presence(regions, scores, vocabulary, calibration)
    second = best[:, 1] if len(vocabulary) > 1 else torch.zeros(len(best))
    return Labels(
        boxes=as_boxes(boxes),
        class_id=class_id[:, 0].numpy(),
        score=best[:, 0].numpy(),
        runner_up=order[:, -1].numpy(),
        margin=(best[:, 0] - second).numpy(),
        presence=present.gather(1, class_id)[:, 0].numpy(),
        names=vocabulary.names,
        masks=regions.masks,
        mask_iou=regions.mask_iou,
    )


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
