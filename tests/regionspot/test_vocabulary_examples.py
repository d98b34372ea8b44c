"""Classes that examples stand for. Axes: N regions, D text width, M classes of the encoder."""

import pytest
import torch
from torch.nn import functional as F

from regionspot.errors import InputError
from regionspot.scoring import class_scores
from regionspot.types import ExampleClasses, Regions, Vocabulary
from regionspot.vocabulary import ExampleRegions, example_classes

WIDTH, LOGITS = 16, 24


def _cluster(seed: int, count: int) -> Regions:
    """Regions about a direction of their own."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(WIDTH + LOGITS, generator=generator)
    rows = centre + 0.3 * torch.randn(count, WIDTH + LOGITS, generator=generator)
    return Regions(rows[:, :WIDTH], class_logits=rows[:, WIDTH:])


def _vocabulary(*groups: ExampleRegions | None) -> Vocabulary:
    """Words whose texts are all alike, so that the examples alone tell them apart."""
    names = tuple(f"word {k}" for k in range(len(groups)))
    generator = torch.Generator().manual_seed(99)
    text = F.normalize(torch.randn(1, WIDTH, generator=generator), dim=-1)
    return Vocabulary(
        names, text.expand(len(groups), -1), examples=example_classes(groups, names, WIDTH)
    )


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
    vocabulary = _vocabulary(None, ExampleRegions([_cluster(1, 3)]))
    regions = _cluster(5, 10)
    cosine = F.normalize(regions.embedding, dim=-1) @ vocabulary.embedding[0]
    torch.testing.assert_close(class_scores(regions, vocabulary)[:, 0], cosine)


def test_examples_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InputError, match="'word 0' must have at least one example box"):
        _vocabulary(ExampleRegions([]))
    with pytest.raises(InputError, match="'word 0' are regions of another model"):
        _vocabulary(ExampleRegions([Regions(torch.zeros(1, WIDTH + 1))]))


def test_examples_have_little_effect_beside_the_text_of_a_trained_class() -> None:
    def classes(count: int, novelty: float | None) -> ExampleClasses:
        group = ExampleRegions([_cluster(1, count)], ("a text",))
        given = None if novelty is None else torch.tensor([novelty])
        return example_classes([group], ["word"], WIDTH, given)

    few, many = classes(1, novelty=0.0), classes(10_000, novelty=0.0)
    assert few.text_weight.item() > 0.95
    assert few.embedding.norm() < 0.1 * classes(1, None).embedding.norm()
    torch.testing.assert_close(
        many.embedding, classes(10_000, None).embedding, rtol=0.01, atol=0.01
    )
    for name, tensor in vars(classes(1, novelty=1.0)).items():
        torch.testing.assert_close(tensor, vars(classes(1, None))[name])
    without_text = example_classes(
        [ExampleRegions([_cluster(1, 1)])], ["word"], WIDTH, torch.zeros(1)
    )
    assert without_text.text_weight.item() == 0
