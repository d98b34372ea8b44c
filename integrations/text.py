"""Text from outside, such as names of files and classes, as it is shown: nothing in it acts.

A name can hold any character: line breaks, escape sequences that a terminal obeys, marks that turn
the direction of what follows, and lone surrogates, which stand for bytes of a file name that are
not UTF-8 and which nothing can print. YAML and JSON whose scalars are names keep them as they were
written, and have no key twice.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import yaml

from regionspot.errors import InputError
from regionspot.files import read_text

# Control characters, direction marks, separators of lines, and surrogates.
_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb"
    "\U000e0001\ud800-\udfff]"
)
_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
    """The text in one line, with backslash escapes for all that would act or cannot be printed."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable_json(text: str) -> str:
    """JSON with the same characters escaped as JSON does; it is the same value."""
    return _ACTING.sub(_as_utf16, text)


def csv_cell(text: str) -> str:
    """A cell that a spreadsheet takes as text: what would be a formula gets a leading `'`."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _as_utf16(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


class _TextLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Scalars stay the text that was written: `no`, `null` and `1.0` are class names too."""

    # Of all patterns only the one of merge keys.
    yaml_implicit_resolvers: ClassVar = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """A mapping, whose keys must differ: YAML's own loader takes the last of equal ones."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    problem = f"the key {key.value!r} is there twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return dict(super().construct_mapping(node, deep))


def read_yaml(path: Path) -> object:
    """The content of a YAML file: mappings, lists and text.

    Raises:
        InputError: the file is missing, is no UTF-8, is no YAML, or has a key twice.
    """
    try:
        return yaml.load(read_text(path), _TextLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        InputError: the file is missing, is no UTF-8, is no JSON, or has a key twice.
    """

    def unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise InputError(f"{path}: the key {twice[0]!r} is there twice")
        return dict(pairs)

    try:
        return json.loads(read_text(path), object_pairs_hook=unique)
    except (RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not JSON: {error}") from error
