"""Reading and writing the trained head.

Ours are safetensors whose metadata hold the model's configuration, the calibration and the seen
classes; the official release's files are read with `weights_only` and strictly.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from regionspot.config import ModelConfig, preset
from regionspot.errors import InputError
from regionspot.files import atomic_write_bytes
from regionspot.head import TOKEN_WIDTH, HeadConfig, RegionHead
from regionspot.tensor_files.safetensors_file import (
    read_metadata,
    read_safetensors,
    safetensors_bytes,
)
from regionspot.tensor_files.torch_file import read_torch_file
from regionspot.types import ScoreCalibration
from regionspot.weights import cache_folder
from regionspot.zero_shot import FeatureAdapter

# Names of the adapter's tensors on disk: they stay those of the heads that were released.
ADAPTER_TENSORS = {
    "mean": "adaptation.usual",
    "scale": "adaptation.scale",
    "down": "adaptation.reading",
    "up": "adaptation.directions",
}
MOST_LAYERS = 100  # of a released head's decoder; the paper has 3
HEAD_PARTS = ("to_clip.", "decoder.", "projector.")
TOWER_PARTS = (
    "sam",
    "clip",
    "image_encoder",
    "prompt_encoder",
    "mask_decoder",
    "visual",
    "transformer",
    "token_embedding",
    "positional_embedding",
    "ln_final",
    "text_projection",
    "logit_scale",
    "pixel_",
)


@dataclass(frozen=True)
class TrainedHead:
    """A trained head.

    Attributes:
        calibration: how its scores become probabilities; None: by the encoder's logit scale.
        seen_classes: what it was trained on, if unseen classes are scored in another way.
        adapter: of the encoder's own classifier to the regions that the head was trained on.
    """

    head: RegionHead
    calibration: ScoreCalibration | None = None
    seen_classes: tuple[str, ...] = ()
    adapter: FeatureAdapter | None = None


def save_head(
    path: Path,
    trained: TrainedHead,
    config: ModelConfig,
    dtype: torch.dtype = torch.float16,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a head with the configuration it was trained in, atomically.

    Args:
        path: of the safetensors file.
        trained: the head with what belongs to it.
        config: of the model that the head was trained in.
        dtype: of the stored tensors.
        training: how it was trained, in JSON's types; kept in the file's metadata.
    """
    tensors = dict(trained.head.state_dict())
    if trained.adapter:
        tensors |= {key: getattr(trained.adapter, name) for name, key in ADAPTER_TENSORS.items()}
    tensors = {name: t.detach().to(dtype).contiguous() for name, t in tensors.items()}
    calibration = asdict(trained.calibration) if trained.calibration else None
    metadata = {
        "model": json.dumps(asdict(config), sort_keys=True),
        "scoring": json.dumps(calibration, sort_keys=True),
        "trained_words": json.dumps(list(trained.seen_classes)),
    }
    if training:
        metadata["training"] = json.dumps(training, sort_keys=True)
    with atomic_write_bytes(path) as file:
        file.write(safetensors_bytes(tensors, metadata))


def load_head(path: Path, config: ModelConfig) -> TrainedHead:
    """Read a head that `save_head` wrote, for the model that it was trained in.

    Raises:
        InputError: not such a file, or trained with other towers or of another shape.
    """
    metadata, stored = read_safetensors(path, refusal="is not a checkpoint of ours")
    tensors = {name: tensor.float() for name, tensor in stored.items()}
    try:
        trained_as = _parsed(ModelConfig, path, "model", metadata["model"])
        calibration = _parsed(ScoreCalibration | None, path, "scoring", metadata["scoring"])
        words = metadata.get("trained_words", "[]")
        seen_classes = _parsed(tuple[str, ...], path, "trained_words", words)
    except KeyError as error:
        raise InputError(f"{path} is not a checkpoint of ours: it lacks {error}") from error
    for part in ("localizer", "token", "encoder", "head"):
        if getattr(trained_as, part) != getattr(config, part):
            raise InputError(
                f"{path} was trained with {part} {getattr(trained_as, part)}, "
                f"the model {config.name!r} has {getattr(config, part)}"
            )
    adapter = None
    if tensors.keys() >= set(ADAPTER_TENSORS.values()):
        adapter = FeatureAdapter(**{n: tensors.pop(key) for n, key in ADAPTER_TENSORS.items()})
    head = RegionHead(config.head)
    _load_strictly(head, tensors, path)
    if adapter and not all(each.isfinite().all() for each in vars(adapter).values()):
        raise InputError(f"{path} holds weights that are not finite; pull or train it again")
    return TrainedHead(head.eval().requires_grad_(False), calibration, seen_classes, adapter)


def preset_of_head(path: Path) -> str:
    """Name of the preset that a head of ours was trained for.

    Raises:
        InputError: not such a file, or another model's head.
    """
    try:
        trained_as = _parsed(ModelConfig, path, "model", read_metadata(path)["model"])
    except KeyError as error:
        raise InputError(f"{path} is not a checkpoint of ours: it lacks {error}") from error
    return preset(trained_as.name).name


