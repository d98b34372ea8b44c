"""Scores, probabilities and labels of regions, and the one object that makes them."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from regionspot.checkpoint import TrainedHead
from regionspot.config import preset
from regionspot.encoders import build_encoder
from regionspot.errors import InputError
from regionspot.model import RegionSpot
from regionspot.scoring import RegionClassifier, RegionScorer, class_scores
from regionspot.types import ScoreCalibration
from tests.regionspot.factories import (
    CALIBRATION,
    CPU,
    noise_image,
    random_boxes,
    random_words,
    seeded_head,
    small_encoder,
    small_model,
)

IMAGE = noise_image()
WORDS = random_words()
NOTHING = np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module")
def model() -> RegionSpot:
    return small_model()


def test_presence_does_not_depend_on_the_other_words(model: RegionSpot) -> None:
    boxes = random_boxes(4)
    labels = model.predict(IMAGE, boxes, WORDS)
    for row, best in enumerate(labels.class_id):
        alone = replace(WORDS, names=(WORDS.names[best],), embedding=WORDS.embedding[[best]])
        single = model.predict(IMAGE, boxes, alone)
        assert single.presence[row] == pytest.approx(labels.presence[row], abs=1e-6)
        assert single.score[row] == 1
        assert single.margin[row] == 1
        assert single.runner_up[row] == 0


def test_words_of_another_model_and_uneven_batches_are_refused(model: RegionSpot) -> None:
    other = replace(WORDS, embedding=torch.zeros(len(WORDS), 9))
    with pytest.raises(
        InputError, match=r"must be \(K, 32\) as this model embeds it, got \(7, 9\)"
    ):
        model.predict(IMAGE, random_boxes(2), other)
    with pytest.raises(InputError, match="expected boxes for 1 images, got 2"):
        model.regions([IMAGE], [NOTHING, NOTHING])
    with pytest.raises(InputError, match="the vocabulary is empty"):
        model.vocabulary([])


def test_the_model_is_a_region_classifier(model: RegionSpot) -> None:
    classifier: RegionClassifier = model
    assert len(classifier.predict(IMAGE, random_boxes(2), WORDS)) == 2


def test_clip_scores_all_words_alike() -> None:
    encoder, head = small_encoder(), seeded_head()
    scorer = RegionScorer.of(encoder, TrainedHead(head, seen_classes=("cat",)), "name")
    assert scorer.zero_shot is None
    assert scorer.calibration == ScoreCalibration.of_encoder(encoder.logit_scale)
    assert scorer.vocabulary(["cat", "dog"]).zero_shot is None
    nothing = scorer.no_regions()
    assert nothing.class_logits is None
    assert class_scores(nothing, WORDS).shape == (0, len(WORDS))


@dataclass(frozen=True)
class Cached:
    """Features of an image as a cache gives them back, in half precision."""

    tokens: torch.Tensor
    memory: torch.Tensor
    pooled: torch.Tensor | None
    prior: torch.Tensor | None


def test_mini_scores_unseen_classes_by_its_towers_classifier() -> None:
    config = preset("mini")
    encoder, head = build_encoder(config.encoder, CPU, torch.float32), seeded_head(config.head)
    assert encoder.pooler
    trained = TrainedHead(head, CALIBRATION, seen_classes=("cat", "dog"))
    scorer = RegionScorer.of(encoder, trained, config.encoder.templates)
    assert scorer.calibration == CALIBRATION
    words = scorer.vocabulary(["dog", "lighthouse"])
    assert words.zero_shot
    assert words.zero_shot.novelty.tolist() == pytest.approx([0, 1], abs=1e-5)
    assert words.zero_shot.mixture.shape == (2, 1000)
    assert class_scores(scorer.no_regions(), words).shape == (0, 2)

    generator = torch.Generator().manual_seed(0)
    tokens, memory, pooled = (
        torch.randn(*shape, generator=generator).half()
        for shape in ((3, 256), (5, 1280), (3, 1280))
    )
    prior = encoder.pooler.prior(pooled.float())
    (regions,) = scorer.regions([Cached(tokens, memory, pooled.relu(), prior)])
    assert regions.class_logits is not None
    assert regions.class_logits.shape == (3, 1000)
    cosine = regions.embedding @ words.embedding.T
    scores = class_scores(regions, words)
    torch.testing.assert_close(scores[:, 0], cosine[:, 0], rtol=0, atol=1e-5)
    assert (scores[:, 1] - cosine[:, 1]).abs().min() > 1e-3
