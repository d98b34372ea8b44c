"""Linear discriminants of classes from a few examples, in one space of features.

Features are centred, on the mean of the class means shrunk to the origin, and L2-normalised. A
class is scored by the linear discriminant of its prototype (Snell et al. 2017, "Prototypical
networks for few-shot learning", arXiv 1703.05175), with a covariance that is the identity plus what
the examples of all classes vary about their class means (regularised discriminant analysis,
Friedman 1989).

Axes: n examples of all classes together, J classes, F features, V examples of classes with several.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional as F

CENTRE_PRIOR = 1.0  # classes that the origin counts as
MOST_DEVIATIONS = 1000  # examples that the variance is estimated from, about
WITHIN = 50.0  # weight of the variance about class means, beside the identity


@dataclass(frozen=True)
class DiscriminantSpace:
    """The examples of all classes in one space.

    Attributes:
        rows: (n, F) centred and L2-normalised.
        label: (n,) class of each, in [0, J).
        image: (n,) number of the image of each, of which the classes have none in common.
        centre: (F,) that was subtracted.
    """

    rows: torch.Tensor
    label: torch.Tensor
    image: torch.Tensor
    centre: torch.Tensor

    @classmethod
    def of(
        cls,
        features: torch.Tensor,
        label: torch.Tensor,
        image: torch.Tensor,
    ) -> "DiscriminantSpace":
        """From features (n, F) of any length; every class has an example."""
        unit = F.normalize(features.float(), dim=-1)
        means = _means(unit, label)
        centre = means.sum(0) / (len(means) + CENTRE_PRIOR)
        return cls(F.normalize(unit - centre, dim=-1), label, image, centre)

    @cached_property
    def prototypes(self) -> torch.Tensor:
        """(J, F) L2-normalised."""
        return F.normalize(_means(self.rows, self.label), dim=-1)

    @cached_property
    def linear(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (J, F) and biases (J,) of the discriminants."""
        weights = self._whitened(self.prototypes)
        return weights, -0.5 * (weights * self.prototypes).sum(1)

    @cached_property
    def left_out(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Discriminants (n, J) of each example, its image being no example of its own class.

        The covariance is the identity, as that of the classes would hold the example itself. Beside
        them, (n,) whether its class has an example in another image.
        """
        found = self.rows @ self.prototypes.T - 0.5
        of_class, of_image = (_sums(self.rows, each)[each] for each in (self.label, self.image))
        own = F.normalize(of_class - of_image, dim=-1)  # (n, F) prototypes without the image
        count = torch.bincount(self.label)[self.label] - torch.bincount(self.image)[self.image]
        score = (self.rows * own).sum(1, keepdim=True) - 0.5
        return found.scatter(1, self.label[:, None], score), count > 0

    @cached_property
    def _deviations(self) -> torch.Tensor:
        """(V, F) scaled so that their scatter is the weighted covariance within classes."""
        counts = torch.bincount(self.label)
        deviations = (self.rows - _means(self.rows, self.label)[self.label])[counts[self.label] > 1]
        freedom = max(len(deviations) - int((counts > 1).sum()), 1)
        step = -(-len(deviations) // MOST_DEVIATIONS)  # rounded up
        some = deviations[:: max(step, 1)]
        return some * math.sqrt(WITHIN / freedom * len(deviations) / max(len(some), 1))

    @cached_property
    def _inner(self) -> torch.Tensor:
        """(V, V) of Woodbury's identity."""
        scatter = self._deviations @ self._deviations.T
        return torch.as_tensor(torch.linalg.inv(torch.eye(len(scatter)) + scatter))

    def _whitened(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (m, F), multiplied with the inverse covariance."""
        across = vectors @ self._deviations.T @ self._inner
        return torch.as_tensor(vectors - across @ self._deviations)


def _sums(rows: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The sum (J, F) of the rows of each class."""
    return rows.new_zeros(int(label.max()) + 1, rows.shape[1]).index_add(0, label, rows)


def _means(rows: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The mean (J, F) of each class."""
    return _sums(rows, label) / torch.bincount(label)[:, None]
