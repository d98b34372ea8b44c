"""Reading files of `torch.save`: what they ask for is compared with their size before torch reads.

Such a file is a pickle, in a zip or followed by bytes. `weights_only` runs nothing of it, but a
pickle of a few bytes can ask for storages and shapes of any size, and a zip can hold compressed or
shared members. Here the pickle is read first by an unpickler that knows the few instructions and
names that state dicts are made of, and that makes a description of each storage and tensor.
"""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NoReturn

import torch

from regionspot.errors import InputError

_ZIP = b"PK\x03\x04"
_MOST_PICKLE = 2_000_000  # bytes; 1000 tensors have about 100,000
_OLD_HEADER = 3  # pickles in front of the content, in the format before the zip
# Instructions of protocol 2 that state dicts are made of. Sets are missing, and keys of dicts are
# text or numbers: the hash of deep tuples overflows the stack.
_INSTRUCTIONS = (
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
    *(pickle.BINUNICODE, pickle.SHORT_BINSTRING, pickle.BINSTRING),
    *(pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.TUPLE),
    *(pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.APPEND, pickle.APPENDS),
    *(pickle.SETITEM, pickle.SETITEMS, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD),
    *(pickle.BINPERSID, pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
)
_BASE: dict[int, Any] = dict(pickle._Unpickler.dispatch)
_STORAGES = {
    **{"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2},
    **{"LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1},
    **{"ByteStorage": 1, "BoolStorage": 1},
}
_NOT_TENSORS_ALONE = "expected a file of torch.save that holds tensors alone"


def read_torch_file(path: Path) -> object:
    """The content of a file of `torch.save`, on the CPU.

    Raises:
        InputError: it is no such file, holds more than tensors, numbers and text in dicts and
            lists, or asks for more memory than it has bytes.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) == _ZIP:
                _check_zip(file)
            else:
                file.seek(0)
                _check_old(file)
        return torch.load(path, map_location="cpu", weights_only=True)
    except _Refused as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {error}") from error
    except OSError as error:
        what = (error.strerror or _NOT_TENSORS_ALONE).lower()
        raise InputError(f"{path} cannot be read as a checkpoint: {what}") from error
    except Exception as error:
        # pickle, zipfile and torch report a foreign file by many exception types
        message = f"{path} cannot be read as a checkpoint: {_NOT_TENSORS_ALONE}"
        raise InputError(message) from error


class _Refused(Exception):  # noqa: N818  (the message goes on in `read_torch_file`)
    """Why a file is not read."""


@dataclass(frozen=True)
class _Storage:
    """Numbers that tensors are views of.

    Attributes:
        key: of its bytes in the file.
        item: bytes of a number.
        count: of numbers.
    """

    key: str
    item: int
    count: int


class _Size(int):
    """Number of bytes of a tensor, in place of it."""


class _Scanner(pickle._Unpickler):
    """Reads a pickle and notes what it asks for.

    Attributes:
        storages: that it names, by key.
        tensors: number of bytes of all tensors, as if each had numbers of its own.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = {each[0]: _BASE[each[0]] for each in _INSTRUCTIONS}

    def _set_one(self) -> None:
        _check_keys(self.stack[-2:-1])
        _BASE[pickle.SETITEM[0]](self)

    def _set_all(self) -> None:
        _check_keys(self.stack[::2])
        _BASE[pickle.SETITEMS[0]](self)

    dispatch |= {pickle.SETITEM[0]: _set_one, pickle.SETITEMS[0]: _set_all}

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}
        self.tensors = 0
        self._names = {
            ("collections", "OrderedDict"): _new_dict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): _first,
            ("torch", "Size"): _nothing,
            ("torch", "device"): _nothing,
            **{("torch", name): item for name, item in _STORAGES.items()},
            **{
                ("torch", name): None
                for name in vars(torch)
                if isinstance(getattr(torch, name), torch.dtype)
            },
        }

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; nothing is imported."""
        if (module, name) not in self._names:
            raise _Refused(
                f"it holds a Python object ({module}.{name}), and objects of a file can run code; "
                "only tensors are read: ask for a file of the state dict alone"
            )
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """Note a storage."""
        kind, item, key, _, count, *view = pid
        if kind != "storage" or not isinstance(key, str) or any(each is not None for each in view):
            raise _Refused(_NOT_TENSORS_ALONE)
        storage = _Storage(key, _whole(item), _whole(count))
        if self.storages.setdefault(key, storage) != storage:
            raise _Refused(f"its storage {key!r:.40} has two sizes; get the file again")
        return storage

    def _tensor(
        self, storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_: object
    ) -> _Size:
        """Note a tensor, all of whose numbers must lie in its storage."""
        last, count = _whole(offset), 1
        for length, step in zip(map(_whole, size), map(_whole, stride), strict=True):
            count *= length
            last += (length - 1) * step
        if count and (last >= storage.count or count > storage.count):
            raise _Refused(
                f"a tensor of shape {tuple(size)!r:.60} lies in a storage of {storage.count} "
                "numbers; get the file again"
            )
        self.tensors += count * storage.item
        return _Size(count * storage.item)


def _check_keys(keys: Sequence[object]) -> None:
    if not all(isinstance(key, str | int) for key in keys):
        raise _Refused(_NOT_TENSORS_ALONE)


def _new_dict() -> "OrderedDict[Any, Any]":
    return OrderedDict()


def _first(value: object, *_: object) -> object:
    return value


def _nothing(*_: object) -> None:
    """A value that has no size."""


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise _Refused(_NOT_TENSORS_ALONE)
    return int(value)


def _check_zip(file: BinaryIO) -> None:
    """Refuse a zip of another kind than torch writes, or one that asks for more than it has."""
    whole = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = {each.filename.lower(): each for each in archive.infolist()}
        total = sum(each.file_size for each in members.values())
        is_stored = all(each.compress_type == zipfile.ZIP_STORED for each in members.values())
        if len(members) < len(archive.infolist()) or not is_stored or total > whole:
            raise _Refused(
                f"expected members that are not compressed in its {whole} bytes, got {total} bytes "
                "in members; get the file again"
            )
        (content,) = (each for name, each in members.items() if name.endswith("/data.pkl"))
        folder = content.filename.removesuffix("/data.pkl")
        if content.file_size > _MOST_PICKLE:
            raise _Refused(
                f"expected a description of at most {_MOST_PICKLE} bytes, got "
                f"{content.file_size}; get a file of the state dict alone"
            )
        with archive.open(content) as member:
            scanner = _scanned(member)
    for storage in scanner.storages.values():
        found = members.get(f"{folder}/data/{storage.key}".lower())
        if found is None or found.file_size != storage.item * storage.count:
            _refuse_size(storage.item * storage.count, found.file_size if found else 0)
    if scanner.tensors > 2 * whole:  # two names of one tensor are usual
        _refuse_size(scanner.tensors, whole)


def _check_old(file: BinaryIO) -> None:
    """As `_check_zip`, for the format before the zip: pickles, then the storages' bytes."""
    whole = os.fstat(file.fileno()).st_size
    pickles = io.BytesIO(file.read(_MOST_PICKLE))
    for _ in range(_OLD_HEADER):
        _scanned(pickles)
    scanner = _scanned(pickles)
    asked = sum(each.item * each.count for each in scanner.storages.values())
    if max(asked, scanner.tensors // 2) > whole:
        _refuse_size(max(asked, scanner.tensors // 2), whole)


def _scanned(file: Any) -> _Scanner:
    scanner = _Scanner(file)
    scanner.load()
    return scanner


def _refuse_size(asked: int, there: int) -> NoReturn:
    raise _Refused(f"it asks for {asked} bytes of tensors and holds {there}; get the file again")
