"""Words: batches, synonyms, the cache, and what is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from regionspot import vocabulary
from regionspot.errors import InputError
from regionspot.vocabulary import Words, build_vocabulary, templates
from tests.regionspot.factories import small_encoder


class CountingEncoder:
    """Features (K, 16) that depend on the string alone; counts what it was asked for."""

    logit_scale = 1.0
    text_width = 16

    def __init__(self, text_key: str = "counting") -> None:
        self.text_key = text_key
        self.calls: list[int] = []

    def text(self, strings: Sequence[str]) -> torch.Tensor:
        self.calls.append(len(strings))
        rows = [torch.Generator().manual_seed(sum(s.encode()) * len(s)) for s in strings]
        return torch.stack([3 * torch.rand(16, generator=g) for g in rows])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path))
    return tmp_path / "vocabularies"


def test_lvis_names_in_one_pass_then_from_the_cache(cache: Path) -> None:
    names = [f"thing {i}" for i in range(1203)]
    encoder = CountingEncoder()
    first = build_vocabulary(encoder, names, "photo")
    assert encoder.calls == [1203]
    assert first.embedding.shape == (1203, 16)
    again = build_vocabulary(encoder, list(reversed(names)), "photo")
    assert encoder.calls == [1203]
    assert torch.equal(again.embedding, first.embedding.flip(0))
    assert len(list(cache.iterdir())) == 1


def test_cache_tells_encoder_templates_and_words_apart(cache: Path) -> None:
    for key, words, ensemble in [
        ("a", ["cat"], "name"),
        ("b", ["cat"], "name"),
        ("a", ["dog"], "name"),
        ("a", ["cat"], "photo"),
    ]:
        encoder = CountingEncoder(key)
        build_vocabulary(encoder, words, ensemble)
        assert encoder.calls == [1]
    assert len(list(cache.iterdir())) == 3  # cat and dog are in one


def test_one_new_word_costs_one_word() -> None:
    names = [f"thing {i}" for i in range(1203)]
    encoder = CountingEncoder()
    before = build_vocabulary(encoder, names, "photo")
    after = build_vocabulary(encoder, [*names[:600], "new", *names[600:]], "photo")
    assert encoder.calls == [1203, 1]
    assert torch.equal(after.embedding[601:], before.embedding[600:])
    expected = build_vocabulary(CountingEncoder("elsewhere"), ["new"], "photo")
    assert torch.equal(after.embedding[600], expected.embedding[0])


def test_the_oldest_strings_leave_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "MOST_KEPT", 3)
    encoder = CountingEncoder()
    for name in ("first", "second", "third", "fourth"):
        build_vocabulary(encoder, [name], "name")
    build_vocabulary(encoder, ["second", "third", "fourth"], "name")
    assert encoder.calls == [1, 1, 1, 1]
    build_vocabulary(encoder, ["first", "fourth"], "name")
    assert encoder.calls == [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t | {"features": 2 * t["features"]},
        lambda t: t | {"keys": t["keys"][:, :8].contiguous()},
        lambda t: {"features": t["features"]},
        lambda t: t | {"features": t["features"][:-1]},
    ],
)
def test_a_damaged_cache_is_written_again(
    cache: Path, damage: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    encoder = CountingEncoder()
    first = build_vocabulary(encoder, ["cat", "dog"], "name")
    (path,) = cache.iterdir()
    save_file(damage(load_file(path)), path)
    for _ in range(2):
        assert torch.equal(
            build_vocabulary(encoder, ["cat", "dog"], "name").embedding, first.embedding
        )
    assert encoder.calls == [2, 2]


def test_synonyms_are_averaged_into_one_class() -> None:
    encoder = CountingEncoder()
    found = build_vocabulary(encoder, {"cat": ["cat", "kitten"], "dog": []}, "name")
    assert found.names == ("cat", "dog")
    assert found.synonyms == (("cat", "kitten"), ("dog",))
    cat, kitten, dog = F.normalize(encoder.text(["cat", "kitten", "dog"]), dim=-1)
    expected = F.normalize(torch.stack([(cat + kitten) / 2, dog]), dim=-1)
    torch.testing.assert_close(found.embedding, expected)


def test_prompts_of_one_class_are_averaged_without_its_name() -> None:
    prompts = {"a dog": "dog", "a cat": "cat", "a puppy": "dog"}
    found = build_vocabulary(CountingEncoder(), prompts, "name")
    assert found.synonyms == (("a dog", "a puppy"), ("a cat",))
    by_list = build_vocabulary(
        CountingEncoder(), {"dog": ["a dog", "a puppy"], "cat": ["a cat"]}, "name"
    )
    assert found.names == by_list.names == ("dog", "cat")
    torch.testing.assert_close(found.embedding, by_list.embedding, rtol=0, atol=0)


def test_batches_of_the_text_tower_change_nothing() -> None:
    encoder = small_encoder()
    words = [f"w{i}" for i in range(300)]
    together = encoder.text(words)
    torch.testing.assert_close(together[255:258], encoder.text(words[255:258]), rtol=0, atol=1e-5)
    assert together.shape == (300, encoder.text_width)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the vocabulary is empty: give at least one word"),
        ({}, "the vocabulary is empty"),
        (["cat", " "], "words must not be empty, got a blank one"),
        (["cat", "cat"], "words must differ, got 'cat' twice"),
        ("cat", "words must be a list, got the one string 'cat'"),
        (
            {"cat": "kitten", "dog": []},
            "synonyms of 'cat' must be a list, got the one string 'kitten'",
        ),
        ({"a cat": " "}, "words must not be empty, got a blank one"),
        ({" ": "cat"}, "prompts must not be empty, got a blank one"),
        ({"cat": ["kitten", ""]}, "synonyms of 'cat' must not be empty, got a blank one"),
        (["cat", 3], "words must be strings, got 3"),
    ],
)
def test_words_that_cannot_be_used(words: Words, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_vocabulary(CountingEncoder(), words, "name")


def test_unknown_templates_list_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown templates 'x'; ensembles are name, photo"):
        templates("x")
    assert len(templates("openai-imagenet")) == 80
    assert [prompt("cat") for prompt in (*templates("name"), *templates("photo"))] == [
        "cat",
        "a photo of a cat.",
    ]
