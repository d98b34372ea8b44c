"""Between the host's memory and a device's, without waiting where the device allows it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from regionspot.types import Pixels


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """A copy of an array on a device; to a CUDA device through pinned memory, without waiting."""
    writeable = np.ascontiguousarray(array)
    tensor = torch.from_numpy(writeable if writeable.flags.writeable else writeable.copy())
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def pixels_on(device: torch.device, images: Sequence[Pixels]) -> list[torch.Tensor]:
    """RGB images, uint8 (H, W, 3), on a device; those that are there already are not copied."""
    return [
        image.to(device, non_blocking=True)
        if isinstance(image, torch.Tensor)
        else to_device(image, device)
        for image in images
    ]


def to_host(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors on the CPU, of a CUDA device by one wait for all."""
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    if any(tensor.is_cuda for tensor in tensors):
        torch.cuda.current_stream(tensors[0].device).synchronize()
    return copies
