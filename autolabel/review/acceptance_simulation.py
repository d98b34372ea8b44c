"""How often what `autolabel accept` guarantees is so, in simulated reviews with true labels.

    python -m autolabel.review.acceptance_simulation --run RUN --gt COCO.json

RUN has labels of photos whose ground truth is known: a label is right where it overlaps a box of
its class by IoU 0.5. In each review the random order of the labels is another one, and the reviewer
makes no mistake.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from autolabel.review.acceptance import BUDGET
from autolabel.review.presence import matched_classes
from autolabel.review.risk_control import accept_group, accepted_rows, make_groups, plan_sample
from autolabel.run.manifest import LVIS, read_complete
from integrations.annotations import LabelledSet
from integrations.failures import reported
from integrations.formats.coco import read_coco
from integrations.formats.lvis import read_lvis


@dataclass(frozen=True)
class ScoredLabels:
    """All labels of a run and whether they are right.

    Attributes:
        words: of each label.
        scores: (labels,) confidence.
        right: (labels,) whether it is.
    """

    words: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GroupFigures:
    """One word, or all rare words together, over all reviews.

    Attributes:
        word: or what the rare words are called.
        labels: number of labels.
        precision: of all of them.
        accepted: mean number of accepted labels.
        holds: proportion of reviews in which the accepted labels had the precision, or none was
            accepted; found wrong labels still count.
    """

    word: str
    labels: int
    precision: float
    accepted: float
    holds: float


@dataclass(frozen=True)
class SimulationFigures:
    """All reviews of a run.

    Attributes:
        labels: number of labels.
        reviews: number of simulated reviews.
        reviewed: mean number of labels that were reviewed.
        coverage: mean proportion of labels that were accepted.
        unseen: mean proportion of labels that were accepted although nobody reviewed them.
        single_threshold: proportion of labels above the lowest score above which all labels
            together have the precision, chosen with the truth known.
        groups: words with labels enough, and rare words together.
    """

    labels: int
    reviews: int
    reviewed: float
    coverage: float
    unseen: float
    single_threshold: float
    groups: tuple[GroupFigures, ...]


def scored_labels(run: Path, truth: LabelledSet) -> ScoredLabels:
    """The labels of a complete run, compared with the ground truth of its photos.

    Raises:
        InputError: a run that cannot be read.
    """
    read_complete(run)
    data = read_lvis(run / LVIS)
    boxes_of = {image.file_name: image for image in truth.images}
    class_of = {category.id: category.name for category in truth.categories}
    words: list[str] = []
    right: list[bool] = []
    for image in data.images:
        names = [data.categories[each.category_id - 1].name for each in image.annotations]
        classes = matched_classes(image, boxes_of[image.file_name], class_of)
        words += names
        right += [name == each for name, each in zip(names, classes, strict=True)]
    labels = [each for image in data.images for each in image.annotations]
    return ScoredLabels(
        tuple(words),
        np.array([each.score or 0.0 for each in labels], np.float64),
        np.array(right, np.bool_),
    )


def simulate(
    data: ScoredLabels,
    reviews: int,
    precision: float = 0.95,
    confidence: float = 0.95,
    budget: int = BUDGET,
    seed: int = 0,
) -> SimulationFigures:
    """Review samples until the budget is used or no sample is planned, as `accept` would.

    Args:
        data: labels of one run.
        reviews: number of simulated reviews.
        precision: proportion of right labels to guarantee.
        confidence: of the guarantee.
        budget: maximum number of reviewed labels in each review.
        seed: of the first review; the others follow.
    """
    sampled = covered = unseen = 0
    found: dict[tuple[str, ...], list[tuple[int, bool]]] = defaultdict(list)
    rows_of: dict[tuple[str, ...], Sequence[int]] = {}
    for review in range(seed, seed + reviews):
        groups = make_groups(data.words, data.scores, precision, review)
        decisions: dict[int, bool] = {}
        while len(decisions) < budget:
            room = budget - len(decisions)
            plan = plan_sample(groups, decisions, (), room, precision, confidence)
            if not plan.rows:
                break
            decisions |= {row: bool(data.right[row]) for row in plan.rows}
        sampled += len(decisions)
        for group in groups:
            count = accept_group(group, decisions, precision, confidence).accepted
            kept = accepted_rows(group, count, decisions)
            unseen += sum(row not in decisions for row in kept)
            rows = group.rows[:count]
            # With the labels that were found wrong, which are not accepted.
            holds = not len(rows) or float(data.right[rows].mean()) >= precision - 1e-9
            found[group.words].append((len(kept), holds))
            rows_of[group.words] = group.rows.tolist()
            covered += len(kept)
    total = len(data.words)
    return SimulationFigures(
        total,
        reviews,
        sampled / reviews,
        covered / reviews / max(total, 1),
        unseen / reviews / max(total, 1),
        _single_threshold(data, precision),
        tuple(_figures(words, rows_of[words], data, found[words]) for words in found),
    )


def _figures(
    words: tuple[str, ...],
    rows: Sequence[int],
    data: ScoredLabels,
    outcomes: Sequence[tuple[int, bool]],
) -> GroupFigures:
    kept, holds = zip(*outcomes, strict=True)
    name = words[0] if len(words) == 1 else f"{len(words)} rare words"
    right = float(data.right[np.array(rows)].mean())
    return GroupFigures(name, len(rows), right, float(np.mean(kept)), float(np.mean(holds)))


def _single_threshold(data: ScoredLabels, precision: float) -> float:
    order = np.argsort(-data.scores, kind="stable")
    above = np.cumsum(data.right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(above >= precision)
    return float((enough[-1] + 1) / len(order)) if len(enough) else 0.0


app = typer.Typer(add_completion=False)


@app.command()
def main(
    run: Annotated[Path, typer.Option(help="Folder of a run.")],
    gt: Annotated[Path, typer.Option(help="Ground truth of its photos, as COCO JSON.")],
    reviews: Annotated[int, typer.Option(help="Number of simulated reviews.")] = 1000,
    precision: Annotated[float, typer.Option(help="To guarantee.")] = 0.95,
    confidence: Annotated[float, typer.Option(help="Of the guarantee.")] = 0.95,
    budget: Annotated[int, typer.Option(help="Reviewed labels at most.")] = BUDGET,
    seed: Annotated[int, typer.Option(help="Of the first review.")] = 0,
) -> None:
    """Coverage, and how often the precision holds, as JSON, one line a word after the totals."""
    with reported():
        data = scored_labels(run, read_coco(gt))
        found = asdict(simulate(data, reviews, precision, confidence, budget, seed))
        groups = found.pop("groups")
        for line in itertools.chain([found], groups):
            typer.echo(json.dumps(line))


if __name__ == "__main__":
    app()
