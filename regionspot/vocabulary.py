"""From words, and regions that are examples of them, to a `Vocabulary`.

Words are embedded with prompts and synonyms, in batches, with a cache on disk.

Axes: K classes, D text width.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.nn import functional as F

from regionspot.errors import InputError
from regionspot.files import atomic_path
from regionspot.names import group_prompts
from regionspot.tensor_files.safetensors_file import read_safetensors
from regionspot.types import Vocabulary
from regionspot.weights import cache_folder

Words = Sequence[str] | Mapping[str, Sequence[str]]  # a string is a sequence of strings, too
BARE_NAME = "name"
NORM_TOLERANCE = 1e-3  # of a unit vector in the cache
KEY_BYTES = 16  # of a string's sha256
MOST_KEPT = 50_000  # strings of a file of the cache; the oldest ones go


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
        words: names; or names with the strings that stand for each (the name itself counts only
            where it is listed; an empty list means the name); or prompts, each with the name that
            it stands for.
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

    Only strings that the cache lacks are embedded.

    Args:
        embed: a text tower, from prompts to raw features.
        text_key: identifies the tower in the cache on disk.
        ensemble: name of the prompt ensemble.
        strings: K of them.
    """
    path = _cache_path(text_key, ensemble)
    known = _read(path)
    keys = [_key(string) for string in strings]
    missing = {key: each for key, each in zip(keys, strings, strict=True) if key not in known}
    if missing:
        prompts = templates(ensemble)
        raw = embed([prompt(string) for string in missing.values() for prompt in prompts])
        averaged = raw.view(len(missing), len(prompts), -1).mean(1)  # (k, prompts, D) to (k, D)
        found = dict(zip(missing, F.normalize(averaged, dim=-1).cpu(), strict=True))
        _store(path, _read(path) | found)  # read again: other processes embed words, too
        known |= found
    return torch.stack([known[key] for key in keys])


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
    synonyms: dict[str, list[str]] = {}
    for name, group in _by_name(words):
        if isinstance(group, str):
            raise InputError(
                f"synonyms of {name!r} must be a list, got the one string {group!r}; only a "
                "mapping of prompts to names has strings alone"
            )
        _check_strings("words", [name])
        _check_strings(f"synonyms of {name!r}", group)
        if name in synonyms:
            raise InputError(f"words must differ, got {name!r} twice")
        synonyms[name] = list(group) or [name]
    if not synonyms:
        raise InputError("the vocabulary is empty: give at least one word")
    return synonyms


def _by_name(words: Words) -> Iterable[tuple[str, str | Sequence[str]]]:
    """Each name with its strings, whichever way the words are given."""
    if not isinstance(words, Mapping):
        return [(word, [word]) for word in words]
    prompts = {prompt: name for prompt, name in words.items() if isinstance(name, str)}
    if len(prompts) == len(words):
        _check_strings("prompts", list(prompts))
        return group_prompts(prompts).items()
    return words.items()


def _check_strings(what: str, strings: Sequence[str]) -> None:
    for string in strings:
        if not isinstance(string, str):
            raise InputError(f"{what} must be strings, got {string!r}")
        if not string.strip():
            raise InputError(f"{what} must not be empty, got a blank one")


def _cache_path(text_key: str, ensemble: str) -> Path:
    """The file with the features of all strings that a tower has embedded with an ensemble."""
    name = hashlib.sha256(json.dumps([text_key, ensemble]).encode()).hexdigest()[:24]
    return cache_folder() / "vocabularies" / f"{name}.safetensors"


def _key(string: str) -> bytes:
    return hashlib.sha256(string.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


def _read(path: Path) -> dict[bytes, torch.Tensor]:
    """Features (D,) of the cache by the key of their string; none where the file is damaged."""
    if not path.exists():
        return {}
    try:
        tensors = read_safetensors(path)[1]
    except InputError:
        return {}
    features, keys = tensors.get("features"), tensors.get("keys")
    if not torch.is_tensor(features) or not torch.is_tensor(keys):
        return {}
    is_sound = (
        features.ndim == 2
        and features.is_floating_point()
        and keys.dtype == torch.uint8
        and keys.shape == (len(features), KEY_BYTES)
        and bool(((features.norm(dim=-1) - 1).abs() < NORM_TOLERANCE).all())
    )
    if not is_sound:
        return {}
    return {bytes(key): row for key, row in zip(keys.numpy(), features, strict=True)}


def _store(path: Path, known: Mapping[bytes, torch.Tensor]) -> None:
    last = list(known.items())[-MOST_KEPT:]
    tensors = {
        "features": torch.stack([row for _, row in last]),
        "keys": torch.frombuffer(bytearray(b"".join(key for key, _ in last)), dtype=torch.uint8)
        .view(len(last), KEY_BYTES),
    }  # fmt: skip
    # Without the cache, the words are encoded again.
    with suppress(OSError, SafetensorError), atomic_path(path) as temporary:
        save_file(tensors, temporary)
