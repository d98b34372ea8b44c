"""A small evaluator of tfjs graphs, written for the one question whether a rebuilt model agrees."""

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Value = torch.Tensor | tuple[torch.Tensor, ...]


def _stored(entry: dict[str, Any]) -> np.dtype[Any]:
    return np.dtype(entry.get("quantization", entry)["dtype"])


def _constants(manifest: dict[str, Any], data: bytes) -> dict[str, torch.Tensor]:
    constants, offset = {}, 0
    for entry in manifest["weights"]:
        count, stored = math.prod(entry["shape"]), _stored(entry)
        values = np.frombuffer(data, stored, count, offset).astype(entry["dtype"])
        constants[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
        offset += count * stored.itemsize
    assert offset == len(data)
    return constants


def _apply(op: str, attributes: dict[str, Any], inputs: Sequence[torch.Tensor]) -> Value:
    x = inputs[0]
    nchw = x.permute(0, 3, 1, 2) if x.ndim == 4 else x
    match op:
        case "Identity":
            return x
        case "Add" | "AddV2":
            return x + inputs[1]
        case "Sigmoid":
            return x.sigmoid()
        case "LeakyRelu":
            return F.leaky_relu(x, attributes["alpha"]["f"])
        case "Transpose":
            return x.permute(*inputs[1].tolist())
        case "Reshape":
            return x.reshape(*inputs[1].tolist())
        case "ConcatV2":
            return torch.cat(list(inputs[:-1]), int(inputs[-1]))
        case "SplitV":
            return x.split(inputs[1].tolist(), int(inputs[2]))
        case "SparseToDense":
            return torch.full(inputs[1].tolist(), int(inputs[3]))
        case "Pad" | "PadV2":
            amounts = inputs[1].flip(0).flatten().tolist()
            return F.pad(x, amounts, value=float(inputs[2]) if op == "PadV2" else 0.0)
        case "Conv2D":
            stride = [int(step) for step in attributes["strides"]["list"]["i"][1:3]]
            kernel = inputs[1].permute(3, 2, 0, 1)
            return F.conv2d(nchw, kernel, stride=stride).permute(0, 2, 3, 1)
        case "MaxPool":
            size, stride = (
                [int(step) for step in attributes[key]["list"]["i"][1:3]]
                for key in ("ksize", "strides")
            )
            return F.max_pool2d(nchw, size, stride).permute(0, 2, 3, 1)
        case "ResizeBilinear":
            assert attributes["half_pixel_centers"]["b"]
            return F.interpolate(nchw, inputs[1].tolist(), mode="bilinear").permute(0, 2, 3, 1)
    raise NotImplementedError(op)


def evaluate(graph_path: Path, weights_path: Path, x: torch.Tensor) -> list[torch.Tensor]:
    """The graph's outputs, in the order of their names, for its one input."""
    graph = json.loads(graph_path.read_text())
    constants = _constants(graph["weightsManifest"][0], weights_path.read_bytes())
    nodes = {node["name"]: node for node in graph["modelTopology"]["node"]}

    @cache
    def run(name: str) -> Value:
        node = nodes[name]
        if node["op"] == "Placeholder":
            return x
        if node["op"] == "Const":
            return constants[name]
        return _apply(node["op"], node.get("attr", {}), [tensor(i) for i in node["input"]])

    def tensor(reference: str) -> torch.Tensor:
        name, _, index = reference.partition(":")
        value = run(name)
        return value[int(index or 0)] if isinstance(value, tuple) else value

    with torch.inference_mode():
        return [tensor(name) for name in sorted(graph["signature"]["outputs"])]
