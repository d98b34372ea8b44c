"""How often a batch waits for its device: recorded on torch's fake CUDA device, without values.

A copy that waits is recorded, and what only a tensor's values answer fails or is recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from regionspot import head, scoring
from regionspot.devices import transfer
from regionspot.encoders.clip import ClipEncoder
from regionspot.localizers import fast_decoder, masks, sam
from regionspot.model import RegionSpot
from tests.regionspot.factories import noise_image, random_boxes, small_model, small_sam

CUDA = torch.device("cuda")
BOXES = 3
FAKE = FakeTensorMode()
MODULES = (transfer, fast_decoder, masks, sam, head, scoring)
ASKING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


class Waits(TorchDispatchMode):
    """Records what waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = kwargs.get("device")
        copies = func is torch.ops.aten._to_copy.default and target not in (None, args[0].device)
        if func in ASKING or (copies and not kwargs.get("non_blocking")):
            self.calls.append(str(func))
        return func(*args, **kwargs)

    def to_host(self, tensors: Sequence[torch.Tensor]) -> list["Copied"]:
        """As `transfer.to_host`: one wait for all."""
        self.calls.append("to_host")
        return [Copied(tuple(each.shape), each.dtype == torch.bool) for each in tensors]


@dataclass(frozen=True)
class Copied:
    """A tensor on the host, of zeros."""

    shape: tuple[int, ...]
    is_mask: bool

    def numpy(self) -> npt.NDArray[np.generic]:
        return np.zeros(self.shape, np.bool_ if self.is_mask else np.float32)


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """As `transfer.to_device`: through pinned memory, without a wait."""
    return torch.empty(array.shape, dtype=torch.from_numpy(array.copy()).dtype, device=device)


def fake(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=CUDA)


def fake_model() -> RegionSpot:
    """The small model, all of whose tensors are on the device."""
    model = small_model()
    localizer, encoder = sam.SamLocalizer(small_sam(), in_batches=True), model.encoder
    assert isinstance(encoder, ClipEncoder)
    parts: tuple[nn.Module, ...] = (localizer.sam, localizer._encoder, encoder.model)
    with FAKE:
        for module in (each for part in (*parts, model.scorer.head) for each in part.modules()):
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    tensors[name] = None if tensor is None else fake(tensor)
        encoder.device, encoder._mean, encoder._std = CUDA, fake(encoder._mean), fake(encoder._std)
    return RegionSpot(model.config, localizer, model.scorer, CUDA, torch.float32)


@pytest.mark.parametrize("with_masks", [False, True])
def test_waits_do_not_grow_with_the_images(
    monkeypatch: pytest.MonkeyPatch, with_masks: bool
) -> None:
    recorded = Waits()
    for module in MODULES:
        for name, stand_in in (("to_device", to_device), ("to_host", recorded.to_host)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, stand_in)
    model, waits = fake_model(), []
    for count in (1, 4):
        recorded.calls.clear()
        images, boxes = [noise_image()] * count, [random_boxes(BOXES)] * count
        with FAKE, recorded:
            found = model.regions(images, boxes, masks=with_masks)
        assert [len(each.masks) for each in found] == [BOXES * with_masks] * count
        waits.append(list(recorded.calls))
    # Embeddings; of masks, the estimates of their IoU, and all windows.
    assert waits == [["to_host"] * (3 if with_masks else 1)] * 2
