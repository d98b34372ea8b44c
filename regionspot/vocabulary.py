"""From words, and regions that are examples of them, to a `Vocabulary`.

Words are embedded with prompts and synonyms, in batches, with a cache on disk.

A few example regions stand for a class, with or without words of their own.

Each class has two prototypes (Snell et al. 2017, "Prototypical networks for few-shot learning",
arXiv 1703.05175): the mean of its examples' region embeddings and that of the logits of the
encoder's own classifier, each L2-normalised before and after. Their cosines are added to the score
of the class's text, whose weight falls with the number of examples (shrinkage).

Axes: N regions, n examples of one class, K classes, D text width, M classes of the encoder's own
classifier.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.nn import functional as F

from regionspot.boxes import FloatArray
from regionspot.errors import InputError
from regionspot.files import atomic_path
from regionspot.names import group_prompts
from regionspot.tensor_files.safetensors_file import read_safetensors
from regionspot.types import ExampleClasses, ImageArray, Regions, Vocabulary
from regionspot.weights import cache_folder

Words = Sequence[str] | Mapping[str, Sequence[str]]  # a string is a sequence of strings, too
BARE_NAME = "name"
NORM_TOLERANCE = 1e-3  # of a unit vector in the cache
KEY_BYTES = 16  # of a string's sha256
MOST_KEPT = 50_000  # strings of a file of the cache; the oldest ones go

# With t = n / (n + HALF) for n examples, each weight is (at t = 0, its change up to t = 1). Fitted
# by least log loss over boxes of images of coco_train that the head was not trained on, of the
# classes that it was trained on and of 15 others, which had the examples; with text, boxes of these
# have a weight of 0.8, at which the accuracy of the trained classes does not fall there.
HALF = 3.0
TEXT_WEIGHT = 0.67, -0.49
EMBEDDING_WEIGHT, EMBEDDING_WEIGHT_WITHOUT_TEXT = (-0.11, 0.78), (0.06, 0.70)
LOGITS_WEIGHT, LOGITS_WEIGHT_WITHOUT_TEXT = (0.29, 0.13), (0.39, 0.11)
BIAS, BIAS_WITHOUT_TEXT = (0.17, -0.48), (0.26, -0.62)
# The text of a class that the head was trained on stands for many boxes already: beside it, n
# examples have n / (n + SEEN_HALF) of the effect that they have on a new class. With examples of
# all trained classes, from photos of coco_train that a head was not trained on, top-1 of these
# falls from 59.7 to 59.6, 58.7 and 56.5% at 1, 5 and 20; with their full effect to 42, 45 and 45%.
SEEN_HALF = 60.0


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


@dataclass(frozen=True)
class Examples:
    """Boxes that show a class.

    Attributes:
        images: uint8 (H, W, 3) RGB each.
        boxes: for each image, float32 (n, 4) xyxy pixels.
        strings: texts that stand for the class, too; empty: it has none, and its name is no text.
    """

    images: Sequence[ImageArray]
    boxes: Sequence[FloatArray]
    strings: Sequence[str] = ()


@dataclass(frozen=True)
class ExampleRegions:
    """As `Examples`, of regions that the model has computed already.

    Attributes:
        regions: of some images; each row is an example.
        strings: texts that stand for the class, too.
    """

    regions: Sequence[Regions]
    strings: Sequence[str] = ()


WordOrExamples = Sequence[str] | Examples | ExampleRegions


def with_example_classes(
    vocabulary: Vocabulary, groups: Sequence[ExampleRegions | None]
) -> Vocabulary:
    """A vocabulary whose classes have examples; arguments and errors as of `example_classes`."""
    width = vocabulary.embedding.shape[-1]
    novelty = vocabulary.zero_shot.novelty if vocabulary.zero_shot else None
    classes = example_classes(groups, vocabulary.names, width, novelty)
    return replace(vocabulary, examples=classes)


def example_classes(
    groups: Sequence[ExampleRegions | None],
    names: Sequence[str],
    width: int,
    novelty: torch.Tensor | None = None,
) -> ExampleClasses:
    """The prototypes and weights of the classes of a vocabulary.

    Args:
        groups: the examples of each of K classes; None: text alone scores it.
        names: of the classes, for messages.
        width: D, of region embeddings.
        novelty: (K,) in [0, 1], 0 of a class that the head was trained on; None: all are new.

    Raises:
        InputError: a class has no example, or its regions are those of another model.
    """
    logits_width = max(
        (
            each.class_logits.shape[-1]
            for group in groups
            if group
            for each in group.regions
            if each.class_logits is not None
        ),
        default=0,
    )
    text_weight = torch.ones(len(groups))
    embedding, logits = torch.zeros(len(groups), width), torch.zeros(len(groups), logits_width)
    bias = torch.zeros(len(groups))
    for k, (group, name) in enumerate(zip(groups, names, strict=True)):
        if group is None:
            continue
        count = sum(len(each.embedding) for each in group.regions)
        if not count:
            raise InputError(f"{name!r} must have at least one example box, got none")
        if any(each.embedding.shape[-1] != width for each in group.regions):
            raise InputError(f"the examples of {name!r} are regions of another model")
        t, effect = count / (count + HALF), 1.0
        if group.strings and novelty is not None:
            new = float(novelty[k])
            effect = new + (1 - new) * count / (count + SEEN_HALF)
        text_weight[k] = 1 + effect * (_at(TEXT_WEIGHT, t) - 1) if group.strings else 0.0
        weight = EMBEDDING_WEIGHT if group.strings else EMBEDDING_WEIGHT_WITHOUT_TEXT
        prototype = _prototype([each.embedding for each in group.regions])
        embedding[k] = effect * _at(weight, t) * prototype
        found = [each.class_logits for each in group.regions if each.class_logits is not None]
        if found:
            logits_weight = LOGITS_WEIGHT if group.strings else LOGITS_WEIGHT_WITHOUT_TEXT
            logits[k] = effect * _at(logits_weight, t) * _prototype(found)
        bias[k] = effect * _at(BIAS if group.strings else BIAS_WITHOUT_TEXT, t)
    return ExampleClasses(text_weight, embedding, logits, bias)


def add_examples(
    scores: torch.Tensor,
    embedding: torch.Tensor,
    class_logits: torch.Tensor | None,
    classes: ExampleClasses,
) -> torch.Tensor:
    """Scores (N, K) of text and examples, from those of the text alone.

    Args:
        scores: (N, K) of the text.
        embedding: (N, D) L2-normalised.
        class_logits: (N, M); None where the model has none.
        classes: of the vocabulary.
    """
    device = scores.device
    added = embedding @ classes.embedding.to(device).T + classes.bias.to(device)  # (N, K)
    if class_logits is not None and classes.logits.shape[-1]:
        added = added + F.normalize(class_logits.float(), dim=-1) @ classes.logits.to(device).T
    return classes.text_weight.to(device) * scores + added


def _at(weight: tuple[float, float], t: float) -> float:
    start, change = weight
    return start + change * t


def _prototype(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """The normalised mean (D,) of normalised rows (n, D)."""
    return F.normalize(F.normalize(torch.cat(list(rows)).float(), dim=-1).mean(0), dim=0)
