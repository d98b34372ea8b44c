"""Results of experiments as tables for a person."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from train.experiments.ablations import Ablation
from train.experiments.evaluate import EvaluationRow
from train.experiments.leave_classes_out import Fold, mean_of
from train.experiments.simulated_review import GROUPS, Effect
from train.metrics import mean_and_error


def ablation_markdown(rows: Sequence[Ablation]) -> str:
    """Top-1 and top-5 accuracy, and the change of each against the first row."""
    lines = ["| | top-1 % | change | top-5 % | change |", "|---|---|---|---|---|"]
    for number, row in enumerate(rows):
        changes = (row.change_1, row.change_5) if number else ("", "")
        lines.append(f"| {row.name} | {row.top_1} | {changes[0]} | {row.top_5} | {changes[1]} |")
    return "\n".join(lines)


def evaluation_table(rows: Sequence[EvaluationRow]) -> Table:
    """Accuracy on data sets, with intervals."""
    table = _table("data", "images", "boxes", "words", "top-1 %", "top-5 %", "presence %")
    for row in rows:
        presence = "none" if row.presence is None else f"{row.presence:.1f}"
        counts = row.images, row.top_1.total, row.classes
        table.add_row(row.name, *map(str, counts), str(row.top_1), str(row.top_5), presence)
    return table


def fold_table(folds: Sequence[Fold]) -> Table:
    """Metrics on seen and unseen classes of each fold, and their means."""
    table = _table("part", "words", "boxes", "top-1 %", "top-5 %", "log loss")
    for number, fold in [*enumerate(folds, 1), ("mean", mean_of(folds))]:
        for group, each in (("left out", fold.unseen), ("trained", fold.seen)):
            values = f"{each.top_1:.1f}", f"{each.top_5:.1f}", f"{each.log_loss:.3f}"
            table.add_row(str(number), group, str(each.boxes), *values)
    return table


def review_table(effects: Sequence[Effect]) -> Table:
    """Accuracy before and after each review, and the mean change with its standard error."""
    groups = [group for group in GROUPS if any(effect.before[group].total for effect in effects)]
    table = _table("review", "corrections", *groups)
    changes = []
    for number, effect in enumerate(effects):
        pairs = [(effect.before[group].value, effect.after[group].value) for group in groups]
        cells = [f"{before:.1f} > {after:.1f}" for before, after in pairs]
        table.add_row(str(number), str(effect.corrections), *cells)
        changes.append([after - before for before, after in pairs])
    means = zip(*mean_and_error(np.array(changes)), strict=True)
    table.add_row("mean change", "", *(f"{mean:+.1f} ± {error:.1f}" for mean, error in means))
    return table


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)
