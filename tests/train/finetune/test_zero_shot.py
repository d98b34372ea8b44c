"""The extension of the zero-shot classifier's adapter by a review."""

from dataclasses import replace

import torch

from tests.train.finetune.factories import (
    CLASSES,
    accuracy,
    boat_review,
    head_mistaking_boats,
    scorer,
    tower,
    vocabulary,
)
from train.config import FinetuneConfig
from train.finetune.examples import distilled
from train.finetune.finetune import split_by_reviewed
from train.finetune.zero_shot import extended_classifier


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
