"""Which runtime computes the image towers."""

import sys

import pytest
import torch

from regionspot.devices import runtime
from regionspot.devices.runtime import TORCH, build_runtime, resolve_runtime
from regionspot.errors import InputError
from tests.regionspot.factories import CPU

CUDA = torch.device("cuda")


@pytest.fixture
def on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.platform, "machine", lambda: "x86_64")


@pytest.mark.usefixtures("on_x86")
@pytest.mark.parametrize(
    ("name", "device", "preset", "expected"),
    [
        ("auto", CPU, "mini", "openvino"),
        ("auto", CUDA, "mini", "torch"),
        ("auto", CPU, "bl", "torch"),
        ("torch", CPU, "mini", "torch"),
        ("openvino", CPU, "mini", "openvino"),
        ("openvino 2099.1", CPU, "mini", "openvino"),
        ("onnxruntime", CPU, "mini", "onnxruntime"),
    ],
)
def test_what_a_name_stands_for(
    name: str, device: torch.device, preset: str, expected: str
) -> None:
    assert resolve_runtime(name, device, preset) == expected


def test_auto_is_torch_where_nothing_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.platform, "machine", lambda: "aarch64")
    assert resolve_runtime("auto", CPU, "mini") == "torch"
    assert resolve_runtime("openvino", CPU, "mini") == "openvino"


@pytest.mark.parametrize(
    ("name", "device", "preset", "message"),
    [
        (
            "abacus",
            CPU,
            "mini",
            "one of auto, torch, openvino, onnxruntime, got 'abacus'",
        ),
        ("openvino", CUDA, "mini", "computes on the CPU, got the device cuda; say --device cpu"),
        ("onnxruntime", CUDA, "mini", "--runtime onnxruntime computes on the CPU"),
        ("openvino", CPU, "bl", "is for the model mini, got bl; say --runtime torch"),
    ],
)
def test_what_cannot_be_is_refused(
    name: str, device: torch.device, preset: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        resolve_runtime(name, device, preset)
    assert message in str(caught.value)


@pytest.mark.usefixtures("on_x86")
def test_without_openvino_auto_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert resolve_runtime("auto", CPU, "mini") == "torch"
    with pytest.raises(InputError, match=r"pip install 'regionspot-autolabel\[openvino\]'"):
        resolve_runtime("openvino", CPU, "mini")


def test_runtimes_are_called_as_the_manifest_names_them() -> None:
    assert build_runtime("torch") is TORCH
    assert build_runtime("openvino").name.startswith("openvino 20")
    assert build_runtime("onnxruntime").name.startswith("onnxruntime 1.")
