"""The checkpoint of a running training, one file that is written atomically.

All random numbers of a step derive from the seed and the step, so the weights, their average, the
optimizer's moments and the number of steps are all that is needed to resume exactly.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from regionspot.errors import InputError
from regionspot.files import atomic_path
from regionspot.head import RegionHead
from train.config import LoopConfig, as_json, difference
from train.sampler import TrainingSet

MOMENTS = ("exp_avg", "exp_avg_sq")
STATE = "state.safetensors"


def fingerprint(sets: Sequence[TrainingSet]) -> str:
    """SHA-256 of what is trained on: data sets, ratios, images in order and their classes."""
    digest = hashlib.sha256()
    for data in sets:
        ancestors = {name: sorted(others) for name, others in data.ancestors.items()}
        content = [data.name, data.ratio, sorted(data.classes), ancestors, list(data.names)]
        digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()


def save_state(
    path: Path,
    step: int,
    head: RegionHead,
    average: RegionHead,
    optimizer: torch.optim.AdamW,
    config: LoopConfig,
    data: str,
) -> None:
    """Write the state after `step` steps, atomically.

    Args:
        path: of the safetensors file.
        step: number of steps done.
        head: that is trained.
        average: the head with averaged weights; the head itself where there is no average.
        optimizer: of the head.
        config: of the training.
        data: fingerprint of what is trained on.
    """
    tensors = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    if average is not head:
        tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for name, parameter in head.named_parameters():
        for moment, tensor in optimizer.state[parameter].items():
            if moment in MOMENTS:
                tensors[f"{moment}.{name}"] = tensor
    metadata = {
        "step": str(step),
        "recipe": json.dumps(as_json(config), sort_keys=True),
        "data": data,
    }
    contiguous = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata)


def load_state(
    path: Path,
    head: RegionHead,
    average: RegionHead,
    optimizer: torch.optim.AdamW,
    config: LoopConfig,
    data: str,
) -> int:
    """Load a state into the head, the average and the optimizer.

    Returns:
        The number of steps done; 0 where there is no file, and nothing was changed.

    Raises:
        InputError: not a state, or one of other settings or other data.
    """
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            step = int(metadata["step"])
            _check_same(path, json.loads(metadata["recipe"]), metadata["data"], config, data)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        head.load_state_dict(_part(tensors, "head"))
        if average is not head:
            average.load_state_dict(_part(tensors, "average"))
        _load_moments(head, optimizer, tensors, step)
    except InputError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{path} is not a state of this training: {error!r}") from error
    return step


def _check_same(
    path: Path, was: dict[str, object], old: str, config: LoopConfig, data: str
) -> None:
    mend = "give another --run-folder, or --fresh to start again in this one"
    if changed := difference(config, was):
        raise InputError(f"{path} was trained with other settings ({changed}); {mend}")
    if old != data:
        raise InputError(f"{path} was trained on other data, or in other ratios; {mend}")


def _part(tensors: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    prefix = f"{part}."
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _load_moments(
    head: RegionHead, optimizer: torch.optim.AdamW, tensors: dict[str, torch.Tensor], step: int
) -> None:
    kept = {moment: _part(tensors, moment) for moment in MOMENTS}
    for name, parameter in head.named_parameters():
        if name in kept[MOMENTS[0]]:  # a parameter without a gradient has none
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                **{moment: kept[moment][name].to(parameter.device) for moment in MOMENTS},
            }
