"""Fine-tune once on a train split to report held-out accuracy, then on all reviewed images.

Axes: M images, N regions, K classes.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from integrations.progress import NullReporter, Reporter
from regionspot.head import RegionHead
from regionspot.scoring import RegionScorer, class_scores
from train.config import FinetuneConfig
from train.finetune.examples import IGNORE, ExampleSet, FinetuneExample, distilled
from train.finetune.losses import FinetuneObjective, extended_classifier
from train.metrics import Accuracy, accuracy_of
from train.sampler import held_out_rows
from train.trainer import ProgressCallback, run_loop


@dataclass(frozen=True)
class FinetuneMetrics:
    """Accuracy of a model on reviewed and replayed images.

    Attributes:
        corrected: on regions that the annotator corrected, by the class they gave.
        all_corrected: on all of these.
        confirmed: on labels that the annotator confirmed.
        left_alone: on labels that nobody reviewed, of classes that nobody corrected, against the
            initial head's prediction.
        replayed: on the replayed data sets.
    """

    corrected: dict[str, Accuracy]
    all_corrected: Accuracy
    confirmed: Accuracy
    left_alone: Accuracy
    replayed: Accuracy


@dataclass(frozen=True)
class FinetuneResult:
    """A model that was fine-tuned on all reviewed images, and its held-out accuracy.

    Attributes:
        scorer: the fine-tuned model.
        held_out: number of corrected images that the metrics are of and that a model of their own
            was fine-tuned without; 0 for too few: then the metrics are of the training images.
        before: metrics of the initial model.
        after: metrics of the fine-tuned model.
    """

    scorer: RegionScorer
    held_out: int
    before: FinetuneMetrics
    after: FinetuneMetrics


def finetune_with_holdout(
    scorer: RegionScorer,
    review: ExampleSet,
    replays: Sequence[ExampleSet],
    config: FinetuneConfig,
    run: Path | None = None,
    reporter: Reporter | None = None,
) -> FinetuneResult:
    """Fine-tune on all reviewed images, and estimate the accuracy by a held-out split.

    Args:
        scorer: the initial model.
        review: all images of the review, as of `reviewed_examples`.
        replays: examples of replayed data sets.
        config: of the fine-tuning.
        run: folder of the trainings' checkpoints, from which a stopped one is resumed.
        reporter: receives the progress.
    """
    changed, sets = changed_classes(review), [review, *replays]
    if sum(example.is_corrected for example in review.examples) < config.min_corrected_images:
        tuned = finetune(scorer, review, replays, config, run, reporter)
        before, after = (evaluate(each, sets, changed) for each in (scorer, tuned))
        return FinetuneResult(tuned, 0, before, after)
    training, tested = zip(*(split(each, config) for each in sets), strict=True)
    state = run and run / "train-split"
    measured = finetune(scorer, training[0], training[1:], config, state, reporter, "train split")
    tuned = finetune(scorer, review, replays, config, run, reporter)
    before, after = (evaluate(each, tested, changed) for each in (scorer, measured))
    held_out = sum(example.is_corrected for example in tested[0].examples)
    return FinetuneResult(tuned, held_out, before, after)


def finetune(
    scorer: RegionScorer,
    review: ExampleSet,
    replays: Sequence[ExampleSet],
    config: FinetuneConfig,
    run: Path | None = None,
    reporter: Reporter | None = None,
    task: str = "fine-tuning",
) -> RegionScorer:
    """Fine-tune the head on a review, and extend the zero-shot classifier's adapter by it."""
    sets = [*split_by_reviewed(distilled(review)), *replays]
    tuned = replace(scorer, head=finetune_head(scorer, sets, config, run, reporter, task))
    return replace(tuned, zero_shot=extended_classifier(tuned, sets, config))


