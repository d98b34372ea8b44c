"""The frozen towers of `mini`, which compute an image of the tests once a process.

What they give depends on their arguments alone, and most tests label the same few photos.
"""

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from integrations.detectors.nanodet import NanoDet
from regionspot.encoders.mini import ImagenetMiniLm
from regionspot.localizers.sam import SamLocalizer

KEPT = 32  # results of each method; an image's maps take 10 MB


def remember_towers(patch: pytest.MonkeyPatch) -> None:
    """Let each method return again what it returned for equal arguments of the same object."""
    for tower, names in (
        (NanoDet, ["detect"]),
        (SamLocalizer, ["encode", "tokens"]),
        (ImagenetMiniLm, ["image_tokens", "_cropped"]),
    ):
        for name in names:
            patch.setattr(tower, name, remembered(getattr(tower, name)))


def remembered(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that keeps its last results, and what is compared by identity, so that no other
    object gets its id."""
    results: OrderedDict[object, tuple[object, Any]] = OrderedDict()

    @functools.wraps(method)
    def call(self: object, *arguments: Any, **named: Any) -> Any:
        key = (_settings(self), _key(arguments), _key(tuple(named.items())))
        if key not in results:
            results[key] = ((self, arguments, named), method(self, *arguments, **named))
            if len(results) > KEPT:
                results.popitem(last=False)
        return results[key][1]

    return call


def _settings(tower: object) -> object:
    if isinstance(tower, NanoDet):  # built by every run, of the same weights
        return tower.name, tower.sides, tower.max_boxes, tower.nms_iou, tower.score_threshold
    return id(tower)


def _key(argument: object) -> object:
    if isinstance(argument, np.ndarray):
        return argument.shape, hashlib.sha256(np.ascontiguousarray(argument)).digest()
    if isinstance(argument, list | tuple):
        return tuple(map(_key, argument))
    return argument if isinstance(argument, bool | str) else id(argument)
