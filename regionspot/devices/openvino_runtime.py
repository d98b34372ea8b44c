"""OpenVINO as the runtime of frozen image towers on a CPU.

A module is traced and converted once for squares of a size. The result lies in the model cache,
`openvino/TOWER-SIDE-KEY/`, under a key of the weights and of the versions that made it. It holds
float32 weights; the precision of products is chosen when it is compiled, in memory.

Axes: B images, S pixels a side.
"""

import copy
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from regionspot.errors import InputError
from regionspot.files import atomic_folder
from regionspot.weights import cache_folder, sha256_of

try:
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
except ImportError as failure:
    raise InputError(f"OpenVINO cannot be imported ({failure}); say --runtime torch") from failure

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, Model

FOLDER = "openvino"
GRAPH, WEIGHTS, SHA256 = "tower.xml", "tower.bin", "sha256.json"
CONVERSION = 1  # to be raised when the conversion below changes
PIXELS = 32 * 128 * 128  # of the squares that are computed together: what caches hold


class OpenVinoRuntime:
    """Converted towers."""

    def __init__(self) -> None:
        self.name = f"openvino {version('openvino')}"
        self._towers: list[OpenVinoTower] = []

    def tower(
        self, name: str, module: nn.Module, dtype: torch.dtype, sides: Sequence[int], /
    ) -> "OpenVinoTower":
        """The module, which is converted when it is first called, or by `prepare`."""
        self._towers.append(OpenVinoTower(name, module, dtype, sides))
        return self._towers[-1]

    def prepare(self, message: Callable[[str], None]) -> None:
        """Read the towers from the cache, and convert those that it lacks.

        Raises:
            InputError: OpenVINO cannot convert or compile one.
        """
        wanted = [(tower, side) for tower in self._towers for side in tower.sides]
        if not all(tower.is_ready(side) for tower, side in wanted):
            message("converting the image towers for OpenVINO, which is done once")
        for tower, side in wanted:
            tower.compiled(side)


class OpenVinoTower:
    """A module that OpenVINO computes.

    Args:
        name: of the tower; begins the name of its folders in the cache.
        module: that takes squares (B, 3, S, S), float32, and returns one tensor.
        dtype: float32, or bfloat16 for products where OpenVINO has them on this CPU.
        sides: S that `OpenVinoRuntime.prepare` gets it ready for.
    """

    def __init__(
        self, name: str, module: nn.Module, dtype: torch.dtype, sides: Sequence[int]
    ) -> None:
        self.name = name
        self.module = module
        self.sides = tuple(sides)
        has_bf16 = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = "bf16" if dtype == torch.bfloat16 and has_bf16 else "f32"
        self._compiled: dict[int, CompiledModel] = {}

    @torch.inference_mode()
    def __call__(self, squares: torch.Tensor) -> torch.Tensor:
        """What the module gives for squares (B, 3, S, S), in parts that caches hold."""
        side = squares.shape[-1]
        request = self.compiled(side).create_infer_request()
        parts = [
            torch.from_numpy(request.infer([part.contiguous().numpy()])[0])
            for part in torch.split(squares, _together(side))
        ]
        return torch.cat(parts)

    def compiled(self, side: int) -> "CompiledModel":
        """The graph for squares of a side, ready to be computed by torch's number of threads.

        Raises:
            InputError: OpenVINO cannot convert or compile it.
        """
        if side not in self._compiled:
            try:
                graph = self._graph(side)
                self._compiled[side] = _core().compile_model(
                    graph,
                    "CPU",
                    {
                        "INFERENCE_PRECISION_HINT": self.precision,
                        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                        "NUM_STREAMS": 1,
                        # Pinned threads of several processes would share the same cores.
                        "ENABLE_CPU_PINNING": False,
                    },
                )
            except RuntimeError as error:  # OpenVINO's exceptions are of this type
                raise InputError(
                    f"OpenVINO cannot compute the tower {self.name} "
                    f"({' '.join(str(error).split())[:200]}); say --runtime torch"
                ) from error
        return self._compiled[side]

    def is_ready(self, side: int) -> bool:
        """Whether nothing has to be converted for squares of a side."""
        return side in self._compiled or _is_whole(self.folder(side))

    def folder(self, side: int) -> Path:
        """Where the graph for squares of a side lies in the cache."""
        key = {
            "weights": self._weights_sha256,
            "batch": _together(side),
            "conversion": CONVERSION,
            **{package: version(package) for package in ("openvino", "torch", "timm")},
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return cache_folder() / FOLDER / f"{self.name}-{side}-{digest}"

    @cached_property
    def _weights_sha256(self) -> str:
        return _sha256_of_tensors(self.module.state_dict())

    def _graph(self, side: int) -> "Model":
        folder = self.folder(side)
        if not _is_whole(folder):
            graph = _converted(self.module, side)
            try:
                _save(graph, folder)
            except OSError:  # a cache that cannot be written costs a conversion each time
                return graph
        return _core().read_model(folder / GRAPH)


@cache
def _core() -> "Core":
    return openvino.Core()


def _together(side: int) -> int:
    """Squares of a side that are computed together at most."""
    return max(1, PIXELS // side**2)


def _converted(module: nn.Module, side: int) -> "Model":
    """A module as OpenVINO's graph for squares (B, 3, side, side).

    OpenVINO's own `convert_model` reports its use to its makers, and traces twice.
    """
    single = _together(side) == 1
    twin = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
    example = torch.zeros(1 if single else 2, 3, side, side)
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        # Sizes become constants, as they are here; and torch wants its exporter used instead.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(twin, example, check_trace=False)  # type: ignore[no-untyped-call]
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # has to live as long as the conversion
    graph = frontend.convert(frontend.load(decoder))
    batch = 1 if single else -1
    graph.reshape({graph.inputs[0]: openvino.PartialShape([batch, 3, side, side])})
    return graph


def _save(graph: "Model", folder: Path) -> None:
    """Write a graph, its weights and the sha256 of both into the cache, all at once."""
    with atomic_folder(folder, (GRAPH, WEIGHTS, SHA256), overwrite=True) as out:
        openvino.save_model(graph, out / GRAPH, compress_to_fp16=False)
        sums = {name: sha256_of(out / name) for name in (GRAPH, WEIGHTS)}
        (out / SHA256).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    """Whether a folder of the cache has the bytes that were written."""
    try:
        sums = json.loads((folder / SHA256).read_text(encoding="utf-8"))
        return bool(sums == {name: sha256_of(folder / name) for name in (GRAPH, WEIGHTS)})
    except (OSError, ValueError):
        return False


def _sha256_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Sha256 of names, shapes and values, whatever their layout in memory."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().contiguous().numpy()
        found.update(f"{name} {values.dtype} {values.shape}\n".encode())
        found.update(values.tobytes())
    return found.hexdigest()
