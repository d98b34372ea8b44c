"""Heads that teach another, which comes near to what they agree on without being as many.

The mean of heads that differ in their seeds is truer than each; a head that is held to it learns
most of that (Hinton et al. 2015, "Distilling the knowledge in a neural network", arXiv 1503.02531).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch.nn import functional as F

from regionspot.head import RegionHead
from train.data import LazySequence
from train.features.cache import ImageFeatures
from train.sampler import TrainingSet

OnImage = Callable[[], None]


class Taught(LazySequence[ImageFeatures]):
    """Images with the teachers' mean embedding of each region, which is kept in memory: 4 D bytes a
    region."""

    def __init__(
        self, features: Sequence[ImageFeatures], teachers: Sequence[RegionHead], on_image: OnImage
    ) -> None:
        self.features = features
        self.taught: list[torch.Tensor] = []
        for row in range(len(features)):
            said = [teacher.regions([features[row]])[0].embedding for teacher in teachers]
            found = torch.stack(said)  # (teachers, N, D)
            self.taught.append(F.normalize(found.mean(0), dim=-1))
            on_image()

    def __len__(self) -> int:
        return len(self.features)

    def _at(self, row: int) -> ImageFeatures:
        return replace(self.features[row], taught=self.taught[row])


def taught(
    sets: Sequence[TrainingSet],
    teachers: Sequence[RegionHead],
    on_image: OnImage = lambda: None,
) -> list[TrainingSet]:
    """Data sets whose regions also have the embedding that the teachers agree on.

    Args:
        on_image: called once an image is done.
    """
    return [replace(data, features=Taught(data.features, teachers, on_image)) for data in sets]
