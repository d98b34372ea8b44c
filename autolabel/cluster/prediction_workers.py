"""Predictions of a benchmark computed by Ray's actors, each of which holds the towers once.

An actor reads ground truth, boxes and images by path, so all lie on a file system that all machines
share. The driver alone writes predictions and report.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

from autolabel.evaluation.predict import ImagePrediction
from autolabel.evaluation.predictor import BenchmarkRequest, MissingImage, Predictor
from integrations.cluster.ray_pool import RayPool, ray_pool
from integrations.progress import NullReporter, Reporter
from regionspot.errors import InputError

IMAGES = 8  # of a task


@dataclass(frozen=True)
class RayPredictions:
    """Actors that compute the predictions of a benchmark."""

    pool: RayPool

    @property
    def device(self) -> str:
        """What the actors compute on."""
        return self.pool.device

    def predictions(
        self, request: BenchmarkRequest, missing: Sequence[MissingImage], reporter: Reporter
    ) -> Iterator[tuple[MissingImage, ImagePrediction]]:
        """The prediction of each, in the order in which they are done.

        Raises:
            InputError: as of `RayPool.map`.
        """
        starts = range(0, len(missing), IMAGES)
        tasks = {start: missing[start : start + IMAGES] for start in starts}
        build = partial(PredictionActor, request)
        for start, found in self.pool.map(build, tasks, str(request.out.resolve()), reporter):
            yield from zip(tasks[start], found, strict=True)


def ray_predictions(count: int, address: str, gpus_per_worker: float) -> RayPredictions | None:
    """The workers that `evaluate --workers --ray --gpus-per-worker` ask for; None: this process.

    Raises:
        InputError: as of `ray_pool`.
    """
    pool = ray_pool(count, address, gpus_per_worker)
    return RayPredictions(pool) if pool else None


class PredictionActor:
    """Predicts images in a process of its own.

    Raises:
        InputError: it does not see the ground truth or the boxes, or its weights are other ones.
    """

    def __init__(self, request: BenchmarkRequest, _cpus: int = 1) -> None:
        self._predictor = Predictor.of(request, NullReporter())
        self._key = cache(self._predictor.key)

    def __call__(self, task: Sequence[MissingImage]) -> list[ImagePrediction]:
        """The predictions of some images."""
        for each in task:
            if self._key(each.classifier, each.source) != each.key:
                raise InputError(
                    "a worker has another ground truth, other boxes or other weights than this "
                    "machine; install the same on all machines"
                )
        return [
            self._predictor.predict(each.classifier, each.source, each.image_id) for each in task
        ]
