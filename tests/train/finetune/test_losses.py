"""The loss of fine-tuning."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from regionspot.scoring import RegionScorer, class_scores, presence
from tests.train.finetune.factories import (
    CLASSES,
    accuracy,
    boat_review,
    features,
    head_mistaking_boats,
    photos,
    renaming_review,
    reviewed_image,
    scorer,
    tower,
    trained_head,
    vocabulary,
)
from train.config import FinetuneConfig
from train.features.cache import ImageFeatures
from train.finetune.examples import IGNORE, distilled, reviewed_examples
from train.finetune.finetune import finetune_head, split_by_reviewed
from train.finetune.losses import (
    cross_entropy,
    extended_classifier,
    joined_regions,
    kl_divergence,
    target_frequency,
)
from train.losses import class_weights

LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def test_regions_without_a_target_have_no_cross_entropy() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0])
    found = cross_entropy(LOGITS, torch.tensor([0, IGNORE, 2, IGNORE]), weights, 0.1)
    expected = F.cross_entropy(LOGITS[[0, 2]], torch.tensor([0, 2]), weights, label_smoothing=0.1)
    torch.testing.assert_close(found, expected)
    assert cross_entropy(LOGITS, torch.full((4,), IGNORE), weights) == 0


def test_divergence_is_zero_from_itself_alone() -> None:
    assert kl_divergence(LOGITS, LOGITS).abs().max() < 1e-6
    assert (kl_divergence(LOGITS, LOGITS.flip(1)) > 0).all()


def test_weights_of_classes_without_a_target_are_finite() -> None:
    review = renaming_review(scorer(trained_head()), photos(6, seed=2), count=0)
    assert not target_frequency(review).any()
    assert torch.isfinite(class_weights(target_frequency(review), 0.5)).all()


def test_the_classifier_learns_what_it_mistakes() -> None:
    """It has a class of boats, which it takes for cars, too. The head stays as it is."""
    rows = torch.eye(24)[: len(CLASSES)]
    rows[CLASSES.index("car"), CLASSES.index("boat")] = 1
    rows[CLASSES.index("boat"), -1] = 3
    initial = scorer(head_mistaking_boats(), tower(rows))
    sets = split_by_reviewed(distilled(boat_review(initial)))
    classifier = extended_classifier(initial, sets, FinetuneConfig(kl_weight_unseen=10))
    extended = replace(initial, zero_shot=classifier)
    assert accuracy(initial, "boat") < 0.3
    assert accuracy(extended, "boat") > 0.8
    for others in (("chair", "car"), CLASSES[:3]):
        assert accuracy(extended, *others) >= accuracy(initial, *others) - 0.01 > 0.9


def test_seen_classes_do_not_extend_the_classifier() -> None:
    classifier = replace(tower(torch.eye(24)[:3]), seen=vocabulary(*CLASSES).embedding)
    initial = scorer(head_mistaking_boats(), classifier)
    assert extended_classifier(initial, [boat_review(initial)], FinetuneConfig()) is classifier


def test_what_an_empty_image_shows_is_present_less_and_other_classes_stay() -> None:
    initial = scorer(trained_head())
    empty = [features(("boat",) * 4, seed) for seed in range(20)]
    others = [image for image in photos(80, seed=2) if "boat" not in image.names]
    nothing = ("",) * 4
    images = [replace(reviewed_image(n, nothing, nothing), is_empty=True) for n in range(20)]
    images += [reviewed_image(20 + n, nothing, each.names) for n, each in enumerate(others)]
    review = reviewed_examples(images, empty + others, initial, vocabulary(*CLASSES))
    assert [each.is_reviewed for each in review.examples] == [True] * 20 + [False] * len(others)
    sets = split_by_reviewed(distilled(review))
    assert all((each.distill == 0).all() for each in sets[0].examples)
    config = FinetuneConfig(epochs=20, learning_rate=1e-3)
    tuned = replace(initial, head=finetune_head(initial, sets, config))

    def highest(model: RegionScorer, seen: list[ImageFeatures]) -> float:
        regions = joined_regions(model.regions(seen))
        scores = class_scores(regions, review.vocabulary)
        present = presence(regions, scores, review.vocabulary, model.calibration)
        return float(present.amax(1).mean())

    new = [features(("boat",) * 4, seed) for seed in range(100, 110)]
    kept = [image for image in photos(40, seed=4) if "boat" not in image.names]
    assert highest(tuned, new) < highest(initial, new) - 0.2
    assert abs(highest(tuned, kept) - highest(initial, kept)) < 0.05
