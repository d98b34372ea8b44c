"""Classes that the head was not trained on, scored by the image tower's own classifier."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regionspot.errors import InputError
from regionspot.scoring import class_probabilities, class_scores, presence
from regionspot.types import Regions, ScoreCalibration, Vocabulary
from regionspot.zero_shot import UNSEEN_BIAS, FeatureAdapter, ZeroShotClassifier, region_features

WIDTH, CHANNELS = 8, 6
SEEN, CLASSES = torch.eye(WIDTH)[:2], torch.eye(WIDTH)[2:5]
CALIBRATION = ScoreCalibration(logit_scale=20, presence_scale=10, presence_bias=-4)


def zero_shot(adapter: FeatureAdapter | None = None) -> ZeroShotClassifier:
    classifier = nn.Linear(CHANNELS, len(CLASSES), bias=False)
    classifier.weight.data = torch.eye(CHANNELS)[: len(CLASSES)]
    return ZeroShotClassifier(classifier, CLASSES, SEEN, adapter)


def words(embedding: torch.Tensor) -> Vocabulary:
    names = tuple(f"word {i}" for i in range(len(embedding)))
    return Vocabulary(names, F.normalize(embedding, dim=-1))


def scores(
    classifier: ZeroShotClassifier,
    embedding: torch.Tensor,
    features: torch.Tensor,
    vocabulary: Vocabulary,
) -> torch.Tensor:
    regions = Regions(embedding, class_logits=classifier.class_logits(features))
    return class_scores(regions, classifier.extend(vocabulary))


# Of the tensors that `golden_case` draws, by the first implementation, less its one error: it kept
# both terms in one embedding, whose length of 1.0001 to 1.0007 it divided the scores by.
GOLDEN = {
    False: [
        [-0.2950465, 0.1272721, 0.7505383, 0.4365708],
        [0.2438406, -0.4828759, 0.0383169, 0.4762944],
        [-0.2851566, -0.0826477, 0.8566779, 0.4141941],
    ],
    True: [
        [-0.2950465, 0.1012074, 0.8224704, 0.5076314],
        [0.2438406, -0.5042223, 0.0972510, 0.5346638],
        [-0.2851566, -0.1143399, 0.9376756, 0.4527064],
    ],
}
GOLDEN_PRESENCE = [
    [0.0009573, 0.0241755, 0.9186918, 0.3265817],
    [0.1734180, 0.0000582, 0.0079430, 0.3885617],
    [0.0010567, 0.0028619, 0.9727946, 0.2187551],
]


def golden_case(has_adapter: bool) -> tuple[ZeroShotClassifier, Regions, Vocabulary]:
    generator = torch.Generator().manual_seed(11)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    classifier = nn.Linear(CHANNELS, 3, bias=False)
    classifier.weight.data = draw(3, CHANNELS)
    meanings, seen = F.normalize(draw(3, WIDTH), dim=-1), F.normalize(draw(2, WIDTH), dim=-1)
    mean, scale = 0.1 * draw(CHANNELS + 2), torch.rand(CHANNELS + 2, generator=generator)
    adapter = FeatureAdapter(mean, scale, 0.1 * draw(CHANNELS + 2, 2), draw(2, CHANNELS))
    vocabulary = words(torch.cat([seen[:1], seen[1:] + 0.3 * draw(1, WIDTH), draw(2, WIDTH)]))
    embedding, pooled, tokens = draw(3, WIDTH), draw(3, CHANNELS).relu(), draw(3, 2)
    found = ZeroShotClassifier(classifier, meanings, seen, adapter if has_adapter else None)
    logits = found.class_logits(region_features(pooled, tokens))
    return found, Regions(embedding, class_logits=logits), found.extend(vocabulary)


@pytest.mark.parametrize("has_adapter", [False, True])
def test_golden_scores(has_adapter: bool) -> None:
    _, regions, vocabulary = golden_case(has_adapter)
    expected = torch.tensor(GOLDEN[has_adapter])
    score = class_scores(regions, vocabulary)
    torch.testing.assert_close(score, expected, rtol=0, atol=1e-5)
    probability = class_probabilities(score, CALIBRATION)
    torch.testing.assert_close(probability, (20 * expected).softmax(1), rtol=0, atol=1e-4)
    if has_adapter:
        found_presence = presence(regions, score, vocabulary, CALIBRATION)
        torch.testing.assert_close(found_presence, torch.tensor(GOLDEN_PRESENCE), rtol=0, atol=1e-4)


def test_the_zero_shot_term_is_a_product_with_weighted_rows() -> None:
    found, regions, vocabulary = golden_case(has_adapter=False)
    assert vocabulary.zero_shot
    features = torch.randn(3, CHANNELS, generator=torch.Generator().manual_seed(0))
    logits = found.class_logits(features)
    nothing = Regions(regions.embedding, class_logits=torch.zeros_like(logits))
    term = class_scores(Regions(regions.embedding, class_logits=logits), vocabulary)
    term = term - class_scores(nothing, vocabulary)
    torch.testing.assert_close(features @ found.weighted_rows(vocabulary.zero_shot).T, term)


def test_seen_classes_are_scored_by_their_cosine() -> None:
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(4, WIDTH, generator=generator)
    features = F.normalize(torch.randn(4, CHANNELS, generator=generator), dim=-1)
    found = scores(zero_shot(), embedding, features, words(SEEN))
    assert torch.equal(found, class_scores(Regions(embedding), words(SEEN)))


def test_an_unseen_class_is_found_by_the_towers_class_of_its_name() -> None:
    second = F.one_hot(torch.tensor([1]), CHANNELS).float()
    vocabulary = words(torch.cat([SEEN, CLASSES]))
    assert class_scores(Regions(SEEN[:1]), vocabulary).argmax() == 0
    assert scores(zero_shot(), SEEN[:1], second, vocabulary).argmax() == 2 + 1


def test_the_bias_of_unseen_classes_is_no_part_of_presence() -> None:
    vocabulary = zero_shot().extend(words(CLASSES))
    assert vocabulary.zero_shot is not None
    score = scores(zero_shot(), SEEN[:1], torch.zeros(1, CHANNELS), words(CLASSES))
    torch.testing.assert_close(score[0], UNSEEN_BIAS * vocabulary.zero_shot.novelty)
    expected = torch.full((1, len(CLASSES)), torch.sigmoid(torch.tensor(-4.0)).item())
    found = presence(Regions(SEEN[:1]), score, vocabulary, CALIBRATION)
    torch.testing.assert_close(found, expected)


def test_what_all_regions_share_counts_for_no_class() -> None:
    """Every region's feature is nearest to the first class; this one differs by the second."""
    mean = 0.9 * F.one_hot(torch.tensor(0), CHANNELS).float()
    features = F.normalize(torch.tensor([[0.8, 0.6, 0, 0, 0, 0]]), dim=-1)
    identity = torch.ones(CHANNELS), torch.zeros(CHANNELS, 0), torch.zeros(0, CHANNELS)
    centred = zero_shot(FeatureAdapter(mean, *identity))
    for classifier, best in ((zero_shot(), 0), (centred, 1)):
        found = scores(classifier, torch.zeros(1, WIDTH), features, words(CLASSES))
        assert found.argmax() == best


