"""Targets and distillation weights of examples."""

import numpy as np

from tests.train.finetune.factories import CLASSES, photos, renaming_review, scorer, trained_head
from train.finetune.examples import IGNORE, distilled


def test_a_class_that_is_always_corrected_is_distilled_less() -> None:
    images = photos(60, seed=2)
    review = renaming_review(scorer(trained_head()), images, count=20)
    assert all((example.distill == 0).all() for example in review.examples)
    examples = distilled(review).examples
    by_class: dict[str, list[float]] = {name: [] for name in CLASSES}
    for example, image in zip(examples[20:], images[20:], strict=True):
        for name, weight in zip(image.names, example.distill.tolist(), strict=True):
            by_class[name].append(weight)
    assert np.median(by_class["cat"]) < 0.2
    assert np.median(by_class["dog"]) == 1
    assert all((each.distill[each.target != IGNORE] == 0).all() for each in examples)
