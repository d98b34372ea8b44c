"""Classes that examples stand for. Axes: N regions, D text width, M classes of the encoder."""

import time

import pytest
import torch
from torch.nn import functional as F

from regionspot.errors import InputError
from regionspot.examples.classes import ExampleRegions
from regionspot.examples.spaces import DiscriminantSpace
from regionspot.scoring import class_scores, presence, with_example_classes
from regionspot.types import (
    ExampleClasses,
    ExampleDiscriminants,
    Regions,
    ScoreCalibration,
    Vocabulary,
    ZeroShotClasses,
)

WIDTH, LOGITS = 16, 24


def _cluster(seed: int, count: int) -> Regions:
    """Regions about a direction of their own."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(WIDTH + LOGITS, generator=generator)
    rows = centre + 0.3 * torch.randn(count, WIDTH + LOGITS, generator=generator)
    return Regions(rows[:, :WIDTH], class_logits=rows[:, WIDTH:])


def _images(regions: Regions) -> list[Regions]:
    """Each region as the only one of an image."""
    return [regions.select([row]) for row in range(len(regions.embedding))]


def _texts(count: int, novelty: float | None = None) -> Vocabulary:
    """Words whose texts are all alike, so that the examples alone tell them apart."""
    names = tuple(f"word {k}" for k in range(count))
    generator = torch.Generator().manual_seed(99)
    text = F.normalize(torch.randn(1, WIDTH, generator=generator), dim=-1)
    zero_shot = None
    if novelty is not None:
        zero_shot = ZeroShotClasses(torch.full((count,), novelty), torch.zeros(count, LOGITS), text)
    return Vocabulary(names, text.expand(count, -1), zero_shot=zero_shot)


def _vocabulary(*groups: ExampleRegions | None) -> Vocabulary:
    return with_example_classes(_texts(len(groups)), groups)


def _discriminants(vocabulary: Vocabulary) -> ExampleDiscriminants:
    assert vocabulary.examples is not None
    assert vocabulary.examples.discriminants is not None
    return vocabulary.examples.discriminants


@pytest.mark.parametrize("count", [1, 5, 50])
@pytest.mark.parametrize("strings", [(), ("a text",)])
def test_regions_like_the_examples_get_their_class(count: int, strings: tuple[str, ...]) -> None:
    groups = [ExampleRegions([_cluster(k, count)], strings) for k in range(3)]
    vocabulary = _vocabulary(*groups)
    for k in range(3):
        assert (class_scores(_cluster(k, 20), vocabulary).argmax(1) == k).all()
    kept = vocabulary.only(["word 2", "word 0"])
    assert (class_scores(_cluster(2, 20), kept).argmax(1) == 0).all()


def test_a_word_without_examples_keeps_its_score() -> None:
    groups = ExampleRegions([_cluster(1, 3)]), ExampleRegions([_cluster(2, 1)])
    vocabulary = _vocabulary(None, *groups)
    regions = _cluster(5, 10)
    cosine = F.normalize(regions.embedding, dim=-1) @ vocabulary.embedding[0]
    torch.testing.assert_close(class_scores(regions, vocabulary)[:, 0], cosine)


@pytest.mark.parametrize("useful", ["embedding", "logits"])
def test_the_space_that_tells_left_out_examples_apart_has_the_weight(useful: str) -> None:
    def cluster(k: int, seed: int) -> Regions:
        noise = _cluster(seed, 1)
        good = _cluster(k, 6)
        rows = {
            "embedding": (good.embedding, torch.randn(6, LOGITS) + noise.class_logits),
            "logits": (torch.randn(6, WIDTH) + noise.embedding, good.class_logits),
        }[useful]
        return Regions(rows[0], class_logits=rows[1])

    torch.manual_seed(0)
    regions = [cluster(k, 7) for k in range(12)]
    among = _discriminants(_vocabulary(*[ExampleRegions(_images(each)) for each in regions]))
    label = torch.arange(12).repeat_interleave(6)
    both = Regions.joined(regions)
    assert both.class_logits is not None
    by_embedding, by_logits = (
        DiscriminantSpace.of(each, label, torch.arange(72))
        for each in (both.embedding, both.class_logits)
    )
    odds = (among.logits.norm() / by_logits.linear[0].norm()) / (
        among.embedding.norm() / by_embedding.linear[0].norm()
    )  # of the weight of the class logits
    assert (odds < 0.7) if useful == "embedding" else (odds > 1.5)


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("count", [1, 4])
def test_a_text_counts_unless_it_contradicts_the_examples(count: int, is_right: bool) -> None:
    examples = [_cluster(k, count) for k in range(5)]
    means = torch.stack([_cluster(k, 200).embedding.mean(0) for k in range(5)])
    texts = F.normalize(means if is_right else means.roll(1, 0), dim=-1)
    names = tuple(f"word {k}" for k in range(5))
    groups = [ExampleRegions(_images(each), ("text",)) for each in examples]
    vocabulary = with_example_classes(Vocabulary(names, texts), groups)
    assert bool((_discriminants(vocabulary).text_weight > 0).all()) == is_right
    for k in range(5):
        assert (class_scores(_cluster(k, 20), vocabulary).argmax(1) == k).all()


def test_an_image_is_left_out_as_a_whole() -> None:
    rows = F.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    label, image = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 2, 2])
    space = DiscriminantSpace.of(rows, label, image)
    found, usable = space.left_out
    assert usable.tolist() == [True, True, True, False, False]
    assert found[0, 0].item() == pytest.approx(float(space.rows[0] @ space.rows[2]) - 0.5, abs=1e-6)


@pytest.mark.parametrize("others", [0, 3])
def test_presence_is_of_what_the_examples_show(others: int) -> None:
    groups = [ExampleRegions([_cluster(k, 10)]) for k in range(1 + others)]
    vocabulary = _vocabulary(*groups)
    calibration = ScoreCalibration(20.0, 5.0, -1.8)

    def present(seed: int) -> torch.Tensor:
        regions = _cluster(seed, 20)
        scores = class_scores(regions, vocabulary)
        return presence(regions, scores, vocabulary, calibration)[:, 0]

    assert present(0).min() > 0.3
    assert present(50).max() < 0.1


def test_thousands_of_examples_take_seconds() -> None:
    started = time.process_time()
    groups = [ExampleRegions(_images(_cluster(k, 2_000)), ("a text",)) for k in range(4)]
    vocabulary = _vocabulary(*groups)
    for k in range(4):
        assert (class_scores(_cluster(k, 20), vocabulary).argmax(1) == k).all()
    assert time.process_time() - started < 10


def test_examples_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InputError, match="'word 0' must have at least one example box"):
        _vocabulary(ExampleRegions([]))
    with pytest.raises(InputError, match="'word 0' are regions of another model"):
        _vocabulary(ExampleRegions([Regions(torch.zeros(1, WIDTH + 1))]))


def test_examples_have_little_effect_beside_the_text_of_a_trained_class() -> None:
    def classes(count: int, novelty: float | None, *strings: str) -> ExampleClasses:
        group = ExampleRegions([_cluster(1, count)], strings)
        found = with_example_classes(_texts(1, novelty), [group]).examples
        assert found is not None
        assert found.discriminants is None  # there is no other class with examples
        return found

    few, many = classes(1, 0.0, "a text"), classes(10_000, 0.0, "a text")
    assert few.text_weight.item() > 0.95
    assert few.embedding.norm() < 0.1 * classes(1, None, "a text").embedding.norm()
    full = classes(10_000, None, "a text")
    torch.testing.assert_close(many.embedding, full.embedding, rtol=0.01, atol=0.01)
    new, unknown = classes(1, 1.0, "a text"), classes(1, None, "a text")
    for name in ("text_weight", "embedding", "logits", "bias"):
        torch.testing.assert_close(getattr(new, name), getattr(unknown, name))
    assert classes(1, 0.0).text_weight.item() == 0
