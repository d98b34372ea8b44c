"""The paper's ablations (Tables 3 to 5) on one data set: a training for each, tested on another.

The head is the paper's own, between the towers of the preset `mini`: without the pooled feature and
the prior that `mini` adds, which would stand in for what is removed.

Axes: M images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from integrations.progress import NullReporter, Reporter
from regionspot.config import ModelConfig, preset, with_token
from regionspot.encoders import VisionLanguageEncoder
from regionspot.vocabulary import build_vocabulary
from train.config import Recipe, mini
from train.data.dataset import AnnotatedImage, used_classes
from train.features.cache import ImageFeatures
from train.metrics import Accuracy, accuracy_of, correct_counts, region_counts, region_scores
from train.pretrain import fit
from train.sampler import TrainingSet

FeaturesOf = Callable[[ModelConfig, Sequence[AnnotatedImage]], Sequence[ImageFeatures]]


def _head(model: ModelConfig, **changed: Any) -> ModelConfig:
    return replace(model, head=replace(model.head, **changed))


def _templates(model: ModelConfig, name: str) -> ModelConfig:
    return replace(model, encoder=replace(model.encoder, templates=name))


def ablation_recipe() -> Recipe:
    """`mini` with the paper's head, of `mini`'s width, without teachers or flipped images."""
    recipe = mini(_head(preset("mini"), pooled_width=0, prior_weight=0.0))
    return replace(recipe, views=(), epochs=8, teachers=0)


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
    """Accuracy of one change of the head, as a mean over seeds.

    Attributes:
        top_1, top_5: accuracy with a 95% interval over images.
        change_1, change_5: difference to the full head, paired by image.
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
    encoder: VisionLanguageEncoder,
    seeds: Sequence[int],
    reporter: Reporter | None = None,
) -> list[Ablation]:
    """Train the full head and each change of it, once a seed, and test them.

    Args:
        recipe: of the full head.
        training: images to train on.
        test: images to test on, among the classes that either set uses.
        features_of: the frozen towers' features of images, computed or from a cache.
        encoder: of all models; they differ in its templates alone.
        seeds: each head is trained once with each.
        reporter: receives the progress.

    Returns:
        The full head first.
    """
    reporter = reporter or NullReporter()
    models = {FULL: recipe.model}
    models |= {name: change(recipe.model) for name, change in ABLATIONS.items()}
    classes = used_classes([*training, *test])
    correct: dict[str, np.ndarray] = {}
    for name, model in models.items():
        features, tested = features_of(model, training), features_of(model, test)
        vocabulary = build_vocabulary(encoder, classes, model.encoder.templates)
        data = TrainingSet(name, features, [i.names for i in features], vocabulary.names)
        counts = []
        for seed in seeds:
            reporter.message(f"training: {name}, seed {seed}")
            head = fit(replace(recipe, model=model, seed=seed), [data], vocabulary)
            scores = region_scores(head, tested, vocabulary)
            counts.append([correct_counts(scores, tested, vocabulary, k) for k in (1, 5)])
        correct[name] = np.mean(counts, axis=0)  # (2, M)
        total = region_counts(tested)
    return [
        Ablation(
            name,
            *(accuracy_of(each, total) for each in found),
            *(accuracy_of(each, total) for each in found - correct[FULL]),
        )
        for name, found in correct.items()
    ]


def ablation_markdown(rows: Sequence[Ablation]) -> str:
    """Top-1 and top-5 accuracy, and the change of each against the first row."""
    lines = ["| | top-1 % | change | top-5 % | change |", "|---|---|---|---|---|"]
    for number, row in enumerate(rows):
        changes = (row.change_1, row.change_5) if number else ("", "")
        lines.append(f"| {row.name} | {row.top_1} | {changes[0]} | {row.top_5} | {changes[1]} |")
    return "\n".join(lines)
