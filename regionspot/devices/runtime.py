"""What computes the frozen image towers: torch, or another runtime that a tower is converted for.

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

RUNTIMES = ("auto", "torch", "openvino")
# The presets whose towers were converted and compared with torch.
CONVERTED = ("mini",)
# Where OpenVINO was measured to be faster, in float32 and in bfloat16.
_MACHINES = ("x86_64", "AMD64")
NOT_INSTALLED = (
    "OpenVINO is not installed: pip install 'regionspot-autolabel[openvino]', "
    "or say --runtime torch"
)

Tower = Callable[[torch.Tensor], torch.Tensor]


class Runtime(Protocol):
    """Computes frozen towers.

    Attributes:
        name: as a run's manifest has it: `torch`, or `openvino` and its version.
    """

    name: str

    def tower(
        self, name: str, module: nn.Module, dtype: torch.dtype, sides: Sequence[int], /
    ) -> Tower:
        """A function from squares (B, 3, side, side), float32, to what a module gives for them.

        Args:
            name: of the tower, for people.
            module: that takes the squares, and returns one tensor.
            dtype: float32, or bfloat16 for large products; the result is float32.
            sides: of the squares that are going to come.
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
    """`torch` or `openvino`, whichever a name stands for.

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
    installed = importlib.util.find_spec("openvino") is not None
    can = device.type == "cpu" and preset in CONVERTED
    if kind == "auto":
        return "openvino" if can and installed and platform.machine() in _MACHINES else "torch"
    if kind == "openvino":
        if preset not in CONVERTED:
            raise InputError(
                f"--runtime openvino is for the model {', '.join(CONVERTED)}, got {preset}; "
                "say --runtime torch"
            )
        if not can:
            raise InputError(
                f"--runtime openvino computes on the CPU, got the device {device}; say --device "
                "cpu, or --runtime torch"
            )
        if not installed:
            raise InputError(NOT_INSTALLED)
    return kind


def build_runtime(name: str) -> Runtime:
    """The runtime of a name that `resolve_runtime` gave.

    Raises:
        InputError: OpenVINO cannot be imported.
    """
    if name == "torch":
        return TORCH
    from regionspot.devices.openvino_runtime import OpenVinoRuntime  # optional, takes a second

    return OpenVinoRuntime()
