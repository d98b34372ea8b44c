"""Safetensors with the same bytes for the same content; a header that is too long is refused.

The library itself checks that every tensor's shape fits its bytes, and that these fill the file.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from regionspot.errors import InputError

_LENGTH = 8  # bytes in front of the header that give its length
MOST_HEADER = 16_000_000  # bytes; the library parses up to 100 MB, in minutes
REFUSAL = "cannot be read as safetensors"
# What the library and the frameworks behind it raise for a file that is none, or not sound.
_REFUSALS = (OSError, ValueError, TypeError, OverflowError, RuntimeError, SafetensorError)


def safetensors_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """A file of tensors with its metadata sorted; the library writes these in any order."""
    content = save(dict(tensors), dict(metadata))
    start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    written = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    written += b" " * (-len(written) % 8)
    return len(written).to_bytes(_LENGTH, "little") + written + content[start:]


def read_safetensors(
    path: Path,
    framework: Literal["pt", "np"] = "pt",
    most_header: int = MOST_HEADER,
    refusal: str = REFUSAL,
) -> tuple[dict[str, str], dict[str, Any]]:
    """The metadata of a file and its tensors by name.

    Args:
        path: of the file.
        framework: `pt` for tensors of torch, `np` for arrays of NumPy.
        most_header: bytes that the header may have.
        refusal: what a message says of the path, before it says why.

    Raises:
        InputError: it is no such file, or its header is longer than is allowed or than the file.
    """
    with _opened(path, framework, most_header, refusal) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return file.metadata() or {}, tensors


def read_metadata(path: Path, most_header: int = MOST_HEADER) -> dict[str, str]:
    """The metadata of a file alone; arguments and errors as of `read_safetensors`."""
    with _opened(path, "np", most_header, REFUSAL) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path, framework: str, most_header: int, refusal: str) -> Iterator[Any]:
    try:
        _check_header(path, most_header, refusal)
        with safe_open(path, framework) as file:
            yield file
    except _REFUSALS as error:
        if isinstance(error, InputError):
            raise
        what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{path} {refusal}: {what:.200}") from error


def _check_header(path: Path, most: int, refusal: str) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
    if length > min(most, path.stat().st_size - _LENGTH):
        raise InputError(
            f"{path} {refusal}: expected a header of at most {most} bytes that the file holds, got "
            f"one of {length} bytes in a file of {path.stat().st_size}; get the file again"
        )
