"""A synthetic review: hundreds of regions, in which a token encodes the class."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from integrations.fiftyone.review import ReviewedImage
from regionspot.head import HeadConfig, RegionHead
from regionspot.scoring import RegionScorer
from regionspot.types import ScoreCalibration, Vocabulary
from regionspot.zero_shot import FeatureAdapter, ZeroShotClassifier
from tests.regionspot.factories import small_encoder
from train.config import FinetuneConfig
from train.features.cache import ImageFeatures
from train.finetune.examples import ExampleSet, replayed_examples, reviewed_examples
from train.finetune.finetune import finetune_head

encoder = cache(small_encoder)

CLASSES = ("cat", "dog", "cup", "chair", "car", "boat")
NEW_CLASSES = ("kitten", "mug")
RENAMED = {"cat": "kitten", "cup": "mug"}
WIDTH, CHANNELS, SCALE = 16, 24, 10.0
FROM_SCRATCH = FinetuneConfig(epochs=12, learning_rate=3e-3, anchor_weight=0, kl_weight=0)
HEAD = HeadConfig(
    map_width=CHANNELS,
    text_width=WIDTH,
    width=32,
    depth=1,
    feedforward=32,
    dropout=0.1,
    pooled_width=CHANNELS,
)


def vocabulary(*names: str) -> Vocabulary:
    generator = torch.Generator().manual_seed(7)
    every, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator))
    return Vocabulary(names, every[[(CLASSES + NEW_CLASSES).index(name) for name in names]])


def scorer(head: RegionHead, zero_shot: ZeroShotClassifier | None = None) -> RegionScorer:
    calibration = ScoreCalibration.of_encoder(SCALE)
    return RegionScorer(encoder(), "name", head, calibration, zero_shot)


def features(names: tuple[str, ...], seed: int) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    tokens = 0.2 * torch.randn(len(names), 256, generator=generator)
    pooled = 0.3 * torch.randn(len(names), CHANNELS, generator=generator)
    for row, name in enumerate(names):
        tokens[row, CLASSES.index(name)] += 10
        pooled[row, CLASSES.index(name)] += 3
    memory = torch.randn(5, CHANNELS, generator=generator)
    return ImageFeatures(names, tokens, memory, pooled, torch.zeros(len(names), WIDTH))


def photos(count: int, seed: int = 0) -> list[ImageFeatures]:
    """Images of four regions each."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randint(len(CLASSES), (count, 4), generator=generator).tolist()
    return [
        features(tuple(CLASSES[k] for k in row), 1000 * seed + i) for i, row in enumerate(columns)
    ]


def renamed(images: list[ImageFeatures], names: dict[str, str]) -> list[ImageFeatures]:
    """The images with other class names."""
    return [replace(i, names=tuple(names.get(name, name) for name in i.names)) for i in images]


def head_trained_on(images: list[ImageFeatures], head: RegionHead | None = None) -> RegionHead:
    """A head that classifies the images' classes among `CLASSES`."""
    torch.manual_seed(0)
    initial = scorer(head or RegionHead(HEAD).eval())
    examples = replayed_examples(images, initial, vocabulary(*CLASSES))
    return finetune_head(initial, [examples], FROM_SCRATCH)


@cache
def trained_head() -> RegionHead:
    """A head that classifies `CLASSES`."""
    return head_trained_on(photos(100, seed=1))


@cache
def head_mistaking_boats() -> RegionHead:
    """A head that was trained to call boats cars."""
    return head_trained_on(renamed(photos(100, seed=1), {"boat": "car"}), trained_head())


def reviewed_image(
    number: int, given: tuple[str, ...], predicted: tuple[str, ...]
) -> ReviewedImage:
    boxes = np.tile(np.array([[0, 0, 8, 8]], np.float32), (len(given), 1))
    drawn = np.zeros((0, 4), np.float32)
    return ReviewedImage(number, Path("x"), 9, 9, boxes, drawn, given, predicted)


def renaming_review(initial: RegionScorer, images: list[ImageFeatures], count: int) -> ExampleSet:
    """In the first images the annotator gives regions of `RENAMED` classes their new names."""
    reviewed = [
        reviewed_image(
            number,
            tuple(RENAMED.get(name, "") if number < count else "" for name in image.names),
            image.names,
        )
        for number, image in enumerate(images)
    ]
    return reviewed_examples(reviewed, images, initial, vocabulary(*CLASSES, *NEW_CLASSES))


def boat_review(initial: RegionScorer) -> ExampleSet:
    """In some images the annotator corrects cars to boats."""
    images = photos(60, seed=2)
    reviewed = [
        reviewed_image(
            number,
            tuple("boat" if name == "boat" and number < 20 else "" for name in image.names),
            tuple("car" if name == "boat" else name for name in image.names),
        )
        for number, image in enumerate(images)
    ]
    assert initial.zero_shot
    classes = initial.zero_shot.extend(vocabulary(*CLASSES))
    return reviewed_examples(reviewed, images, initial, classes)


def tower(rows: torch.Tensor) -> ZeroShotClassifier:
    """A classifier of the first classes, one a row; the head was trained on three."""
    classifier = torch.nn.Linear(CHANNELS, len(rows), bias=False)
    classifier.weight.data = rows
    inputs = [each.region_features for each in photos(20) if each.region_features is not None]
    identity = FeatureAdapter(
        torch.cat(inputs).mean(0),
        torch.cat([torch.ones(CHANNELS), torch.full((256,), 0.02)]),
        torch.zeros(CHANNELS + 256, 0),
        torch.zeros(0, CHANNELS),
    )
    meanings = vocabulary(*CLASSES[: len(rows)]).embedding
    return ZeroShotClassifier(classifier, meanings, vocabulary(*CLASSES[:3]).embedding, identity)


def accuracy(tested: RegionScorer, *classes: str) -> float:
    """Fraction of the regions of these classes that are classified correctly among `CLASSES`."""
    assert tested.zero_shot
    known = tested.zero_shot.extend(vocabulary(*CLASSES))
    examples = replayed_examples(photos(200, seed=3), tested, known).examples
    target = torch.cat([each.target for each in examples])
    prediction = torch.cat([each.prediction for each in examples])
    chosen = torch.isin(target, torch.tensor([CLASSES.index(name) for name in classes]))
    return float((prediction == target)[chosen].float().mean())
