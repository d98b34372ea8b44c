"""NanoDet-g, a small one-stage detector trained on COCO, as a proposer of boxes.

Its network is rebuilt in torch from a published tfjs graph, with batch normalisation folded into
the convolutions. Source: https://github.com/RangiLyu/nanodet.

Axes: B images, C channels, P cells of all levels, N boxes above the threshold, E classes, h and w
sides of a map or of the network's input.
"""

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from integrations.detectors.base import (
    MAX_BOXES,
    MIN_SCORE,
    NMS_IOU,
    DetectorOptions,
    check_image,
    fit_longest,
    select,
)
from regionspot.boxes import FloatArray
from regionspot.config import fast_dtype
from regionspot.devices.runtime import ANY_SIZE, TORCH, Runtime
from regionspot.types import ImageArray, Proposals
from regionspot.weights import locate

PUBLISHED_SIDE = 416
SIDES = (PUBLISHED_SIDE, 640)
_MEAN_BGR = (103.53, 116.28, 123.675)
_STD_BGR = (57.375, 57.12, 58.395)
# COCO's, in the order of the network's outputs.
_CLASSES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,"
    "bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO_CLASSES = tuple(_CLASSES.split(","))


def decode(distances: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Boxes from the distribution of each side's distance to the centre of its cell.

    (Generalized Focal Loss, Li et al. 2020, arXiv 2006.04388, section 3.)

    Args:
        distances: (P, 4, 11) logits of left, top, right and bottom, in units of the stride.
        height: of the network's input, in pixels; multiples of 32.
        width: of the network's input, in pixels; multiples of 32.

    Returns:
        (P, 4) xyxy boxes in pixels of the input.
    """
    centres, strides = [], []
    for stride in STRIDES:
        rows, columns = torch.arange(height // stride), torch.arange(width // stride)
        y, x = torch.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
        # (h / stride, w / stride, 2) to (cells, 2)
        centres.append(torch.stack([x, y], dim=-1).flatten(0, 1) * stride)
        strides.append(torch.full((len(centres[-1]), 1), float(stride)))
    centre = torch.cat(centres).to(distances)
    bins = torch.arange(BINS).to(distances)
    # (P, 4, 11) @ (11,) to (P, 4), times (P, 1)
    sides = (distances.softmax(dim=-1) @ bins) * torch.cat(strides).to(distances)
    return torch.cat([centre - sides[:, :2], centre + sides[:, 2:]], dim=1)


def _whole_cells(pixels: int) -> int:
    return math.ceil(pixels / STRIDES[-1]) * STRIDES[-1]


class NanoDet:
    """NanoDet-g; a box's score is its highest class score, and suppression is class-agnostic.

    The network was published for a longest side of 416 pixels, at which it misses most small
    things. Here it runs at two sizes, and NMS chooses among the boxes of both.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        max_boxes: int = MAX_BOXES,
        nms_iou: float = NMS_IOU,
        sides: tuple[int, ...] = SIDES,
        score_threshold: float = MIN_SCORE,
        name: str = "nanodet",
        runtime: Runtime = TORCH,
    ) -> None:
        """Load the network.

        Args:
            device: where torch runs it.
            max_boxes: at most so many boxes an image.
            nms_iou: of two boxes that overlap by more than this, the one of lower score goes.
            sides: the longest sides, in pixels, that the image is resized to; multiples of 32.
            score_threshold: boxes of a lower score are left out.
            name: what the command line and the run's manifest call it.
            runtime: what computes the network.

        Raises:
            InputError: a weight file cannot be had.
        """
        self.name = name
        network = build_network().to(device).to(memory_format=torch.channels_last)
        dtype = torch.float32 if runtime is TORCH else fast_dtype(torch.device(device))
        self.network = runtime.tower("nanodet", network, dtype, (ANY_SIZE,))
        self.max_boxes = max_boxes
        self.nms_iou = nms_iou
        self.sides = sides
        self.score_threshold = score_threshold
        self._mean = torch.tensor(_MEAN_BGR, device=device).view(3, 1, 1)
        self._std = torch.tensor(_STD_BGR, device=device).view(3, 1, 1)

    @classmethod
    def of(cls, options: DetectorOptions, name: str, sides: tuple[int, ...] = SIDES) -> "NanoDet":
        """The detector of a name, with the options that all detectors have."""
        minimum = MIN_SCORE if options.min_score is None else options.min_score
        limits = (options.max_boxes, options.nms_iou)
        return cls(options.device, *limits, sides, minimum, name, options.runtime)

    def preprocess(self, image: ImageArray, side: int) -> tuple[torch.Tensor, FloatArray]:
        """Resize, pad with black at right and bottom to whole cells, and normalise.

        Args:
            image: (H, W, 3) uint8 RGB.
            side: the longest side, in pixels.

        Returns:
            (1, 3, h, w) normalised BGR, h and w multiples of 32, and (4,) what its xyxy boxes
            are multiplied by to become the image's.
        """
        height, width = check_image(image)
        inner_height, inner_width = fit_longest(height, width, side)
        # Resized before it moves: CUDA does not resize bytes.
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
        size = (inner_height, inner_width)
        pixels = F.interpolate(pixels[None], size, mode="bilinear", antialias=True)
        # A square, as published, gives the same boxes and takes half as long again.
        padded_size = (_whole_cells(inner_height), _whole_cells(inner_width))
        padded = torch.zeros(1, 3, *padded_size, device=self._mean.device)
        padded[..., :inner_height, :inner_width] = pixels.flip(1)
        scale = np.array([width / inner_width, height / inner_height] * 2, np.float32)
        return (padded - self._mean) / self._std, scale

    @torch.inference_mode()
    def detect(self, image: ImageArray) -> Proposals:
        """See `Detector.detect`."""
        boxes, by_class = [], []
        for side in self.sides:
            x, scale = self.preprocess(image, side)
            logits = self.network(x)[0]
            scores = logits[:, :CLASSES].sigmoid()  # (P, E)
            likely = scores.amax(dim=1) > self.score_threshold
            distances = logits[:, CLASSES:].reshape(-1, 4, BINS)
            inside = decode(distances, *x.shape[-2:])[likely]  # (N, 4)
            boxes.append(inside.cpu().numpy() * scale)
            by_class.append(scores[likely].cpu().numpy())
        class_scores = np.concatenate(by_class)  # (N, E)
        found = Proposals(
            np.concatenate(boxes),
            class_scores.max(axis=1),
            class_names=COCO_CLASSES,
            class_scores=class_scores,
        )
        return select(found, check_image(image), self.nms_iou, self.max_boxes)


STRIDES = (8, 16, 32)
CLASSES = len(COCO_CLASSES)
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of classes and distances of every cell.

        Args:
            x: (B, 3, h, w) normalised BGR; h and w are multiples of 32.

        Returns:
            (B, P, 80 + 4 * 11); the cells are row by row, finest stride first.
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
        return torch.cat(outputs, dim=2).transpose(1, 2)  # (B, 124, P) to (B, P, 124)


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
