"""Weights and tokenizers of open_clip's models: by name, out of caches, or a file of the user's."""

import difflib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from huggingface_hub import try_to_load_from_cache

from regionspot.config import EncoderConfig
from regionspot.errors import InputError
from regionspot.sources import OpenClip, check_hub
from regionspot.weights import WEIGHTS, WeightFile, cached_path, locate

# What open_clip looks for in a repository that names no file.
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and standard deviation of RGB in [0, 1], which inputs are normalised by."""

    mean: tuple[float, ...] = open_clip.OPENAI_DATASET_MEAN
    std: tuple[float, ...] = open_clip.OPENAI_DATASET_STD


OPENAI_PIXELS = PixelStatistics()


def pixel_statistics(config: EncoderConfig) -> PixelStatistics:
    """Of the weights of a name; of a file, those of the first weights that are listed."""
    tags = open_clip.list_pretrained_tags_by_model(config.model)
    tag = config.pretrained if config.pretrained in tags else next(iter(tags), "")
    settings = open_clip.get_pretrained_cfg(config.model, tag)
    if "mean" not in settings:
        return OPENAI_PIXELS
    return PixelStatistics(tuple(settings["mean"]), tuple(settings["std"]))


def find_weights(config: EncoderConfig) -> Path:
    """The file of a model's weights, fetched first where it is known by name and in no cache.

    Raises:
        InputError: names as of `check_names`, or weights that cannot be had.
    """
    check_names(config)
    if found := cached_weights(config):
        return found
    if listed := _listed(config):
        return locate(listed.name)
    settings = open_clip.get_pretrained_cfg(config.model, config.pretrained)
    with _one_line(f"the weights {config.pretrained!r} of {config.model!r}"):
        if settings.get("hf_hub"):
            check_hub()
        return Path(open_clip.download_pretrained(settings))


def cached_weights(config: EncoderConfig) -> Path | None:
    """The file of a model's weights where it need not be fetched."""
    if _is_file(config):
        return Path(config.pretrained)
    if listed := _listed(config):
        return locate(listed.name) if cached_path(listed).exists() else None
    settings = open_clip.get_pretrained_cfg(config.model, config.pretrained)
    repository, _, name = settings.get("hf_hub", "").rpartition("/")
    for each in [name] if name else HUB_FILES:
        found = try_to_load_from_cache(repository, each) if repository else None
        if isinstance(found, str):
            return Path(found)
    return None


def find_tokenizer(model: str) -> Callable[[list[str]], torch.Tensor]:
    """The tokenizer of an architecture, fetched first where it is a hub's and in no cache.

    Raises:
        InputError: it cannot be had.
    """
    with _one_line(f"the tokenizer of {model!r}"):
        found: Callable[[list[str]], torch.Tensor] = open_clip.get_tokenizer(model)
        return found


def check_names(config: EncoderConfig) -> None:
    """Refuse names that open_clip does not know; only of a name the activation is known.

    Raises:
        InputError: an unknown architecture, neither known weights nor a file, or an architecture
            whose QuickGELU is not the weights'.
    """
    model, pretrained = config.model, config.pretrained
    if model not in open_clip.list_models():
        near = difflib.get_close_matches(model, open_clip.list_models())
        hint = f"near it are {', '.join(near)}" if near else "open_clip.list_models() has all names"
        raise InputError(f"open_clip knows no model {model!r}; {hint}")
    if _is_file(config):
        return
    if not open_clip.get_pretrained_cfg(model, pretrained):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise InputError(
            f"there is no file {pretrained!r}, and open_clip knows no such weights of {model!r}, "
            f"only {tags}"
        )
    _check_activation(model, pretrained)


def _check_activation(model: str, pretrained: str) -> None:
    weights = open_clip.get_pretrained_cfg(model, pretrained)
    expected = bool(weights.get("quick_gelu", False))
    if bool(open_clip.get_model_config(model).get("quick_gelu", False)) != expected:
        mend = f"{model}-quickgelu" if expected else model.removesuffix("-quickgelu")
        raise InputError(
            f"the weights {pretrained!r} were trained with{'' if expected else 'out'} QuickGELU, "
            f"which {model!r} has {'not' if expected else ''}; use {mend!r}"
        )


def _is_file(config: EncoderConfig) -> bool:
    return config.kind == "open_clip-crops" and Path(config.pretrained).is_file()


def _listed(config: EncoderConfig) -> WeightFile | None:
    source = OpenClip(config.model, config.pretrained)
    return next((file for file in WEIGHTS.values() if source in file.sources), None)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """What libraries report of a file that cannot be fetched, in one line."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # it warns of every retry
    try:
        yield
    except Exception as error:
        # one library reports what another raised
        reason = " ".join(str(error).split())
        raise InputError(
            f"{what} cannot be had: {reason:.400}; the model `mini` needs no network"
        ) from error
    finally:
        hub.setLevel(level)