def finetune_head(
    scorer: RegionScorer,
    sets: Sequence[ExampleSet],
    config: FinetuneConfig,
    run: Path | None = None,
    reporter: Reporter | None = None,
    task: str = "fine-tuning",
) -> RegionHead:
    """A fine-tuned copy of the head.

    Args:
        scorer: the initial model.
        sets: the first one that is not empty determines the number of steps.
        config: of the fine-tuning.
        run: folder of the training's checkpoint; None for no checkpoint.
        reporter: receives the progress.
        task: name of the progress.

    Raises:
        InputError: as of `run_loop`.
    """
    objective = FinetuneObjective(sets, scorer.calibration, config)
    a_pass = -(-len(objective.sets[0].examples) // config.images_per_step)
    steps = max(config.iterations or config.epochs * a_pass, config.min_iterations)
    config = replace(config, iterations=steps, epochs=0, evaluate_every=steps)
    head = copy.deepcopy(scorer.head).requires_grad_(True)
    progress = ProgressCallback(reporter or NullReporter(), task, steps)
    return run_loop(config, head, objective, run, callback=progress)


def split_by_reviewed(data: ExampleSet) -> tuple[ExampleSet, ExampleSet]:
    """The images with a class from the annotator, and the others."""
    is_reviewed = [example.is_reviewed for example in data.examples]
    return (
        data.only([row for row, yes in enumerate(is_reviewed) if yes]),
        data.only([row for row, yes in enumerate(is_reviewed) if not yes]),
    )


def split(data: ExampleSet, config: FinetuneConfig) -> tuple[ExampleSet, ExampleSet]:
    """Training and held-out images, stratified by whether an image was corrected."""
    groups = [
        [row for row, each in enumerate(data.examples) if each.is_corrected == corrected]
        for corrected in (True, False)
    ]
    generator = torch.Generator().manual_seed(config.seed)
    held_out = held_out_rows(groups, config.held_out, generator)
    rows = range(len(data.examples))
    return (
        data.only([row for row in rows if row not in held_out]),
        data.only([row for row in rows if row in held_out]),
    )


def changed_classes(review: ExampleSet) -> torch.Tensor:
    """Columns of the classes that were predicted for regions which the annotator corrected."""
    changed = {k for each in review.examples for k in each.prediction[each.corrected].tolist()}
    return torch.tensor(sorted(changed), dtype=torch.int64)


def evaluate(
    scorer: RegionScorer, sets: Sequence[ExampleSet], changed: torch.Tensor
) -> FinetuneMetrics:
    """Metrics of a model, each region classified among the classes of its own set.

    Args:
        scorer: the model.
        sets: images of the review, and of each replayed data set.
        changed: columns of the classes that were corrected anywhere in the review.
    """
    review, *replays = sets
    best = [predicted(scorer, example, review) for example in review.examples]
    pairs = list(zip(review.examples, best, strict=True))
    corrected = [(b == e.target, e.target, e.corrected) for e, b in pairs]
    given = sorted({k for _, target, chosen in corrected for k in target[chosen].tolist()})
    replayed = [
        (predicted(scorer, example, each) == example.target, example.target != IGNORE)
        for each in replays
        for example in each.examples
    ]
    return FinetuneMetrics(
        {
            review.vocabulary.names[k]: _accuracy(
                [(correct, chosen & (target == k)) for correct, target, chosen in corrected]
            )
            for k in given
        },
        _accuracy([(correct, chosen) for correct, _, chosen in corrected]),
        _accuracy([(b == e.target, (e.target != IGNORE) & ~e.corrected) for e, b in pairs]),
        _accuracy(
            [
                (b == e.prediction, e.unreviewed & ~torch.isin(e.prediction, changed))
                for e, b in pairs
            ]
        ),
        _accuracy(replayed),
    )


def predicted(scorer: RegionScorer, example: FinetuneExample, data: ExampleSet) -> torch.Tensor:
    """(N,) columns of the classes with the best scores."""
    (regions,) = scorer.regions([example.features])
    return class_scores(regions, data.vocabulary).argmax(1)


def _accuracy(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Accuracy:
    """Accuracy over images, of which each has (N,) correct and (N,) counted, both bool."""
    correct = np.array([int((correct & counted).sum()) for correct, counted in pairs], np.float64)
    return accuracy_of(correct, np.array([int(c.sum()) for _, c in pairs], np.float64))
