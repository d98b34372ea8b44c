"""YAML and JSON whose scalars are names: text as it was written, and no key twice."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import yaml

from regionspot.errors import InputError
from regionspot.files import read_text


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
