"""Files of torch.save that ask for more than they hold are refused before torch reads them."""

import contextlib
import io
import pickle
import resource
import time
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from regionspot.errors import InputError
from regionspot.tensor_files.torch_file import read_torch_file

TERA = 10**12


@dataclass(frozen=True)
class AskedStorage:
    """A storage of floats as a pickle names it."""

    count: int
    key: str = "0"


@dataclass(frozen=True)
class AskedTensor:
    """A tensor as a pickle describes it."""

    storage: AskedStorage
    size: tuple[int, ...]
    stride: tuple[int, ...] = (1,)
    offset: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.storage, self.offset, self.size, self.stride, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, AskedStorage):
            return "storage", torch.FloatStorage, obj.key, "cpu", obj.count
        return None


def pickled(content: object) -> bytes:
    file = io.BytesIO()
    Pickler(file, 2).dump(content)
    return file.getvalue()


def write_zip(
    path: Path, content: bytes, numbers: int = 4, compression: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(4 * numbers))
        archive.writestr("archive/version", "3\n")
    return path


def refusal(path: Path) -> str:
    started = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="cannot be read as a checkpoint: ") as refused:
        read_torch_file(path)
    assert time.process_time() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes
    message = str(refused.value)
    assert "\n" not in message
    assert "weights_only" not in message
    assert len(message) < 600
    return message


STORAGE = AskedStorage(4)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (AskedTensor(AskedStorage(TERA), (TERA,)), f"asks for {4 * TERA} bytes"),
        (AskedTensor(AskedStorage(5), (4,)), "asks for 20 bytes of tensors and holds 16"),
        (AskedTensor(AskedStorage(4, key="1"), (4,)), "holds 0"),
        (AskedTensor(STORAGE, (TERA,)), "lies in a storage of 4 numbers"),
        (AskedTensor(STORAGE, (TERA,), (0,)), "lies in a storage of 4 numbers"),
        (AskedTensor(STORAGE, (2, 2), (TERA, 1)), "lies in a storage of 4 numbers"),
        (AskedTensor(STORAGE, (4,), offset=1), "lies in a storage of 4 numbers"),
        (AskedTensor(STORAGE, (-1,)), "tensors alone"),
        (AskedTensor(STORAGE, (4,), (-1,)), "tensors alone"),
        (AskedTensor(STORAGE, (2, 2)), "tensors alone"),
        (AskedStorage(-1), "tensors alone"),
        ([AskedStorage(4), AskedStorage(3)], "has two sizes"),
    ],
)
def test_what_is_not_in_the_file_cannot_be_asked_for(
    tmp_path: Path, asked: object, expected: str
) -> None:
    assert expected in refusal(write_zip(tmp_path / "x.pth", pickled({"model": {"a": asked}})))


def test_many_tensors_of_one_storage_are_counted(tmp_path: Path) -> None:
    state = {f"a{n}": AskedTensor(AskedStorage(1000), (1000,)) for n in range(100)}
    message = refusal(write_zip(tmp_path / "x.pth", pickled(state), numbers=1000))
    assert "asks for 400000 bytes" in message


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    content = pickled({"a": AskedTensor(AskedStorage(10**7), (10**7,))})
    path = write_zip(tmp_path / "x.pth", content, 10**7, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert "not compressed" in refusal(path)


def test_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.pth", pickled({"a": AskedTensor(STORAGE, (4,))}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/DATA/0", bytes(3))
    assert "not compressed" in refusal(path)


class Large:
    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (TERA,)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "tensors alone"),
        (b"\x80\x02}.", ""),
        (b"\x80\x02", "tensors alone"),
        (b"\x80\x02" + b"(" * 1_000_000, "tensors alone"),
        (b"\x80\x02" + b"(" * 10_000_000, "at most 2000000 bytes, got 10000002"),
        (b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"K\x01s.", "tensors alone"),
        (b"\x80\x05\x8e" + (2**62).to_bytes(8, "little") + b".", "tensors alone"),  # BINBYTES8
        (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".", "tensors alone"),  # BYTEARRAY8
        (b"\x80\x02X" + (2**32 - 1).to_bytes(4, "little") + b".", "tensors alone"),
        (b"\x80\x02K\x01r" + (2**32 - 1).to_bytes(4, "little") + b".", ""),  # a far memo
        (b"I" + b"1" * 1_000_000 + b"\n.", "tensors alone"),
        (b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.", "Python object (os.system)"),
        (pickle.dumps(Large(), 2), "Python object (__builtin__.bytearray)"),
        (pickle.dumps({(1, 2)}, 2), "Python object (__builtin__.set)"),
    ],
)
def test_pickles_that_were_edited(tmp_path: Path, content: bytes, expected: str) -> None:
    path = write_zip(tmp_path / "x.pth", content)
    if expected:
        assert expected in refusal(path)
    else:
        assert read_torch_file(path) in ({}, 1)


@pytest.mark.parametrize("is_zip", [True, False])
def test_state_dicts_are_read(tmp_path: Path, is_zip: bool) -> None:
    layer = torch.nn.TransformerDecoderLayer(16, 2, 8)
    shared = torch.arange(6.0)
    content = {
        "model": layer.state_dict(),
        "tied": {"a": shared, "b": shared.view(2, 3).T, "c": shared[1:3], "d": shared[:0]},
        "parameter": torch.nn.Parameter(torch.ones(2, dtype=torch.float16)),
        "step": 90_000,
        "large": 2**40,
        "rate": 1e-4,
        "flags": [True, None, "text", torch.float32, torch.Size([1])],
    }
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    found: Any = read_torch_file(path)
    assert found["step"] == 90_000
    for name, tensor in layer.state_dict().items():
        assert torch.equal(found["model"][name], tensor)
    for name, tensor in content["tied"].items():  # type: ignore[attr-defined]
        assert torch.equal(found["tied"][name], tensor)


def test_an_old_file_that_asks_for_more_than_it_has(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    asked = (1000).to_bytes(2, "little")
    assert content.count(b"M" + asked) == 2  # of the storage, and of the tensor's shape
    grown = b"\x8a\x06" + TERA.to_bytes(6, "little")
    path.write_bytes(content.replace(b"M" + asked, grown))
    assert f"asks for {4 * TERA} bytes" in refusal(path)


@pytest.mark.parametrize("is_zip", [True, False])
def test_cut_and_flipped_files_are_one_line(tmp_path: Path, is_zip: bool) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(100)}, path, _use_new_zipfile_serialization=is_zip)
    content = path.read_bytes()
    for cut in range(0, len(content), 97):
        path.write_bytes(content[:cut])
        refusal(path)
    for place in range(0, 400, 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        with contextlib.suppress(
            InputError
        ):  # what torch makes of it otherwise is no tensor's size
            read_torch_file(path)
