"""Accuracy of a head of the preset `mini` on the ground-truth boxes of data sets.

Axes: M images, N regions, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table

from integrations.output import cells
from regionspot.checkpoint import load_head
from regionspot.config import preset
from regionspot.scoring import RegionScorer
from train.data.coco import read_folder
from train.data.dataset import used_classes
from train.data.registry import known_classes
from train.features.extract import FeatureExtractor
from train.metrics import Accuracy, best_presence, embedded, region_scores, regions_of, top_k


@dataclass(frozen=True)
class EvaluationRow:
    """Classification of the regions of a data set, or of some of its classes.

    Attributes:
        name: of the data set, and of the classes' file.
        images: number of images with such a region.
        classes: number of classes that regions are classified among.
        top_1, top_5: accuracy with a 95% interval over images.
        presence: mean presence of the best class in percent; None without a region.
    """

    name: str
    images: int
    classes: int
    top_1: Accuracy
    top_5: Accuracy
    presence: float | None


def evaluate_folders(
    folders: Sequence[Path],
    checkpoint: Path,
    features_of: FeatureExtractor,
    listed: bool = False,
    synonyms: bool = False,
    parts: Sequence[Path] = (),
    limit: int | None = None,
) -> list[EvaluationRow]:
    """Evaluate a head on each folder, and on the classes of each vocabulary file.

    Args:
        folders: with `instances.json` and `images/` each.
        checkpoint: the head.
        features_of: extracts features of images; its tally counts what is left out.
        listed: classify among all classes that the data lists, not those with a box.
        synonyms: average the synonyms that the data lists into each class.
        parts: vocabulary files; the regions of their classes are evaluated separately, too.
        limit: number of the first images of each folder; None: all.

    Raises:
        InputError: a folder, file or checkpoint that cannot be used.
    """
    config = preset("mini")
    trained = load_head(checkpoint, config)
    scorer = RegionScorer.of(features_of.encoder, trained, config.encoder.templates)
    rows = []
    for folder in folders:
        dataset = read_folder(folder, features_of.tally)
        images, groups = list(dataset.images[:limit]), dataset.classes
        known = {file.stem: known_classes(file, dataset) for file in parts}
        features = features_of(config, images)
        classes = groups if listed else used_classes(images)
        vocabulary = scorer.vocabulary(
            {name: groups[name] if synonyms else [name] for name in classes}
        )
        scores = region_scores(scorer, features, vocabulary)
        regions = embedded(scorer, features)
        presences = torch.cat(best_presence(regions, scores, vocabulary, scorer.calibration))
        names = [name for image in features for name in image.names]
        parts_of = {folder.name: set(names)}
        parts_of |= {f"{folder.name}: {name}": set(part) for name, part in known.items()}
        for name, part in parts_of.items():
            some_scores, some = regions_of(part, scores, features)
            top_1, top_5 = (top_k(some_scores, some, vocabulary, k) for k in (1, 5))
            inside = torch.tensor([each in part for each in names])
            presence = 100 * float(presences[inside].mean()) if some else None
            rows.append(EvaluationRow(name, len(some), len(vocabulary), top_1, top_5, presence))
    return rows


def evaluation_table(rows: Sequence[EvaluationRow]) -> Table:
    """Accuracy on data sets, with intervals."""
    table = Table(
        *("data", "images", "boxes", "classes", "top-1 %", "top-5 %", "presence %"),
        box=None,
        pad_edge=False,
    )
    for row in rows:
        presence = "none" if row.presence is None else f"{row.presence:.1f}"
        counts = row.images, row.top_1.total, row.classes
        accuracy = str(row.top_1), str(row.top_5)
        table.add_row(*cells(row.name, *map(str, counts), *accuracy, presence))
    return table
