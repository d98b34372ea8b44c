"""Weights in the precision of a device's fast products."""

import copy

import torch
from torch import nn


def in_precision(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy whose linear layers, convolutions and attentions hold their weights in `dtype`."""
    twin = copy.deepcopy(module)
    for each in twin.modules():
        if isinstance(each, nn.Linear | nn.Conv2d | nn.MultiheadAttention):
            each.to(dtype)
    return twin
