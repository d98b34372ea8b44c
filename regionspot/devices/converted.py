"""Frozen image towers that are converted once for another runtime, and kept in the model cache.

A module is converted for squares of a size, or a detector's network for images of any. The result
lies in the model cache, `KIND/TOWER-SIDE-KEY/`, under a key of the weights and of the versions that
made it. It holds float32 weights; the precision of products is chosen when it is compiled, in
memory.

Axes: B images, S pixels a side.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from regionspot.devices.runtime import ANY_SIZE
from regionspot.errors import InputError
from regionspot.files import atomic_folder
from regionspot.weights import cache_folder, sha256_of

SHA256 = "sha256.json"
CONVERSION = 1  # to be raised when a conversion changes
PIXELS = 32 * 128 * 128  # of the squares that are computed together: what caches hold
EXAMPLE = (64, 96)  # height and width of the image that is traced where any size may come

Compiled = Callable[[np.ndarray], np.ndarray]  # float32, (B, 3, S, S), to a tower's result


class Engine(Protocol):
    """A runtime's own part.

    Attributes:
        kind: as `--runtime` has it, its package and its folder in the cache.
        title: for people.
        files: of a converted tower.
        failures: exceptions of its library.
    """

    kind: str
    title: str
    files: tuple[str, ...]
    failures: tuple[type[Exception], ...]

    def convert(self, module: nn.Module, squares: torch.Tensor, any_size: bool) -> Any:
        """A module for squares like these: B is fixed where it is 1, any number elsewhere.

        With `any_size` it is for images of any height and width.
        """

    def save(self, graph: Any, folder: Path) -> None:
        """Write what `convert` gave as `files`."""

    def read(self, folder: Path) -> Any:
        """What `save` wrote."""

    def compiled(self, graph: Any, dtype: torch.dtype) -> Compiled:
        """The graph, ready to be computed by torch's number of threads.

        Args:
            graph: that was converted or read.
            dtype: float32, or bfloat16 for products where the library has them on this CPU.
        """


class ConvertedRuntime:
    """Towers that an engine computes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = f"{engine.kind} {version(engine.kind)}"
        self._towers: list[ConvertedTower] = []

    def tower(
        self, name: str, module: nn.Module, dtype: torch.dtype, sides: Sequence[int], /
    ) -> "ConvertedTower":
        """The module, which is converted when it is first called, or by `prepare`."""
        self._towers.append(ConvertedTower(self.engine, name, module, dtype, tuple(sides)))
        return self._towers[-1]

    def prepare(self, message: Callable[[str], None]) -> None:
        """Read the towers from the cache, and convert those that it lacks.

        Raises:
            InputError: the engine cannot convert or compile one.
        """
        wanted = [(tower, side) for tower in self._towers for side in tower.sides]
        if not all(tower.is_ready(side) for tower, side in wanted):
            message(f"converting the image towers for {self.engine.title}, which is done once")
        for tower, side in wanted:
            tower.compiled(side)


@dataclass(frozen=True, eq=False)
class ConvertedTower:
    """A module that an engine computes.

    Attributes:
        name: of the tower; begins the name of its folders in the cache.
        module: that takes squares (B, 3, S, S), float32, and returns one tensor.
        dtype: float32, or bfloat16 for products where the engine has them on this CPU.
        sides: S that `ConvertedRuntime.prepare` gets it ready for; or ANY_SIZE.
    """

    engine: Engine
    name: str
    module: nn.Module
    dtype: torch.dtype
    sides: tuple[int, ...]

    @torch.inference_mode()
    def __call__(self, squares: torch.Tensor) -> torch.Tensor:
        """What the module gives for squares (B, 3, S, S), in parts that caches hold."""
        side = ANY_SIZE if ANY_SIZE in self.sides else squares.shape[-1]
        compute = self.compiled(side)
        parts = torch.split(squares, _together(side))
        return torch.cat([torch.from_numpy(compute(each.contiguous().numpy())) for each in parts])

    def compiled(self, side: int) -> Compiled:
        """The module for squares of a side.

        Raises:
            InputError: the engine cannot convert or compile it.
        """
        if side not in self._compiled:
            try:
                self._compiled[side] = self.engine.compiled(self._graph(side), self.dtype)
            except self.engine.failures as error:
                raise InputError(
                    f"{self.engine.title} cannot compute the tower {self.name} "
                    f"({' '.join(str(error).split())[:200]}); say --runtime torch"
                ) from error
        return self._compiled[side]

    @cached_property
    def _compiled(self) -> dict[int, Compiled]:
        return {}

    def is_ready(self, side: int) -> bool:
        """Whether nothing has to be converted for squares of a side."""
        return side in self._compiled or self._is_whole(self.folder(side))

    def folder(self, side: int) -> Path:
        """Where the graph for squares of a side lies in the cache."""
        kind = self.engine.kind
        key = {
            "weights": self._weights_sha256,
            "batch": _together(side),
            "conversion": CONVERSION,
            **{package: version(package) for package in (kind, "torch", "timm")},
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return cache_folder() / kind / f"{self.name}-{side}-{digest}"

    @cached_property
    def _weights_sha256(self) -> str:
        return _sha256_of_tensors(self.module.state_dict())

    def _graph(self, side: int) -> Any:
        folder = self.folder(side)
        if not self._is_whole(folder):
            single = _together(side) == 1
            twin = copy.deepcopy(self.module).to(memory_format=torch.contiguous_format)
            size = EXAMPLE if side == ANY_SIZE else (side, side)
            example = torch.zeros(1 if single else 2, 3, *size)
            with torch.inference_mode(False), torch.no_grad():
                graph = self.engine.convert(twin, example, side == ANY_SIZE)
            try:
                self._save(graph, folder)
            except OSError:  # a cache that cannot be written costs a conversion each time
                return graph
        return self.engine.read(folder)

    def _save(self, graph: Any, folder: Path) -> None:
        """Write a graph and the sha256 of its files into the cache, all at once."""
        files = self.engine.files
        with atomic_folder(folder, (*files, SHA256), overwrite=True) as out:
            self.engine.save(graph, out)
            sums = {name: sha256_of(out / name) for name in files}
            (out / SHA256).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")

    def _is_whole(self, folder: Path) -> bool:
        """Whether a folder of the cache has the bytes that were written."""
        try:
            sums = json.loads((folder / SHA256).read_text(encoding="utf-8"))
            return bool(sums == {name: sha256_of(folder / name) for name in self.engine.files})
        except (OSError, ValueError):
            return False


def _together(side: int) -> int:
    """Squares of a side that are computed together at most."""
    return 1 if side == ANY_SIZE else max(1, PIXELS // side**2)


def _sha256_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Sha256 of names, shapes and values, whatever their layout in memory."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().contiguous().numpy()
        found.update(f"{name} {values.dtype} {values.shape}\n".encode())
        found.update(values.tobytes())
    return found.hexdigest()
