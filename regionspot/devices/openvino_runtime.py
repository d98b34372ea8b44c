"""OpenVINO as the runtime of frozen image towers on a CPU.

Axes: B images, S pixels a side.
"""

import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from regionspot.devices.converted import Compiled
from regionspot.errors import InputError

try:
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
except ImportError as failure:
    raise InputError(f"OpenVINO cannot be imported ({failure}); say --runtime torch") from failure

if TYPE_CHECKING:
    from openvino import Core, Model

GRAPH, WEIGHTS = "tower.xml", "tower.bin"


class OpenVino:
    """See `Engine`."""

    kind, title = "openvino", "OpenVINO"
    files: tuple[str, ...] = (GRAPH, WEIGHTS)
    failures: tuple[type[Exception], ...] = (RuntimeError,)  # of which its own exceptions are

    def convert(self, module: nn.Module, squares: torch.Tensor, any_size: bool) -> "Model":
        """See `Engine`; its own `convert_model` reports its use to its makers, and traces twice."""
        with warnings.catch_warnings():
            # Sizes become constants, as they are here; and torch wants its exporter used instead.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(module, squares, check_trace=False)  # type: ignore[no-untyped-call]
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # has to live as long as the conversion
        graph = frontend.convert(frontend.load(decoder))
        batch = 1 if len(squares) == 1 else -1
        sides = [-1, -1] if any_size else squares.shape[2:]
        graph.reshape({graph.inputs[0]: openvino.PartialShape([batch, 3, *sides])})
        return graph

    def save(self, graph: "Model", folder: Path) -> None:
        """See `Engine`."""
        openvino.save_model(graph, folder / GRAPH, compress_to_fp16=False)

    def read(self, folder: Path) -> "Model":
        """See `Engine`."""
        return _core().read_model(folder / GRAPH)

    def compiled(self, graph: "Model", dtype: torch.dtype) -> Compiled:
        """See `Engine`."""
        has_bf16 = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        found = _core().compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": (
                    "bf16" if dtype == torch.bfloat16 and has_bf16 else "f32"
                ),
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
                # Pinned threads of several processes would share the same cores.
                "ENABLE_CPU_PINNING": False,
            },
        )

        def compute(squares: np.ndarray) -> np.ndarray:
            return np.asarray(found.create_infer_request().infer([squares])[0])

        return compute


@cache
def _core() -> "Core":
    return openvino.Core()
