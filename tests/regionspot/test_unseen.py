"""Words that the head was not trained on: the image tower's own classes answer for them."""

import torch
from torch import nn
from torch.nn import functional as F

from regionspot.scoring import Scoring, cosines, presence
from regionspot.types import Vocabulary
from regionspot.zero_shot import Adaptation, UnseenWords

WIDTH, CHANNELS = 8, 6
TRAINED, CLASSES = torch.eye(WIDTH)[:2], torch.eye(WIDTH)[2:5]


def unseen(adaptation: Adaptation | None = None) -> UnseenWords:
    classifier = nn.Linear(CHANNELS, len(CLASSES), bias=False)
    classifier.weight.data = torch.eye(CHANNELS)[: len(CLASSES)]
    return UnseenWords(classifier, CLASSES, TRAINED, adaptation)


def words(embedding: torch.Tensor) -> Vocabulary:
    names = tuple(f"word {i}" for i in range(len(embedding)))
    return Vocabulary(names, F.normalize(embedding, dim=-1))


def test_trained_words_are_scored_as_before() -> None:
    generator = torch.Generator().manual_seed(0)
    regions = torch.randn(4, WIDTH, generator=generator)
    looks = F.normalize(torch.randn(4, CHANNELS, generator=generator), dim=-1)
    vocabulary = words(TRAINED)
    widened = unseen().widen_words(vocabulary)
    found = cosines(unseen().widen_regions(regions, looks), widened)
    torch.testing.assert_close(found, cosines(regions, vocabulary), rtol=2e-4, atol=2e-4)


def test_a_new_word_is_found_by_the_class_of_its_name() -> None:
    seen_as_second = F.one_hot(torch.tensor([1]), CHANNELS).float()
    region = TRAINED[:1]
    vocabulary = words(torch.cat([TRAINED, CLASSES]))
    found = cosines(
        unseen().widen_regions(region, seen_as_second), unseen().widen_words(vocabulary)
    )
    assert cosines(region, vocabulary).argmax() == 0
    assert found.argmax() == 2 + 1


def test_a_head_start_says_nothing_of_presence() -> None:
    scoring = Scoring(logit_scale=20, presence_scale=10, presence_bias=-4)
    widened = unseen().widen_words(words(CLASSES))
    assert widened.head_start is not None
    nothing = unseen().widen_regions(TRAINED[:1], torch.zeros(1, CHANNELS))
    cosine = cosines(nothing, widened)
    torch.testing.assert_close(cosine[0], widened.head_start, rtol=2e-4, atol=2e-4)
    expected = torch.full((1, len(CLASSES)), torch.sigmoid(torch.tensor(-4.0)).item())
    torch.testing.assert_close(presence(cosine, widened, scoring), expected, rtol=2e-3, atol=2e-4)


def test_what_all_regions_show_speaks_for_no_word() -> None:
    """Every region looks most like the first class; what sets this one apart is the second."""
    usual = 0.9 * F.one_hot(torch.tensor(0), CHANNELS).float()
    seen = F.normalize(torch.tensor([[0.8, 0.6, 0, 0, 0, 0]]), dim=-1)
    classes = words(CLASSES)
    nothing = torch.ones(CHANNELS), torch.zeros(CHANNELS, 0), torch.zeros(0, CHANNELS)
    plain, apart = unseen(), unseen(Adaptation(usual, *nothing))
    region = torch.zeros(1, WIDTH)
    for known, best in ((plain, 0), (apart, 1)):
        found = cosines(known.widen_regions(region, seen), known.widen_words(classes))
        assert found.argmax() == best


def test_novelty_grows_with_the_distance_to_the_trained_words() -> None:
    near = F.normalize(torch.tensor([[1.0, 0, 0.5, 0, 0, 0, 0, 0]]), dim=-1)
    same, close, other = unseen().novelty(torch.cat([TRAINED[:1], near, CLASSES[:1]]))
    assert same == 0
    assert 0 < close < 1
    assert other == 1


def test_an_image_without_boxes() -> None:
    assert unseen().widen_regions(torch.zeros(0, WIDTH), torch.zeros(0, CHANNELS)).shape == (0, 12)


def test_a_word_as_near_to_one_class_as_to_another_is_a_number() -> None:
    between = words(torch.eye(WIDTH)[7:])
    assert unseen().widen_words(between).embedding.isfinite().all()
