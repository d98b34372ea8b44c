"""Prompt ensembles that a word is put into before it is embedded."""

from collections.abc import Callable

from regionspot.errors import InputError

BARE_NAME = "name"


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
