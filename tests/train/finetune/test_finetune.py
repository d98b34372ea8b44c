"""Fine-tuning on a synthetic review, and its held-out metrics."""

from pathlib import Path

import pytest
import torch

from regionspot.errors import InputError
from regionspot.head import RegionHead
from tests.train.factories import RecordingReporter
from tests.train.finetune.factories import (
    CLASSES,
    NEW_CLASSES,
    RENAMED,
    accuracy,
    boat_review,
    head_mistaking_boats,
    photos,
    renaming_review,
    scorer,
    tower,
    trained_head,
    vocabulary,
)
from train.config import FinetuneConfig
from train.features.cache import ImageFeatures
from train.finetune.examples import ExampleSet, replayed_examples
from train.finetune.finetune import (
    finetune_head,
    finetune_with_holdout,
    split,
    split_by_reviewed,
)
from train.trainer import STATE


def renaming_accuracy(head: RegionHead, images: list[ImageFeatures], corrected: bool) -> float:
    """Percent of regions with the class the annotator would give, of the classes that they
    corrected or of the others."""
    classes = vocabulary(*CLASSES, *NEW_CLASSES)
    correct = []
    for image in images:
        (regions,) = head.regions([image])
        best = (regions.embedding @ classes.embedding.T).argmax(1).tolist()
        correct += [
            classes.names[k] == RENAMED.get(name, name)
            for k, name in zip(best, image.names, strict=True)
            if (name in RENAMED) == corrected
        ]
    assert len(correct) > 200
    return 100 * sum(correct) / len(correct)


def assert_equal(first: RegionHead, second: RegionHead) -> None:
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
        assert not tensor.requires_grad


def test_corrected_classes_are_learned_and_the_others_do_not_fall_by_a_point() -> None:
    initial, tested = scorer(trained_head()), photos(200, seed=3)
    review = renaming_review(initial, photos(60, seed=2), count=20)
    reporter = RecordingReporter()
    config = FinetuneConfig(epochs=40, learning_rate=1e-3)
    result = finetune_with_holdout(initial, review, (), config, reporter=reporter)
    tuned = result.scorer.head
    assert renaming_accuracy(initial.head, tested, corrected=True) < 20
    assert renaming_accuracy(tuned, tested, corrected=True) > 90
    others = renaming_accuracy(initial.head, tested, corrected=False)
    assert others > 95
    assert renaming_accuracy(tuned, tested, corrected=False) >= others - 1

    before, after = result.before, result.after
    assert result.held_out >= 4
    assert before.all_corrected.total == after.all_corrected.total
    assert after.all_corrected.correct > before.all_corrected.correct
    assert set(after.corrected) == set(NEW_CLASSES)
    assert after.left_alone.correct >= 0.95 * after.left_alone.total > 20
    assert list(reporter.tasks) == ["train split", "fine-tuning"]
    assert min(reporter.tasks.values()) >= config.min_iterations


def test_a_corrected_unseen_class_is_still_scored_as_unseen() -> None:
    """The tower has no class of boats. Other unseen classes stay as they are."""
    initial = scorer(head_mistaking_boats(), tower(torch.eye(24)[: len(CLASSES) - 1]))
    config = FinetuneConfig(epochs=40, learning_rate=1e-3)
    tuned = finetune_with_holdout(initial, boat_review(initial), (), config).scorer
    assert accuracy(initial, "boat") < 0.3
    assert accuracy(tuned, "boat") > 0.8
    others = accuracy(initial, "chair", "car")
    assert accuracy(tuned, "chair", "car") >= others - 0.01 > 0.95


def test_replayed_classes_are_kept() -> None:
    initial = scorer(trained_head())
    review = renaming_review(initial, photos(20, seed=2), count=20)
    replay = replayed_examples(photos(40, seed=4), initial, vocabulary(*CLASSES))
    result = finetune_with_holdout(initial, review, [replay], FinetuneConfig(epochs=5))
    assert result.before.replayed.total == result.after.replayed.total
    assert result.after.replayed.correct >= result.before.replayed.correct - 1


def test_the_same_review_gives_the_same_weights() -> None:
    initial = scorer(trained_head())
    review = renaming_review(initial, photos(12, seed=2), count=4)
    first, second = (finetune_with_holdout(initial, review, (), FinetuneConfig()) for _ in range(2))
    assert first.held_out == 0
    assert_equal(first.scorer.head, second.scorer.head)


def test_a_stopped_fine_tuning_resumes_to_the_same_weights(tmp_path: Path) -> None:
    class Stop(RecordingReporter):
        def advance(self, steps: int = 1, detail: str = "") -> None:
            super().advance(steps, detail)
            if self.tasks["fine-tuning"] == 50:
                raise KeyboardInterrupt

    initial = scorer(trained_head())
    sets = [renaming_review(initial, photos(12, seed=2), count=4)]
    config = FinetuneConfig(save_every=20)
    with pytest.raises(KeyboardInterrupt):
        finetune_head(initial, sets, config, tmp_path, Stop())
    assert (tmp_path / STATE).exists()
    resumed = finetune_head(initial, sets, config, tmp_path)
    assert_equal(resumed, finetune_head(initial, sets, config))
    other = [renaming_review(initial, photos(12, seed=2), count=5)]
    with pytest.raises(InputError, match="trained on other data"):
        finetune_head(initial, other, config, tmp_path)
    with pytest.raises(InputError, match=r"other settings \(anchor_weight 10\.0, now 1"):
        finetune_head(initial, sets, FinetuneConfig(anchor_weight=1), tmp_path)


def test_a_loss_that_is_not_finite_is_one_line() -> None:
    initial = scorer(trained_head())
    review = renaming_review(initial, photos(3, seed=2), count=3)
    review.examples[1].features.tokens[:] = float("nan")
    with pytest.raises(InputError, match="the loss is nan in step 1; lower the learning rate"):
        finetune_head(initial, [review], FinetuneConfig())


def test_images_are_split_alike_and_none_is_in_both() -> None:
    review = renaming_review(scorer(trained_head()), photos(60, seed=2), count=20)
    training, held_out = split(review, FinetuneConfig(held_out=0.25))
    assert len(training.examples) + len(held_out.examples) == 60
    ids = {id(example) for example in training.examples}
    assert not ids & {id(example) for example in held_out.examples}

    def corrected(data: ExampleSet) -> int:
        return sum(example.is_corrected for example in data.examples)

    assert corrected(held_out) == pytest.approx(corrected(training) / 3, abs=1)
    reviewed, others = split_by_reviewed(review)
    assert len(reviewed.examples) + len(others.examples) == 60
