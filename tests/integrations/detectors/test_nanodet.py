"""NanoDet-g rebuilt in torch against the published tfjs graph."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from integrations.detectors.nanodet import PUBLISHED_SIDE, NanoDet
from regionspot.weights import locate
from tests.integrations.detectors.tfjs import evaluate

Photo = Callable[[str], Image.Image]


def test_the_rebuilt_network_agrees_with_the_published_graph(photo: Photo) -> None:
    detector = NanoDet()
    x, _ = detector.preprocess(np.asarray(photo("astronaut")), PUBLISHED_SIDE)
    outputs = evaluate(locate("nanodet-graph"), locate("nanodet-weights"), x)
    with torch.inference_mode():
        scores, distances = detector.network(x)
    expected_scores = torch.cat(outputs[:3], dim=1)
    expected_distances = torch.cat(outputs[3:], dim=1)
    assert expected_scores.max() > 0.5
    torch.testing.assert_close(scores, expected_scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(distances.flatten(2), expected_distances, atol=1e-3, rtol=0)
