"""The training loop: the only one, for training on cached features and for fine-tuning on a review.

All random numbers of a step derive from the seed and the step, so the weights, their average, the
optimizer's moments and the number of steps are all that is needed to resume exactly. They are the
checkpoint of a running training, one file that is written atomically.
"""

import copy
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import nn

from integrations.progress import Reporter
from regionspot.errors import InputError
from regionspot.files import atomic_write_bytes
from regionspot.head import RegionHead
from regionspot.tensor_files.safetensors_file import read_safetensors, safetensors_bytes
from train.config import LoopConfig, as_json, difference
from train.distributed import Processes, no_sync
from train.sampler import seed_of

MOMENTS = ("exp_avg", "exp_avg_sq")
STATE = "state.safetensors"
SINGLE_PROCESS = Processes(torch.device("cpu"))
B = TypeVar("B")


class Objective(Protocol[B]):
    """The data and the loss of a training.

    Attributes:
        dropout: whether the head's dropout is active.
        fingerprint: digest of the data, which a resumed training must share.
    """

    dropout: bool

    @property
    def fingerprint(self) -> str:
        """See the class."""

    def batches(self, first: int, last: int) -> Iterator[Sequence[B]]:
        """The batches of each step from the first up to the last, exclusive."""

    def loss(self, head: nn.Module, batch: B) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch's summed loss, and its part of what the step's sum is divided by; scalars."""


class Callback:
    """What the loop calls as it goes; this one does nothing."""

    def on_step(self, done: int, loss: float, rate: float, gradient_norm: float) -> None:
        """Called with the number of steps done, and the mean loss, learning rate and L2 norm of
        the unclipped gradient of the last one."""

    def on_evaluation(self, done: int, head: RegionHead) -> None:
        """Called after `evaluate_every` steps with the head in evaluation mode."""


class ProgressCallback(Callback):
    """Reports steps and loss."""

    def __init__(self, reporter: Reporter, task: str, iterations: int) -> None:
        self.reporter, self.task, self.iterations = reporter, task, iterations
        self._is_started = False

    def on_step(self, done: int, loss: float, rate: float, gradient_norm: float) -> None:  # noqa: ARG002
        """Report the step."""
        if not self._is_started:
            self.reporter.start(self.task, self.iterations, done - 1)
            self._is_started = True
        self.reporter.advance(detail=f"loss {loss:.3f}")


def run_loop(
    config: LoopConfig,
    head: RegionHead,
    objective: Objective[B],
    run: Path | None = None,
    processes: Processes = SINGLE_PROCESS,
    callback: Callback | None = None,
) -> RegionHead:
    """Minimise an objective; resumes from the checkpoint in the run folder.

    Args:
        config: with `iterations` and `evaluate_every` known.
        head: on the processes' device; its weights are changed.
        objective: data and loss.
        run: folder of the training's checkpoint; None for no checkpoint.
        processes: that share the work.
        callback: called after steps and evaluations.

    Returns:
        The trained head in evaluation mode, on the CPU; with averaged weights where the
        configuration asks for them.

    Raises:
        InputError: a checkpoint of another training, or a loss that is not finite; the weights
            were not updated with it.
    """
    average = copy.deepcopy(head).requires_grad_(False) if config.ema else head
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=config.weight_decay)
    data = objective.fingerprint
    first = load_state(run / STATE, head, average, optimizer, config, data) if run else 0
    module = processes.wrap(head)
    callback = callback if callback and processes.is_first else Callback()

    for step, batches in enumerate(objective.batches(first, config.iterations), first):
        torch.manual_seed(seed_of(config.seed, "dropout", step, processes.rank))
        rate = learning_rate(config, step)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        head.train(objective.dropout)
        sums = torch.zeros(2, device=processes.device)
        for batch in batches:
            with no_sync(module, is_last=batch is batches[-1]):
                loss, weight = objective.loss(module, batch)
                torch.autograd.backward(loss)
                sums += torch.stack([loss.detach(), weight])
        total, divisor = processes.all_reduce(sums).tolist()
        if not math.isfinite(total):
            raise InputError(
                f"the loss is {total} in step {step + 1}; lower the learning rate ({rate:.2g} "
                "there) or look for broken features"
            )
        # The gradients are of a sum over regions; DDP has divided them by its processes.
        for parameter in head.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(processes.count / divisor)
        norm = nn.utils.clip_grad_norm_(head.parameters(), config.gradient_norm)
        optimizer.step()
        if average is not head:
            update_average(average, head, config.ema, step)

        done = step + 1
        callback.on_step(done, total / divisor, rate, norm.item())
        is_last = done == config.iterations
        if run and processes.is_first and (is_last or done % config.save_every == 0):
            save_state(run / STATE, done, head, average, optimizer, config, data)
        if is_last or done % config.evaluate_every == 0:
            callback.on_evaluation(done, average.eval())
    return average.cpu().eval().requires_grad_(False)


def learning_rate(config: LoopConfig, step: int) -> float:
    """The learning rate of a step, counted from 0; `iterations` must be known."""
    warmup = min(1.0, (step + 1) / max(1.0, config.warmup_steps))
    if config.schedule == "steps":
        decay = 0.1 ** sum(step >= drop for drop in config.drops)
    else:
        left = max(1.0, config.iterations - config.warmup_steps)
        progress = max(0.0, step - config.warmup_steps) / left
        decay = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * warmup * decay


@torch.no_grad()
def update_average(average: RegionHead, head: RegionHead, decay: float, step: int) -> None:
    """Exponential moving average of the weights, with a smaller decay in the first steps.

    Not `timm.utils.ModelEmaV3`: its arithmetic would change the weights of trained heads.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for slow, fast in zip(average.parameters(), head.parameters(), strict=True):
        slow.lerp_(fast, weight)


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
    with atomic_write_bytes(path) as file:
        file.write(safetensors_bytes(contiguous, metadata))


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
        metadata, tensors = read_safetensors(path, refusal="is not a state of this training")
        step = int(metadata["step"])
        _check_same(path, json.loads(metadata["recipe"]), metadata["data"], config, data)
        head.load_state_dict(_part(tensors, "head"))
        if average is not head:
            average.load_state_dict(_part(tensors, "average"))
        _load_moments(head, optimizer, tensors, step)
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, RuntimeError, RecursionError) as error:
        raise InputError(f"{path} is not a state of this training: {error!r:.200}") from error
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
