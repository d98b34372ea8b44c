"""An adapter of the image tower's classifier, fitted on some classes, holds for others."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regionspot.types import Vocabulary
from regionspot.zero_shot import ZeroShotClassifier
from tests.regionspot.factories import small_encoder
from tests.train.factories import images, training_set
from train.features.cache import ImageFeatures
from train.zero_shot import fit_adapter, fit_encoder_adapter

KINDS = ("cat", "dog", "cup", "kite")
CHANNELS = len(KINDS) + 2
EMBEDDINGS = torch.eye(8)[: len(KINDS)]


def vocabulary(words: tuple[str, ...]) -> Vocabulary:
    return Vocabulary(words, EMBEDDINGS[[KINDS.index(word) for word in words]])


def classifier_of(words: tuple[str, ...]) -> ZeroShotClassifier:
    """It knows all kinds; the head was trained on some."""
    classifier = nn.Linear(CHANNELS, len(KINDS), bias=False)
    classifier.weight.data = torch.eye(CHANNELS)[: len(KINDS)]
    return ZeroShotClassifier(classifier, EMBEDDINGS, vocabulary(words).embedding)


def photos(kinds: tuple[str, ...], count: int, seed: int) -> list[ImageFeatures]:
    """The farther away a thing is, the more it looks like a cup. A token knows how far."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        far = torch.rand(len(kinds), generator=generator)
        pooled = torch.eye(CHANNELS)[[KINDS.index(kind) for kind in kinds]]
        pooled[:, KINDS.index("cup")] += 1.5 * far
        pooled += 0.1 * torch.randn(pooled.shape, generator=generator)
        tokens = torch.stack([far, 1 - far, torch.rand(len(kinds), generator=generator)], dim=1)
        made.append(ImageFeatures(kinds, tokens, torch.zeros(1, 1), pooled, None))
    return made


def accuracy(zero_shot: ZeroShotClassifier, images: list[ImageFeatures]) -> float:
    """Of all kinds, as if none had been trained on."""
    features = torch.cat(
        [each.region_features for each in images if each.region_features is not None]
    )
    adapted = zero_shot.adapter(features) if zero_shot.adapter else features[:, :CHANNELS]
    best = (adapted @ zero_shot.synthesized_rows(EMBEDDINGS).T).argmax(1)
    names = [name for image in images for name in image.names]
    return sum(KINDS[k] == name for k, name in zip(best.tolist(), names, strict=True)) / len(names)


def test_what_is_learned_on_some_classes_helps_another() -> None:
    trained = KINDS[:3]
    plain = classifier_of(trained)
    data = training_set(photos(trained, 60, seed=0), trained)
    adapted = replace(plain, adapter=fit_adapter([data], vocabulary(trained), plain))
    for kinds in (trained, ("kite",)):
        others = photos(kinds, 100, seed=1)
        assert accuracy(plain, others) < 0.8
        assert accuracy(adapted, others) > 0.95


def test_masked_classes_do_not_train_the_adapter() -> None:
    """Where only a region's own word was verified, no score can be wrong."""
    trained = KINDS[:3]
    checked = [
        replace(photo, verified=frozenset([kind]))
        for kind in trained
        for photo in photos((kind,), 5, seed=0)
    ]
    plain = classifier_of(trained)
    found = fit_adapter([training_set(checked, trained)], vocabulary(trained), plain)
    assert not found.down.any()


def test_the_mean_is_that_of_the_training_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = KINDS[:3]
    halves = photos(trained, 4, seed=0), photos(trained, 6, seed=1)
    sets = [training_set(half, trained) for half in halves]

    def fitted() -> torch.Tensor:
        return fit_adapter(sets, vocabulary(trained), classifier_of(trained)).mean

    def mean(*images: ImageFeatures) -> torch.Tensor:
        pooled = torch.cat([image.pooled for image in images if image.pooled is not None])
        tokens = torch.cat([image.tokens for image in images])
        return torch.cat([F.normalize(pooled, dim=-1), tokens], dim=1).mean(0)

    torch.testing.assert_close(fitted(), mean(*halves[0], *halves[1]))
    monkeypatch.setattr("train.zero_shot.MAX_IMAGES", 5)
    torch.testing.assert_close(fitted(), mean(*halves[0][::2], *halves[1][::2]))


def test_clip_has_no_classifier_to_adapt() -> None:
    assert (
        fit_encoder_adapter([training_set(images(3))], vocabulary(KINDS[:3]), small_encoder())
        is None
    )
