"""NanoDet-g rebuilt in torch against the published tfjs graph."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from integrations.detectors.nanodet import CLASSES, PUBLISHED_SIDE, NanoDet
from regionspot.boxes import box_iou
from regionspot.devices.runtime import CONVERTERS, build_runtime
from regionspot.weights import locate
from tests.integrations.detectors.tfjs import evaluate

Photo = Callable[[str], Image.Image]


def test_the_rebuilt_network_agrees_with_the_published_graph(photo: Photo) -> None:
    detector = NanoDet()
    x, _ = detector.preprocess(np.asarray(photo("astronaut")), PUBLISHED_SIDE)
    outputs = evaluate(locate("nanodet-graph"), locate("nanodet-weights"), x)
    with torch.inference_mode():
        logits = detector.network(x)
    expected_scores = torch.cat(outputs[:3], dim=1)
    expected_distances = torch.cat(outputs[3:], dim=1)
    assert expected_scores.max() > 0.5
    scores, distances = logits[..., :CLASSES].sigmoid(), logits[..., CLASSES:]
    torch.testing.assert_close(scores, expected_scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(distances, expected_distances, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", CONVERTERS)
def test_other_runtimes_find_the_same_boxes(photo: Photo, name: str) -> None:
    runtime = build_runtime(name)
    detector, reference = NanoDet(runtime=runtime), NanoDet()
    for image in (np.asarray(photo("astronaut")), np.asarray(photo("coffee"))):  # of two shapes
        found, expected = detector.detect(image), reference.detect(image)
        overlap = box_iou(expected.boxes[:10], found.boxes)
        np.testing.assert_array_less(0.95, overlap.max(1))
        np.testing.assert_allclose(found.score[:10], expected.score[:10], atol=0.02)
