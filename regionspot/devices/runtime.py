"""What computes frozen image towers, and the network of a detector: torch, or another runtime.

torch is the reference. Training, the head, the localizer's decoder and the text tower know no
other.

Axes: B images.
"""

import importlib.util
import platform
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import nn

from regionspot.errors import InputError

# Other runtimes by name, as people write them.
CONVERTERS = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
RUNTIMES = ("auto", "torch", *CONVERTERS)
# The presets whose towers were converted and compared with torch.
CONVERTED = ("mini",)
# Where OpenVINO was measured to be the fastest, in float32 and in bfloat16.
_MACHINES = ("x86_64", "AMD64")
ANY_SIZE = 0  # in place of a side: one graph for images of any height and width
Tower = Callable[[torch.Tensor], torch.Tensor]


class Runtime(Protocol):
    """Computes frozen towers.

    Attributes:
        name: as a run's manifest has it: `torch`, or another one and its version.
    """

    name: str

    def tower(
        self, name: str, module: nn.Module, dtype: torch.dtype, sides: Sequence[int], /
    ) -> Tower:
        """A function from squares (B, 3, S, S), float32, to what a module gives for them.

        Args:
            name: of the tower, for people.
            module: that takes the squares, and returns one tensor.
            dtype: float32, or bfloat16 for large products; the result is float32.
            sides: S of the squares that are going to come; with ANY_SIZE, images (B, 3, H, W) of
                any sizes, one by one.
        """

    def prepare(self, message: Callable[[str], None]) -> None:
        """Get all towers ready for the sides that they were made for.

        Args:
            message: is told what takes long.

        Raises:
            InputError: the runtime cannot compute a tower.
        """


class TorchRuntime:
    """The modules themselves."""

    name = "torch"

    def tower(
        self, _name: str, module: nn.Module, dtype: torch.dtype, _sides: Sequence[int], /
    ) -> Tower:
        """The module under autocast."""

        def compute(squares: torch.Tensor) -> torch.Tensor:
            squares = squares.contiguous(memory_format=torch.channels_last)
            with torch.autocast(squares.device.type, dtype, enabled=dtype != torch.float32):
                return torch.as_tensor(module(squares)).float()

        return compute

    def prepare(self, _message: Callable[[str], None]) -> None:
        """Nothing is left to do."""


TORCH = TorchRuntime()


def resolve_runtime(name: str, device: torch.device, preset: str) -> str:
    """`torch`, `openvino` or `onnxruntime`, whichever a name stands for.

    `auto` is OpenVINO where it is installed, the device is a CPU of the x86-64 architecture and the
    preset is one of CONVERTED; else torch.

    Args:
        name: one of RUNTIMES, or what a runtime calls itself.
        device: that the towers compute on.
        preset: name of the model.

    Raises:
        InputError: an unknown name, or a runtime that is not installed or cannot do it.
    """
    kind = name.partition(" ")[0]
    if kind not in RUNTIMES:
        raise InputError(f"runtime must be one of {', '.join(RUNTIMES)}, got {name!r}")
    can = device.type == "cpu" and preset in CONVERTED
    if kind == "auto":
        is_fastest = can and _is_installed("openvino") and platform.machine() in _MACHINES
        return "openvino" if is_fastest else "torch"
    if kind in CONVERTERS:
        if preset not in CONVERTED:
            raise InputError(
                f"--runtime {kind} is for the model {', '.join(CONVERTED)}, got {preset}; "
                "say --runtime torch"
            )
        if not can:
            raise InputError(
                f"--runtime {kind} computes on the CPU, got the device {device}; say --device "
                "cpu, or --runtime torch"
            )
        if not _is_installed(kind):
            raise InputError(
                f"{CONVERTERS[kind]} is not installed: pip install 'regionspot-autolabel[{kind}]', "
                "or say --runtime torch"
            )
    return kind


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def build_runtime(name: str) -> Runtime:
    """The runtime of a name that `resolve_runtime` gave.

    Raises:
        InputError: its package cannot be imported.
    """
    if name == "torch":
        return TORCH
    from regionspot.devices.converted import ConvertedRuntime

    if name == "onnxruntime":
        from regionspot.devices.onnx_runtime import OnnxRuntime  # optional

        return ConvertedRuntime(OnnxRuntime())
    from regionspot.devices.openvino_runtime import OpenVino  # optional, takes a second

    return ConvertedRuntime(OpenVino())
