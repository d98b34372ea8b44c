"""Small synthetic features in which a token encodes the class."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from regionspot.config import ModelConfig, preset
from regionspot.head import HeadConfig
from regionspot.types import Vocabulary
from train import config as recipes
from train.config import Recipe
from train.features.cache import ImageFeatures
from train.sampler import TrainingSet

CLASSES = ("cat", "dog", "cup")


class RecordingReporter:
    """Records messages, and the steps of each task."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.tasks: dict[str, int] = {}
        self._task = ""

    def message(self, text: str) -> None:
        self.messages.append(text)

    def start(self, task: str, total: int, completed: int = 0) -> None:
        self._task = task
        self.tasks[task] = completed

    def advance(self, steps: int = 1, detail: str = "") -> None:
        self.tasks[self._task] += steps


def vocabulary(classes: tuple[str, ...] = CLASSES) -> Vocabulary:
    generator = torch.Generator().manual_seed(7)
    embedding = F.normalize(torch.randn(len(classes), 16, generator=generator), dim=-1)
    return Vocabulary(classes, embedding)


def image(
    names: tuple[str, ...], seed: int = 0, verified: frozenset[str] | None = None
) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    tokens = 0.3 * torch.randn(len(names), 256, generator=generator)
    for row, name in enumerate(names):
        tokens[row, CLASSES.index(name)] += 10
    memory = torch.randn(5, 24, generator=generator)
    pooled = torch.randn(len(names), 24, generator=generator)
    return ImageFeatures(names, tokens, memory, pooled, torch.zeros(len(names), 16), verified)


def images(count: int = 24) -> list[ImageFeatures]:
    kinds = (("cat",), ("dog", "cup"), ("cup", "cup", "cat"))
    return [image(kinds[i % 3], seed=i) for i in range(count)]


def training_set(
    features: list[ImageFeatures], classes: tuple[str, ...] = CLASSES, name: str = "synthetic"
) -> TrainingSet:
    return TrainingSet(name, features, [each.names for each in features], classes)


def small_model(**head: float) -> ModelConfig:
    config = HeadConfig(
        map_width=24, text_width=16, width=32, depth=1, feedforward=32, pooled_width=24
    )
    return replace(preset("mini"), head=replace(config, **head))  # type: ignore[arg-type]


def recipe(**changes: object) -> Recipe:
    settings = {"epochs": 10, "teachers": 0, "images_per_step": 4, "learning_rate": 2e-3, **changes}
    if "iterations" in changes:
        settings["epochs"] = 0
    return replace(recipes.mini(small_model()), **settings)  # type: ignore[arg-type]
