"""The tool: label images with words of one's own. `from autolabel import label` is its Python API.

The functions are imported where they are asked for first, so that `import autolabel` is fast.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autolabel.api import LabelRow, Run, export, label, relabel

__all__ = ["LabelRow", "Run", "export", "label", "relabel"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from autolabel import api

    return getattr(api, name)
