"""The paper's ablations (Tables 3 to 5) on one data set: a training for each, measured on another.

The head is the paper's own, between the towers of the preset `mini`: without the pooled feature and
the names of classes that `mini` adds, which would stand in for what is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from regionspot.config import ModelConfig, preset, with_token
from regionspot.vocabulary import TextTower, build_vocabulary
from train.config import Recipe, mini
from train.data import AnnotatedImage
from train.features.cache import ImageFeatures
from train.metrics import Accuracy, hits, region_scores, share_of
from train.run import used_words
from train.sampler import TrainingSet
from train.trainer import fit

FeaturesOf = Callable[[ModelConfig, Sequence[AnnotatedImage]], Sequence[ImageFeatures]]
OnHead = Callable[[str, int], None]


def _head(model: ModelConfig, **changed: Any) -> ModelConfig:
    return replace(model, head=replace(model.head, **changed))


def _templates(model: ModelConfig, name: str) -> ModelConfig:
    return replace(model, encoder=replace(model.encoder, templates=name))


def plain_recipe() -> Recipe:
    """`mini` with the paper's head, of `mini`'s width, without teachers or mirror images."""
    plain = mini(_head(preset("mini"), pooled_width=0, prior_weight=0.0))
    return replace(plain, views=(), epochs=8, teachers=0)


FULL = "the paper's head"
# Each changes the paper's head in one place.
ABLATIONS: Mapping[str, Callable[[ModelConfig], ModelConfig]] = {
    "without the class token": partial(_head, class_token=False),
    "without the map": partial(_head, read_map=False),
    "token of the prompt encoder": partial(with_token, token="prompt"),
    "token of the mask MLP": partial(with_token, token="mask-mlp"),
    "depth 1": partial(_head, depth=1),
    "depth 6": partial(_head, depth=6),
    "each region by itself": partial(_head, regions_attend=False),
    "bare names": partial(_templates, name="name"),
    "80 templates": partial(_templates, name="openai-imagenet"),
}


@dataclass(frozen=True)
class Ablation:
    """What one change does, as a mean over seeds.

    Attributes:
        top_1, top_5: share of boxes whose word is right, with a 95% interval over images.
        change_1, change_5: the same less the unchanged head's, images drawn alike for both.
    """

    name: str
    top_1: Accuracy
    top_5: Accuracy
    change_1: Accuracy
    change_5: Accuracy


def ablate(
    recipe: Recipe,
    training: Sequence[AnnotatedImage],
    test: Sequence[AnnotatedImage],
    features_of: FeaturesOf,
    text: TextTower,
    seeds: Sequence[int],
    on_head: OnHead = lambda name, seed: None,
) -> list[Ablation]:
    """Train a head and each change of it, once a seed, and measure them.

    Args:
        recipe: of the unchanged head.
        training, test: words are chosen among those that either uses.
        features_of: the frozen towers' features of images, computed or from a cache.
        text: the text tower of all models.
        on_head: told before each training.

    Returns:
        The unchanged head first.
    """
    models = {FULL: recipe.model}
    models |= {name: change(recipe.model) for name, change in ABLATIONS.items()}
    names = used_words([*training, *test])
    right: dict[str, npt.NDArray[np.float64]] = {}
    for name, model in models.items():
        shown, asked = features_of(model, training), features_of(model, test)
        words = build_vocabulary(text, names, model.encoder.templates)
        data = TrainingSet(name, shown, [i.names for i in shown], words.names)
        counted = []
        for seed in seeds:
            on_head(name, seed)
            head = fit(replace(recipe, model=model, seed=seed), [data], words)
            found = region_scores(head.regions, asked, words)
            counted.append([hits(found, asked, words, k) for k in (1, 5)])
        right[name] = np.mean(counted, axis=0)  # (2, M)
        boxes = np.array([len(image.names) for image in asked], np.float64)
    return [
        Ablation(
            name,
            *(share_of(each, boxes) for each in found),
            *(share_of(each, boxes) for each in found - right[FULL]),
        )
        for name, found in right.items()
    ]


def as_markdown(table: Sequence[Ablation]) -> str:
    """A table of top-1 and top-5, and of their changes against its first row."""
    lines = ["| | top-1 % | change | top-5 % | change |", "|---|---|---|---|---|"]
    for row, each in enumerate(table):
        changes = (each.change_1, each.change_5) if row else ("", "")
        lines.append(f"| {each.name} | {each.top_1} | {changes[0]} | {each.top_5} | {changes[1]} |")
    return "\n".join(lines)
