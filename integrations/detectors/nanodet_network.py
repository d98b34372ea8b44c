"""The network of NanoDet-g, rebuilt in torch from a published tfjs graph of it.

Batch normalisation is folded into the convolutions. Source: https://github.com/RangiLyu/nanodet.

Axes: B images, C channels, h and w sides of a map, P cells of all levels.
"""

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from regionspot.weights import locate

STRIDES = (8, 16, 32)
CLASSES = 80
BINS = 11


class ConvAct(nn.Sequential):
    """A 3 x 3 convolution and LeakyReLU 0.1."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.LeakyReLU(0.1, inplace=True)
        )


class TinyBlock(nn.Module):
    """Two convolutions in a row, their outputs side by side."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = ConvAct(inputs, width)
        self.second = ConvAct(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, h, w) to (B, 2 width, h, w)."""
        first = self.first(x)
        return torch.cat([self.second(first), first], dim=1)


class CspBlock(nn.Module):
    """A cross-stage partial block: half of its output has passed the inner convolutions.

    (CSPNet, Wang et al. 2019, arXiv 1911.11929.)
    """

    def __init__(self, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.enter = ConvAct(channels, channels, stride)
        self.inner = nn.Sequential(
            *(TinyBlock(channels, channels // 2) for _ in range(blocks)),
            ConvAct(channels, channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) to (B, 2C, h / stride, w / stride)."""
        entered = self.enter(x)
        return torch.cat([self.inner(entered), entered], dim=1)


def _resize_to(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class Pan(nn.Module):
    """A path-aggregation neck that only adds: top-down, then bottom-up.

    (PANet, Liu et al. 2018, arXiv 1803.01534, section 3.1.)
    """

    def __init__(self, inputs: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in inputs)

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        """Backbone maps (B, C, h, w), finest first, to as many maps (B, width, h, w)."""
        maps = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        for fine in range(len(maps) - 2, -1, -1):
            maps[fine] = maps[fine] + _resize_to(maps[fine + 1], like=maps[fine])
        for coarse in range(1, len(maps)):
            maps[coarse] = maps[coarse] + _resize_to(maps[coarse - 1], like=maps[coarse])
        return maps


class NanoDetNetwork(nn.Module):
    """Backbone, neck and a head for each stride.

    The convolutions are defined in the order of the published graph's numbering, which
    `load_network` relies on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvAct(3, 32, stride=2), nn.MaxPool2d(3, 2, padding=1))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(CspBlock(32, 1, stride=1), CspBlock(64, 2, stride=2)),
                CspBlock(128, 2, stride=2),
                CspBlock(256, 3, stride=2),
            ]
        )
        self.neck = Pan((128, 256, 512), 128)
        self.heads = nn.ModuleList(
            nn.Sequential(ConvAct(128, 128), nn.Conv2d(128, CLASSES + 4 * BINS, 1)) for _ in STRIDES
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class scores and distance logits of every cell.

        Args:
            x: (B, 3, h, w) normalised BGR; h and w are multiples of 32.

        Returns:
            scores (B, P, 80) in [0, 1] and distance logits (B, P, 4, 11); the cells are row by
            row, finest stride first.
        """
        x = self.stem(x)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        outputs = [
            head(level).flatten(2)  # (B, 124, h, w) to (B, 124, h w)
            for head, level in zip(self.heads, self.neck(levels), strict=True)
        ]
        raw = torch.cat(outputs, dim=2).transpose(1, 2)  # (B, 124, P) to (B, P, 124)
        B, P, _ = raw.shape
        return raw[..., :CLASSES].sigmoid(), raw[..., CLASSES:].reshape(B, P, 4, BINS)


def _read_tensors(graph: dict[str, Any], weights: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """The graph's floating-point constants, which the file holds one after another in fp16."""
    tensors, offset = {}, 0
    for entry in graph["weightsManifest"][0]["weights"]:
        stored = np.dtype(entry.get("quantization", entry)["dtype"])
        count = math.prod(entry["shape"])
        if entry["dtype"] == "float32":
            values = np.frombuffer(weights, stored, count, offset)
            tensors[entry["name"]] = values.astype(np.float32).reshape(entry["shape"])
        offset += count * stored.itemsize
    return tensors


def build_network() -> NanoDetNetwork:
    """The network with its published weights, in evaluation mode.

    Raises:
        InputError: a weight file cannot be had.
    """
    graph = json.loads(locate("nanodet-graph").read_text())
    tensors = _read_tensors(graph, locate("nanodet-weights").read_bytes())
    nodes = graph["modelTopology"]["node"]
    convolutions = [node for node in nodes if node["op"] == "Conv2D"]
    # The graph lists the laterals among the stages they branch from; the export's numbering,
    # `convolution`, `convolution_1` and so on, is the order in which torch ran the modules.
    convolutions.sort(key=lambda node: int(node["name"].partition("convolution_")[2] or 0))
    biases = {
        node["input"][0]: tensors[node["input"][1]]
        for node in nodes
        if node["op"] == "Add" and node["input"][1] in tensors
    }
    network = NanoDetNetwork()
    modules = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for module, node in zip(modules, convolutions, strict=True):
            kernel = torch.from_numpy(tensors[node["input"][1]]).permute(3, 2, 0, 1)
            bias = torch.from_numpy(biases[node["name"]])
            assert module.weight.shape == kernel.shape, f"{node['name']} does not fit"
            assert module.bias is not None
            module.weight.copy_(kernel)
            module.bias.copy_(bias)
    return network.eval().requires_grad_(False)
