"""Figures of a run's labels by the options that decide which are kept."""

from autolabel.review.kept_labels import kept_labels
from integrations.formats.coco import read_coco
from tests.autolabel.helpers import FinishedRun


def test_a_run_against_its_own_labels(finished: FinishedRun) -> None:
    truth = read_coco(finished.folder / "labels.coco.json")
    options = finished.manifest.options
    own, other = kept_labels(
        finished.folder, truth, [options.detector_weight, 0.0], [options.containment]
    )
    total = sum(len(image.annotations) for image in truth.images)
    assert own.precision == 100
    assert own.ap == own.ap50 > 99 > other.ap
    assert 0 < own.labels == total - own.missed
    assert own.recall == round(100 * own.labels / total, 1)
