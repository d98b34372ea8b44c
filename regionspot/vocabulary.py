"""From words to a `Vocabulary`: prompts, synonyms, batches and a cache on disk."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from regionspot.errors import InputError
from regionspot.files import atomic_path
from regionspot.types import Vocabulary
from regionspot.weights import cache_folder

Words = Sequence[str] | Mapping[str, Sequence[str]]
BARE_NAME = "name"


class TextTower(Protocol):
    """The text side of an encoder.

    Attributes:
        text_key: identifies the tower in the cache of text features.
    """

    text_key: str

    def text(self, strings: Sequence[str]) -> torch.Tensor:
        """Raw text features (K, D)."""


def build_vocabulary(encoder: TextTower, words: Words, ensemble: str) -> Vocabulary:
    """Embed words with an encoder's text tower.

    The raw features of all templates are averaged, then normalised; a word's synonyms are
    averaged after that and normalised again. The embeddings are kept in the user's cache.

    Args:
        encoder: whose text tower embeds the words.
        words: names, or names with the strings that stand for each (the name itself counts only
            where it is listed; an empty list means the name).
        ensemble: the name of the prompt ensemble.

    Raises:
        InputError: no words, an empty word, or the same word twice.
    """
    synonyms = _checked(words)
    strings = sorted({string for group in synonyms.values() for string in group})
    features = cached_features(encoder.text, encoder.text_key, ensemble, strings)
    row = {string: i for i, string in enumerate(strings)}
    embedding = torch.stack(
        [features[[row[s] for s in group]].mean(0) for group in synonyms.values()]
    )
    return Vocabulary(
        tuple(synonyms), F.normalize(embedding, dim=-1), tuple(map(tuple, synonyms.values()))
    )


def cached_features(
    embed: Callable[[Sequence[str]], torch.Tensor],
    text_key: str,
    ensemble: str,
    strings: Sequence[str],
) -> torch.Tensor:
    """Features (K, D) of strings, averaged over the templates and then normalised.

    Args:
        embed: a text tower, from prompts to raw features.
        text_key: identifies the tower in the cache on disk.
        ensemble: name of the prompt ensemble.
        strings: K of them.
    """
    path = _cache_path(text_key, ensemble, strings)
    if path.exists():
        return load_file(path)["features"]
    prompts = templates(ensemble)
    raw = embed([prompt(string) for string in strings for prompt in prompts])
    averaged = raw.view(len(strings), len(prompts), -1).mean(1)  # (K, prompts, D) to (K, D)
    features = F.normalize(averaged, dim=-1).cpu()
    _store(path, features)
    return features


def templates(name: str) -> tuple[Callable[[str], str], ...]:
    """The prompts of an ensemble: `name` (the bare word), `photo`, or CLIP's `openai-imagenet`.

    Raises:
        InputError: there is no ensemble of that name.
    """
    if name == BARE_NAME:
        return (str,)
    if name == "photo":
        return ("a photo of a {}.".format,)
    if name == "openai-imagenet":
        from open_clip import OPENAI_IMAGENET_TEMPLATES  # the 80 prompts of Radford et al. 2021

        return tuple(OPENAI_IMAGENET_TEMPLATES)
    raise InputError(
        f"unknown templates {name!r}; ensembles are {BARE_NAME}, photo, openai-imagenet"
    )


def _checked(words: Words) -> dict[str, list[str]]:
    if isinstance(words, str):
        raise InputError(f"words must be a list, got the one string {words!r}")
    pairs = words.items() if isinstance(words, Mapping) else ((word, [word]) for word in words)
    synonyms: dict[str, list[str]] = {}
    for name, group in pairs:
        if isinstance(group, str):
            raise InputError(f"synonyms of {name!r} must be a list, got the one string {group!r}")
        _check_strings("words", [name])
        _check_strings(f"synonyms of {name!r}", group)
        if name in synonyms:
            raise InputError(f"words must differ, got {name!r} twice")
        synonyms[name] = list(group) or [name]
    if not synonyms:
        raise InputError("the vocabulary is empty: give at least one word")
    return synonyms


def _check_strings(what: str, strings: Sequence[str]) -> None:
    for string in strings:
        if not isinstance(string, str):
            raise InputError(f"{what} must be strings, got {string!r}")
        if not string.strip():
            raise InputError(f"{what} must not be empty, got a blank one")


def _cache_path(text_key: str, ensemble: str, strings: Sequence[str]) -> Path:
    content = json.dumps([text_key, ensemble, list(strings)])
    name = hashlib.sha256(content.encode()).hexdigest()[:24]
    return cache_folder() / "vocabularies" / f"{name}.safetensors"


def _store(path: Path, features: torch.Tensor) -> None:
    # Without the cache, the words are encoded again.
    with suppress(OSError, SafetensorError), atomic_path(path) as temporary:
        save_file({"features": features.contiguous()}, temporary)
