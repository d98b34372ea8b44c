"""An epoch from cached features over one that runs the towers, and the paper's 450k iterations.

The epoch is of coco_train's size with the shapes of `mini`. By default its features are synthetic;
with DATA=folder they are those of that folder, out of the cache CACHE (.work/features).
"""

import itertools
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from regionspot.config import ModelConfig, fast_dtype, preset
from regionspot.encoders.mini import ImagenetMiniLm
from regionspot.localizers.sam import SamLocalizer, build_sam
from regionspot.types import Vocabulary
from tests.benchmarks.measure import processor
from tests.regionspot.factories import noise_image, random_boxes
from train import config as recipes
from train.config import Recipe
from train.data.coco import load_coco
from train.distributed import Processes
from train.features.cache import FeatureSet, FeatureStore, ImageFeatures
from train.pretrain import fit
from train.sampler import TrainingSet
from train.trainer import Callback

IMAGES, BOXES = 2889, 27055
MAP_PLACES = {"mini": 15 * 15, "bl": 16 * 16}
MAPS = 16  # different synthetic maps, so that they fit into memory
MOST_SECONDS, LEAST_FASTER = 120, 5
TOWER_IMAGES = 3
OBJECTS365_BOXES, OBJECTS365_WORDS = 16, 365  # an image, and in all


class Clock(Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step(self, done: int, loss: float, rate: float, gradient_norm: float) -> None:
        self.ends.append(time.perf_counter())


def synthetic(model: ModelConfig, counts: list[int], classes: tuple[str, ...]) -> TrainingSet:
    """Images of so many regions each; some share their map, as only its size matters."""
    head, generator = model.head, torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).half()

    maps = [draw(1 + MAP_PLACES[model.name], head.map_width) for _ in range(MAPS)]
    images = []
    for number, count in enumerate(counts):
        names = tuple(classes[(number + row) % len(classes)] for row in range(count))
        pooled = draw(count, head.pooled_width) if head.pooled_width else None
        prior = draw(count, head.text_width) if head.prior_weight else None
        tokens = draw(count, head.token_width)
        images.append(ImageFeatures(names, tokens, maps[number % MAPS], pooled, prior))
    return TrainingSet("synthetic", images, [image.names for image in images], classes)


def coco_sized() -> TrainingSet:
    """As many images and boxes as coco_train, unevenly spread; real ones where DATA says."""
    if folder := os.environ.get("DATA"):
        images = load_coco(Path(folder))
        cache = Path(os.environ.get("CACHE", ".work/features"))
        names = [image.names for image in images]
        classes = tuple(sorted({name for image in names for name in image}))
        model, here = preset("mini"), torch.device("cpu")
        encoder = ImagenetMiniLm(model.encoder.input_sizes, here, torch.float32)
        store = FeatureStore(FeatureSet.of(model, images, cache), encoder)
        found = TrainingSet(folder, store, names, classes)
        return found.only([row for row in range(len(found)) if names[row]])
    shares = np.random.default_rng(0).exponential(size=IMAGES)
    ends = np.round(shares.cumsum() / shares.sum() * (BOXES - IMAGES)).astype(int)
    counts = 1 + np.diff(ends, prepend=0)
    return synthetic(preset("mini"), counts.tolist(), tuple(f"word {n}" for n in range(80)))


def step_seconds(recipe: Recipe, data: TrainingSet, device: torch.device) -> list[float]:
    """Seconds of each step but the first."""
    clock = Clock()
    generator = torch.Generator().manual_seed(0)
    width = recipe.model.head.text_width
    embedding = F.normalize(torch.randn(len(data.classes), width, generator=generator), dim=-1)
    fit(recipe, [data], Vocabulary(data.classes, embedding), None, Processes(device), clock)
    return [end - start for start, end in itertools.pairwise(clock.ends)]


def tower_seconds(boxes: int) -> float:
    """Seconds of mini's frozen towers for one image, as fast as they are here."""
    here = torch.device("cpu")
    config = preset("mini")
    localizer = SamLocalizer(build_sam(config.localizer), fast_dtype(here))
    encoder = ImagenetMiniLm(config.encoder.input_sizes, here, fast_dtype(here))
    image, around = noise_image(480, 640), random_boxes(boxes, 640, 480)
    ends = [time.perf_counter()]
    for _ in range(1 + TOWER_IMAGES):
        localizer.tokens(localizer.encode(image), around)
        (seen,) = encoder.image_tokens([image])
        encoder.pool(image, seen, around)
        ends.append(time.perf_counter())
    return min(end - start for start, end in itertools.pairwise(ends[1:]))


def test_an_epoch_from_the_cache_over_one_with_towers(device: torch.device) -> None:
    data = coco_sized()
    regions = sum(map(len, data.names))
    seconds = step_seconds(replace(recipes.mini(), epochs=1), data, device)
    epoch = sum(seconds) * (len(seconds) + 1) / len(seconds)
    a_tower = tower_seconds(round(regions / len(data)))
    towers = epoch + a_tower * len(data)
    print(f"\nmini, {len(data)} images with {regions} boxes of {data.name}, {processor(device)}")
    print(f"epoch from cached features: {epoch:.1f} s measured (at most {MOST_SECONDS})")
    print(
        f"epoch with towers: {towers:.0f} s projected from {TOWER_IMAGES} images at "
        f"{1e3 * a_tower:.0f} ms each; cached is {towers / epoch:.1f} times faster "
        f"(at least {LEAST_FASTER})"
    )
    assert epoch <= MOST_SECONDS
    assert towers >= LEAST_FASTER * epoch


def test_the_papers_iterations_projected(device: torch.device) -> None:
    recipe = recipes.stage1()
    steps = 30 if device.type == "cuda" else 3
    words = tuple(f"word {n}" for n in range(OBJECTS365_WORDS))
    data = synthetic(recipe.model, [OBJECTS365_BOXES] * recipe.images_per_step, words)
    seconds = step_seconds(replace(recipe, iterations=steps), data, device)
    a_step = float(np.median(seconds))
    days = a_step * recipe.iterations / 86400
    print(
        f"\nstage 1, {recipe.model.name}, {recipe.images_per_step} images of {OBJECTS365_BOXES} "
        f"regions a step, {OBJECTS365_WORDS} words, on {processor(device)}: {a_step:.2f} s a step "
        f"(median of {len(seconds)}); {recipe.iterations} iterations projected: {days:.1f} days"
    )
