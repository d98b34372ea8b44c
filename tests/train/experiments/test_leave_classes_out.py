"""Trainings that leave classes out, and accuracy on these by the image tower's classifier."""

from dataclasses import replace

import pytest
import torch

from regionspot.config import preset
from regionspot.encoders import build_encoder
from regionspot.vocabulary import build_vocabulary
from tests.train.factories import RecordingReporter, image, recipe, small_model, training_set
from train.experiments.leave_classes_out import (
    Fold,
    Metrics,
    class_folds,
    leave_classes_out,
    mean_of,
)

CLASSES = ("cat", "cup", "dog")
NAMES = (("cat", "cup"), ("dog", "cup"), ("cup", "cat", "dog"))


def test_each_class_but_the_most_common_is_left_out_once() -> None:
    data = training_set([image(NAMES[i % 3], seed=i) for i in range(9)], CLASSES)
    assert sorted(class_folds(data, 2, seed=0)) == [("cat",), ("dog",)]
    assert class_folds(data, 1, seed=0) == [("cat", "dog")]
    assert len(class_folds(data, 9, seed=0)) == 2


def test_unseen_classes_are_classified_by_the_tower() -> None:
    """Tokens encode the seen classes, pooled features resemble the rows of all classes."""
    model = small_model(pooled_width=1280, text_width=384)
    encoder = build_encoder(preset("mini").encoder, torch.device("cpu"), torch.float32)
    embedding = build_vocabulary(encoder, CLASSES, model.encoder.templates).embedding
    assert encoder.pooler
    synthesized = encoder.pooler.zero_shot(embedding, None).synthesized_rows(embedding)
    rows = dict(zip(CLASSES, synthesized, strict=True))
    data = training_set(
        [
            replace(
                image(NAMES[i % 3], seed=i),
                pooled=torch.stack([rows[name] for name in NAMES[i % 3]]),
                prior=torch.zeros(len(NAMES[i % 3]), 384),
            )
            for i in range(60)
        ],
        CLASSES,
    )
    plain, reporter = recipe(model=model, epochs=6), RecordingReporter()
    folds = leave_classes_out(plain, data, encoder, 2, ["sky", "cup"], reporter)
    assert [", ".join(fold.classes) for fold in folds] == reporter.messages
    for fold in folds:
        assert fold.unseen.boxes > 0
        assert fold.unseen.top_1 > 90
        assert fold.seen.top_1 > 90
    mean = mean_of(folds)
    assert set(mean.classes) == {"cat", "dog"}
    assert mean.unseen.top_1 == pytest.approx(sum(fold.unseen.top_1 for fold in folds) / 2)


def test_a_fold_without_boxes_does_not_count_in_the_mean() -> None:
    nothing, some = Metrics(0, *[float("nan")] * 3), Metrics(4, 50.0, 75.0, 1.5)
    folds = [Fold(("cat",), nothing, some), Fold(("dog",), some, some)]
    assert mean_of(folds) == Fold(("cat", "dog"), some, replace(some, boxes=8))
