"""RegionSpot: labels for given boxes from frozen SAM tokens and a frozen image-text map.

What needs torch is imported where it is asked for first, so that errors and lists of weights do not
wait for it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regionspot.examples.classes import Examples
    from regionspot.model import Predictor, RegionSpot, load_model
    from regionspot.types import Labels, Vocabulary

__all__ = ["Examples", "Labels", "Predictor", "RegionSpot", "Vocabulary", "load_model"]

_MODULES = {
    "Examples": "examples.classes",
    "Labels": "types",
    "Predictor": "model",
    "RegionSpot": "model",
    "Vocabulary": "types",
    "load_model": "model",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"regionspot.{_MODULES[name]}"), name)
