"""Fine-tuning targets per region: a class from the annotator, none, or the initial head's output.

Axes: N regions of one image, K classes, D text width.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from integrations.fiftyone.review import ReviewedImage
from regionspot.boxes import FloatArray
from regionspot.config import ModelConfig
from regionspot.scoring import RegionScorer, class_scores
from regionspot.types import Regions, Vocabulary
from train.data.dataset import AnnotatedImage
from train.features.cache import ImageFeatures
from train.features.extract import FeatureExtractor

IGNORE = -1  # target of a region without a class


@dataclass(frozen=True)
class FinetuneExample:
    """The regions of one image.

    Attributes:
        features: inputs of the head; their class names are empty.
        target: (N,) column of a region's class, `IGNORE` where nobody gave one.
        corrected: (N,) bool, where the annotator's class differs from the model's.
        unreviewed: (N,) bool, where the model's label was neither changed nor confirmed.
        background: (N,) bool, where the annotator verified that none of the classes is.
        initial: output of the initial head, embeddings L2-normalised.
        prediction: (N,) column of the class with the initial head's best score.
        distill: (N,) weight in [0, 1] of a region's distillation to the initial head.
    """

    features: ImageFeatures
    target: torch.Tensor
    corrected: torch.Tensor
    unreviewed: torch.Tensor
    background: torch.Tensor
    initial: Regions
    prediction: torch.Tensor
    distill: torch.Tensor

    @property
    def is_corrected(self) -> bool:
        """Whether the annotator corrected a region."""
        return bool(self.corrected.any())

    @property
    def is_reviewed(self) -> bool:
        """Whether a region has a class from the annotator, or is background."""
        return bool(((self.target != IGNORE) | self.background).any())


@dataclass(frozen=True)
class ExampleSet:
    """Examples that are classified among the same classes.

    Attributes:
        vocabulary: K classes, as the model's `RegionScorer` embeds them.
    """

    examples: tuple[FinetuneExample, ...]
    vocabulary: Vocabulary

    def only(self, rows: Sequence[int]) -> "ExampleSet":
        """The examples of these rows, in that order."""
        return replace(self, examples=tuple(self.examples[row] for row in rows))


def reviewed_examples(
    images: Sequence[ReviewedImage],
    features: Sequence[ImageFeatures],
    scorer: RegionScorer,
    vocabulary: Vocabulary,
) -> ExampleSet:
    """Examples of a review; a region that the annotator did not classify has no target.

    Args:
        images: of the review.
        features: of each image.
        scorer: the initial model.
        vocabulary: K classes, embedded by the scorer.
    """
    examples = []
    for image, each in zip(images, features, strict=True):
        example = _example(each, image.words, scorer, vocabulary)
        is_labelled = torch.tensor([bool(word) for word in image.predicted])
        unreviewed = is_labelled & (example.target == IGNORE)
        corrected = torch.from_numpy(image.corrected)
        background = torch.full_like(unreviewed, image.is_empty)
        examples.append(
            replace(example, corrected=corrected, unreviewed=unreviewed, background=background)
        )
    return ExampleSet(tuple(examples), vocabulary)


def replayed_examples(
    images: Sequence[ImageFeatures], scorer: RegionScorer, vocabulary: Vocabulary
) -> ExampleSet:
    """Examples of an annotated data set; each region has a target and is distilled, too."""
    examples = [_example(image, image.names, scorer, vocabulary) for image in images]
    return ExampleSet(
        tuple(replace(each, distill=torch.ones(len(each.target))) for each in examples), vocabulary
    )


def _example(
    features: ImageFeatures, names: Sequence[str], scorer: RegionScorer, vocabulary: Vocabulary
) -> FinetuneExample:
    """An example without corrections and distillation; names out of the vocabulary are ignored."""
    index = {name: column for column, name in enumerate(vocabulary.names)}
    (initial,) = scorer.regions([features])
    none = torch.zeros(len(names), dtype=torch.bool)
    return FinetuneExample(
        replace(features, names=("",) * len(names)),
        torch.tensor([index.get(name, IGNORE) for name in names], dtype=torch.int64),
        none,
        none,
        none,
        initial,
        class_scores(initial, vocabulary).argmax(1),
        torch.zeros(len(names)),
    )


def distilled(review: ExampleSet) -> ExampleSet:
    """Examples in which regions with neither target nor background are distilled.

    The weight follows from how often the annotator left the same predicted class unchanged in the
    images that they reviewed: 1 where they always did, 0 where they changed it as often as not. So
    a class that is always corrected does not hold back regions that nobody has reviewed yet.
    """
    weight = _kept_rate(review)
    examples = [
        replace(
            each,
            distill=torch.where(
                (each.target == IGNORE) & ~each.background, weight[each.prediction], 0.0
            ),
        )
        for each in review.examples
    ]
    return replace(review, examples=tuple(examples))


def _kept_rate(review: ExampleSet) -> torch.Tensor:
    """(K,) from 0, predictions changed as often as kept (one more is counted as kept), to 1."""
    kept, total = Counter[int](), Counter[int]()
    for example in review.examples:
        if not example.is_reviewed:
            continue
        predicted, has_target = example.prediction, example.target != IGNORE
        total.update(predicted[has_target | example.unreviewed].tolist())
        kept.update(predicted[example.unreviewed | (predicted == example.target)].tolist())
    rates = [(kept[k] + 1) / (total[k] + 1) for k in range(len(review.vocabulary))]
    return (2 * torch.tensor(rates) - 1).clamp(min=0)


def review_features(
    config: ModelConfig, images: Sequence[ReviewedImage], extractor: FeatureExtractor
) -> dict[int, ImageFeatures]:
    """Features of all regions of each image by its id, computed where the cache lacks them.

    Sampled images, other images, and drawn boxes are cached separately, so that one more
    correction does not invalidate all features. Images that cannot be read are reported and left
    out.
    """
    parts: list[dict[int, ImageFeatures]] = []
    skipped: dict[int, str] = {}
    for annotated in (
        [_annotated(image, image.proposals) for image in images if image.sampled],
        [_annotated(image, image.proposals) for image in images if not image.sampled],
        [_annotated(image, image.drawn) for image in images],
    ):
        annotated = [image for image in annotated if len(image.boxes)]
        if not annotated:
            continue
        found, reasons = extractor.some(config, annotated)
        skipped |= {annotated[row].id: reason for row, reason in reasons.items()}
        parts.append({annotated[row].id: each for row, each in found.items()})
    for reason in skipped.values():
        extractor.reporter.message(f"skipped: {reason}")
    return {
        image.id: _concatenated([part[image.id] for part in parts if image.id in part])
        for image in images
        if image.id not in skipped
    }


def _annotated(image: ReviewedImage, boxes: FloatArray) -> AnnotatedImage:
    names = ("",) * len(boxes)
    return AnnotatedImage(image.id, image.path, image.width, image.height, boxes, names)


def _concatenated(parts: Sequence[ImageFeatures]) -> ImageFeatures:
    """The features of one image whose boxes were extracted in several parts."""
    return replace(
        parts[0],
        names=tuple(name for part in parts for name in part.names),
        tokens=torch.cat([part.tokens for part in parts]),
        pooled=cat_or_none([part.pooled for part in parts]),
        prior=cat_or_none([part.prior for part in parts]),
    )


def cat_or_none(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """The concatenation along the first axis of those that are not None; None without any."""
    given = [part for part in parts if part is not None]
    return torch.cat(given) if given else None
