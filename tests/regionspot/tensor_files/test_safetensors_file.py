"""Headers that are too long, cut, or lie about offsets and shapes are one line."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from regionspot.errors import InputError
from regionspot.tensor_files.safetensors_file import (
    MOST_HEADER,
    read_safetensors,
    safetensors_bytes,
)


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def tensor(shape: list[int], end: int, start: int = 0, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        ({}, b"", 2**63),
        ({}, b"", 2**64 - 1),
        ({}, b"", 3),
        (b" " * (MOST_HEADER + 1), b"", None),
        (b"[" * 1_000_000, b"", None),
        (b"\xff{}", b"", None),
        ({"a": tensor([2**40, 2**40], 4)}, b"1234", None),
        ({"a": tensor([2**63], 4)}, b"1234", None),
        ({"a": tensor([10**12], 4)}, b"1234", None),
        ({"a": tensor([-1], 4)}, b"1234", None),
        ({"a": tensor([1], 4), "b": tensor([1], 4)}, b"1234", None),
        ({"a": tensor([1], 8, start=4)}, b"12345678", None),
        ({"a": tensor([1], 2**62)}, b"1234", None),
        ({"a": tensor([1], 4)}, b"12345678", None),
        ({"a": tensor([1], 4)}, b"12", None),
        ({"a": tensor([1], 4, dtype="F9")}, b"1234", None),
    ],
)
@pytest.mark.parametrize("framework", ["pt", "np"])
def test_a_header_that_lies_is_refused_at_once(
    tmp_path: Path, header: object, data: bytes, length: int | None, framework: Any
) -> None:
    path = write(tmp_path / "x.safetensors", header, data, length)
    started = time.process_time()
    with pytest.raises(InputError, match="cannot be read as safetensors: ") as refused:
        read_safetensors(path, framework)
    assert time.process_time() - started < 10
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


def test_shapes_without_numbers_take_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {"a": tensor([0, 10**12], 0)})
    _, found = read_safetensors(path)
    assert found["a"].numel() == 0


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.arange(6.0).view(2, 3)}, path, {"b": "c"})
    metadata, tensors = read_safetensors(path)
    assert metadata == {"b": "c"}
    assert torch.equal(tensors["a"], torch.arange(6.0).view(2, 3))
    assert np.array_equal(read_safetensors(path, "np")[1]["a"], np.arange(6.0).reshape(2, 3))
    with pytest.raises(InputError, match="No such file"):
        read_safetensors(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 8, 20, -1])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(5)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        read_safetensors(path)


def test_the_same_content_has_the_same_bytes(tmp_path: Path) -> None:
    """The library's own order of several metadata changes from one call to the next."""
    tensors = {"b": torch.arange(3.0), "a": torch.zeros(2, 2)}
    metadata = {f"key {number}": str(number) for number in range(8)}
    files = {safetensors_bytes(tensors, metadata) for _ in range(20)}
    assert len(files) == 1
    path = tmp_path / "written.safetensors"
    path.write_bytes(files.pop())
    found, read = read_safetensors(path)
    assert found == metadata
    assert torch.equal(read["b"], tensors["b"])
    assert torch.equal(read["a"], tensors["a"])
