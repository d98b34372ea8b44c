"""ONNX Runtime for frozen image towers on a CPU, in float32.

Axes: B images, S pixels a side.
"""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from regionspot.devices.converted import Compiled
from regionspot.errors import InputError

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state
except ImportError as failure:
    raise InputError(
        f"ONNX Runtime cannot be imported ({failure}); say --runtime torch"
    ) from failure

GRAPH = "tower.onnx"
OPSET = 17
WARNINGS = 3  # are not logged, errors are


class OnnxRuntime:
    """See `Engine`; a graph is the bytes of its file."""

    kind, title = "onnxruntime", "ONNX Runtime"
    files: tuple[str, ...] = (GRAPH,)
    failures: tuple[type[Exception], ...] = (
        RuntimeError,
        state.Fail,
        state.InvalidGraph,
        state.InvalidProtobuf,
    )

    def convert(self, module: nn.Module, squares: torch.Tensor, any_size: bool) -> bytes:
        """See `Engine`; torch's exporter by traces, since the other one needs a package more."""
        found = io.BytesIO()
        axes = {} if len(squares) == 1 else {"squares": {0: "batch"}, "result": {0: "batch"}}
        if any_size:
            axes = {"squares": {2: "height", 3: "width"}, "result": {1: "cells"}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes become constants, as they are here
            torch.onnx.export(
                module,
                (squares,),
                found,  # type: ignore[arg-type]
                input_names=["squares"],
                output_names=["result"],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        return found.getvalue()

    def save(self, graph: bytes, folder: Path) -> None:
        """See `Engine`."""
        (folder / GRAPH).write_bytes(graph)

    def read(self, folder: Path) -> bytes:
        """See `Engine`."""
        return (folder / GRAPH).read_bytes()

    def compiled(self, graph: bytes, _dtype: torch.dtype) -> Compiled:
        """See `Engine`; it has no products in bfloat16 on a CPU."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = WARNINGS
        # Threads that wait by spinning would take the cores of other steps.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])

        def compute(squares: np.ndarray) -> np.ndarray:
            if not len(squares):  # of which it has no plan
                squares = np.zeros((1, *squares.shape[1:]), np.float32)
                return np.asarray(session.run(None, {"squares": squares})[0][:0])
            return np.asarray(session.run(None, {"squares": squares})[0])

        return compute