def _parsed(kind: Any, path: Path, name: str, text: str) -> Any:
    """A value of the metadata out of its JSON; what an older version lacks has its default."""
    try:
        return TypeAdapter(kind).validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, (name, *first["loc"])))
        raise InputError(
            f"{path} is not a checkpoint of ours: {field}: {first['msg']}, got "
            f"{first['input']!r:.60}"
        ) from error


def load_official(path: str | Path) -> RegionHead:
    """Read the head out of a released checkpoint, whose file holds SAM and CLIP as well.

    Args:
        path: a file of a dict under `model` (or of the dict itself), keys with or without the
            prefix `model.`; width and depth are read from the tensors.

    Raises:
        InputError: not such a file, or head keys are unknown or missing; the message lists them.
    """
    head_tensors = _official_head_tensors(Path(path))
    config = _official_config(head_tensors, Path(path))
    with torch.device("meta"):  # without memory: the file's shapes are not known to agree
        _check_shapes(RegionHead(config), head_tensors, Path(path))
    head = RegionHead(config)
    _load_strictly(head, head_tensors, Path(path))
    return head.eval().requires_grad_(False)


def import_official(path: str | Path, name: str) -> Path:
    """Keep the head of a released checkpoint in the cache, where `load_model` finds it.

    It is kept in float32 and without a calibration: the encoder's own logit scale applies.

    Args:
        path: of the released checkpoint.
        name: of the preset that the checkpoint belongs to.

    Returns:
        The file that was written.

    Raises:
        InputError: no such preset, not such a file, or the head of another preset's shape.
    """
    config = preset(name)
    head = load_official(path)
    if replace(head.config, dropout=config.head.dropout) != config.head:
        raise InputError(
            f"{path} holds a head {head.config}, the preset {name!r} has {config.head}"
        )
    target = cache_folder() / "heads" / f"{name}.safetensors"
    save_head(target, TrainedHead(head), config, torch.float32)
    return target


def _official_head_tensors(path: Path) -> dict[str, torch.Tensor]:
    loaded = read_torch_file(path)
    content = loaded.get("model", loaded) if isinstance(loaded, Mapping) else loaded
    if not isinstance(content, Mapping):
        raise InputError(f"{path} must hold a dict of tensors, got {type(content).__name__}")
    tensors = {str(name).removeprefix("model."): value for name, value in content.items()}
    unknown = [n for n in tensors if not n.startswith(HEAD_PARTS + TOWER_PARTS)]
    if unknown:
        raise InputError(f"{path} has keys of no known part: {', '.join(sorted(unknown))}")
    head = {name: value for name, value in tensors.items() if name.startswith(HEAD_PARTS)}
    if no_tensors := sorted(n for n, value in head.items() if not torch.is_tensor(value)):
        raise InputError(f"{path} must hold tensors under {', '.join(no_tensors)}")
    return head


def _official_config(tensors: Mapping[str, torch.Tensor], path: Path) -> HeadConfig:
    sizes = {"to_clip.weight": 2, "projector.weight": 2, "decoder.layers.0.linear1.weight": 2}
    missing = [name for name, n in sizes.items() if name not in tensors or tensors[name].ndim != n]
    if missing:
        raise InputError(f"{path} lacks keys of the head: {', '.join(missing)}")
    width, token_width = tensors["to_clip.weight"].shape
    if token_width != TOKEN_WIDTH:
        raise InputError(f"{path}: to_clip must take {TOKEN_WIDTH} channels, got {token_width}")
    if width % HeadConfig.heads:
        raise InputError(f"{path}: the head's width must be a multiple of 8, got {width}")
    layers = {n.split(".")[2] for n in tensors if n.startswith("decoder.layers.")}
    if len(layers) > MOST_LAYERS:
        raise InputError(
            f"{path}: expected a decoder of at most {MOST_LAYERS} layers, got {len(layers)}"
        )
    return HeadConfig(
        map_width=width,
        text_width=len(tensors["projector.weight"]),
        width=width,
        depth=len(layers),
        feedforward=len(tensors["decoder.layers.0.linear1.weight"]),
    )


def _check_shapes(head: RegionHead, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    expected = head.state_dict()
    problems = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unknown": sorted(tensors.keys() - expected.keys()),
        "of another shape": sorted(
            name
            for name in expected.keys() & tensors.keys()
            if expected[name].shape != tensors[name].shape
        ),
    }
    found = [f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    if found:
        raise InputError(f"{path} does not fit the head; {'; '.join(found)}")


def _load_strictly(head: RegionHead, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    _check_shapes(head, tensors, path)
    if bad := sorted(name for name in tensors if not tensors[name].isfinite().all()):
        raise InputError(
            f"{path} holds weights that are not finite ({', '.join(bad)}); pull or train it again"
        )
    head.load_state_dict(dict(tensors))