def test_novelty_grows_with_the_distance_to_the_seen_classes() -> None:
    near = F.normalize(torch.tensor([[1.0, 0, 0.5, 0, 0, 0, 0, 0]]), dim=-1)
    same, close, other = zero_shot().novelty(torch.cat([SEEN[:1], near, CLASSES[:1]]))
    assert same == 0
    assert 0 < close < 1
    assert other == 1


def test_an_image_without_boxes() -> None:
    found = scores(zero_shot(), torch.zeros(0, WIDTH), torch.zeros(0, CHANNELS), words(CLASSES))
    assert found.shape == (0, len(CLASSES))


def test_a_class_as_near_to_one_of_the_towers_as_to_another_is_a_number() -> None:
    between = zero_shot().extend(words(torch.eye(WIDTH)[7:])).zero_shot
    assert between is not None
    assert between.mixture.isfinite().all()


def test_some_words_are_scored_as_among_all() -> None:
    _, regions, vocabulary = golden_case(has_adapter=True)
    some = vocabulary.only([vocabulary.names[k] for k in (3, 1)])
    every = class_scores(regions, vocabulary)
    torch.testing.assert_close(class_scores(regions, some), every[:, [3, 1]])


@pytest.mark.parametrize("logits", [None, torch.zeros(3, 9)], ids=["none", "of another tower"])
def test_regions_of_another_model_are_refused(logits: torch.Tensor | None) -> None:
    _, regions, vocabulary = golden_case(has_adapter=True)
    other = Regions(regions.embedding, class_logits=logits)
    with pytest.raises(InputError, match=r"must have class logits \(N, 3\).* with the same model"):
        class_scores(other, vocabulary)
