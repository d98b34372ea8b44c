"""The paper's ablations, each a training of its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from regionspot.config import ModelConfig
from regionspot.encoders import build_encoder
from tests.train.factories import RecordingReporter, image, recipe, small_model
from train.data.dataset import AnnotatedImage
from train.experiments.ablations import ABLATIONS, FULL, ablate, ablation_markdown
from train.features.cache import ImageFeatures

NAMES = (("cat",), ("dog", "cup"), ("cup", "cat"))


def annotated(count: int) -> list[AnnotatedImage]:
    return [
        AnnotatedImage(i, Path(f"{i}.jpg"), 9, 9, np.zeros((len(names), 4), np.float32), names)
        for i, names in ((i, NAMES[i % 3]) for i in range(count))
    ]


def features_of(model: ModelConfig, images: Sequence[AnnotatedImage]) -> list[ImageFeatures]:
    """Tokens encode the class; the narrow ones of the mask MLP are zero."""
    made = [image(tuple(each.names), seed=each.id) for each in images]
    if model.head.token_width == 256:
        return made
    return [replace(each, tokens=0 * each.tokens[:, : model.head.token_width]) for each in made]


def test_each_change_is_trained_and_compared_with_the_full_head() -> None:
    reporter = RecordingReporter()
    plain = recipe(epochs=6, model=small_model(pooled_width=0, text_width=384))
    table = ablate(
        plain,
        annotated(12),
        annotated(6),
        features_of,
        build_encoder(plain.model.encoder, torch.device("cpu"), torch.float32),
        seeds=(0, 1),
        reporter=reporter,
    )
    assert reporter.messages == [
        f"training: {name}, seed {seed}" for name in (FULL, *ABLATIONS) for seed in (0, 1)
    ]
    full, *others = table
    rows = {each.name: each for each in others}
    assert full.change_1.value == 0
    assert full.top_1.value > 80
    blind = rows["token of the mask MLP"]
    assert blind.change_1.high is not None
    assert blind.change_1.high < 0
    change = blind.top_1.value - full.top_1.value
    assert blind.change_1.value == pytest.approx(change)
    assert ablation_markdown(table).count("\n") == len(table) + 1
