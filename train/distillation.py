"""Distillation: teacher embeddings of regions, averaged over heads of other seeds.

The mean of heads that differ in their seeds is more accurate than each; a head distilled from it
gains most of that (Hinton et al. 2015, "Distilling the knowledge in a neural network", arXiv
1503.02531).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn import functional as F

from integrations.progress import NullReporter, Reporter
from regionspot.head import RegionHead
from train.data.dataset import LazySequence
from train.features.cache import ImageFeatures
from train.sampler import TrainingSet


class TeacherFeatures(LazySequence[ImageFeatures]):
    """Images with the teachers' mean embedding of each region, of which 4 D bytes a region are kept
    in memory."""

    def __init__(
        self, features: Sequence[ImageFeatures], teachers: Sequence[RegionHead], reporter: Reporter
    ) -> None:
        self.features = features
        self.embeddings: list[torch.Tensor] = []
        for row in range(len(features)):
            regions = [teacher.regions([features[row]])[0] for teacher in teachers]
            mean = torch.stack([each.embedding for each in regions]).mean(0)  # (N, D)
            self.embeddings.append(F.normalize(mean, dim=-1))
            reporter.advance()

    def __len__(self) -> int:
        return len(self.features)

    def _at(self, row: int) -> ImageFeatures:
        return replace(self.features[row], teacher_embedding=self.embeddings[row])


def with_teacher_embeddings(
    sets: Sequence[TrainingSet],
    teachers: Sequence[RegionHead],
    reporter: Reporter | None = None,
) -> list[TrainingSet]:
    """Data sets whose regions also have the teachers' mean embedding."""
    reporter = reporter or NullReporter()
    reporter.start("teacher embeddings", sum(map(len, sets)))
    return [replace(s, features=TeacherFeatures(s.features, teachers, reporter)) for s in sets]
