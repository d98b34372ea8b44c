"""The options that decide a run's labels, with their ranges and defaults.

The command line reads its defaults here, so nothing slow is imported.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

# What `--boxes` is called in a manifest where they came as a mapping from Python.
BOXES_FROM_PYTHON = "from Python"

# The models without a trained head; test_options.py compares them with regionspot.config.
CROP_MODELS = ("clip-b16", "clip-l14", "siglip2-b16")
OPEN_CLIP = "openclip:"

T = TypeVar("T")

LABEL_FIELD = "predictions"
RUNS_FOLDER = "runs"

# A label goes to the view "needs review" where either is below; else to "confident".
REVIEW_CONFIDENCE = 0.5
REVIEW_MARGIN = 0.2

Probability = Annotated[float, Field(ge=0, le=1, description="from 0 to 1")]
Count = Annotated[int, Field(ge=1, description="1 or more")]
Natural = Annotated[int, Field(ge=0, description="0 or more")]
DeviceName = Annotated[
    str,
    Field(
        pattern="^(auto|cpu|cuda(:[0-9]+)?|mps)$", description="one of auto, cpu, cuda, cuda:N, mps"
    ),
]

RuntimeName = Annotated[
    str,
    Field(
        pattern="^(auto|torch|openvino|onnxruntime)$",
        description="one of auto, torch, openvino, onnxruntime",
    ),
]


MaxBoxes = Annotated[int | None, Field(ge=1, description="1 or more")]
TileSide = Annotated[int | None, Field(ge=64, description="64 pixels or more")]
TileOverlap = Annotated[float, Field(ge=0, le=0.9, description="from 0 to 0.9")]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides the content of a run folder, besides the images and the words.

    `autolabel.label` describes each. An empty `detector` or `checkpoint` is the model's own; the
    path of a checkpoint is absolute, and so is that of boxes. Without `max_boxes` the words decide.
    """

    model: str = "mini"
    detector: str = ""
    conf_threshold: Probability = 0.3
    presence_threshold: Probability = 0.1
    iou: Probability = 0.5
    containment: Probability = 0.9
    max_boxes: MaxBoxes = None
    masks: bool = True
    batch_size: Count = 4
    shard_size: Count = 32
    device: DeviceName = "auto"
    runtime: RuntimeName = "auto"
    checkpoint: str = ""
    boxes: str = ""
    keep_score: bool = True
    detector_weight: Probability = 0.6
    tile: TileSide = None
    tile_overlap: TileOverlap = 0.2

    def check(self) -> None:
        """Refuse a value of another type or outside of its range.

        Raises:
            InputError: the message names the option as the command line does.
        """
        validated(Options, json.dumps(asdict(self)), lambda name: "--" + name.replace("_", "-"))


def has_head(model: str) -> bool:
    """Whether a model, as `--model` names it, has a trained head."""
    return model not in CROP_MODELS and not model.startswith(OPEN_CLIP)


def with_thresholds(
    options: Options,
    boxes: object | None,
    conf_threshold: float | None,
    presence_threshold: float | None,
    iou: float | None,
    containment: float | None,
) -> Options:
    """Options of a run with the thresholds that were asked for, or that fit its model and boxes.

    Of given boxes none is suppressed or rejected by its confidence unless that is asked for, and
    none is rejected by its presence where that is not calibrated, as without a trained head.

    Args:
        options: of the run.
        boxes: a text as `--boxes` has it, or a mapping; None: a detector proposes boxes.
        conf_threshold: as asked for; None: 0 for given boxes, else the default.
        presence_threshold: as asked for; None: 0 without a trained head, else the default.
        iou: as asked for; None: 1 for given boxes, else the default.
        containment: as asked for; None: 1 for given boxes, else the default.
    """
    if presence_threshold is None:
        presence_threshold = options.presence_threshold if has_head(options.model) else 0.0
    default = options
    if boxes is not None:
        default = replace(options, conf_threshold=0.0, iou=1.0, containment=1.0)
    options = replace(
        options,
        presence_threshold=presence_threshold,
        conf_threshold=default.conf_threshold if conf_threshold is None else conf_threshold,
        iou=default.iou if iou is None else iou,
        containment=default.containment if containment is None else containment,
    )
    if boxes is None:
        return options
    name = BOXES_FROM_PYTHON
    if isinstance(boxes, str):
        kind, path = split_format(boxes)
        absolute = str(Path(path).resolve())
        name = f"{kind}:{absolute}" if kind else absolute
        if boxes.startswith("fiftyone:"):
            name = boxes
    return replace(options, boxes=name)


def absolute_model(name: str) -> str:
    """What `--model` takes, where a file (`openclip:MODEL/FILE`) that is there is absolute."""
    model, slash, pretrained = name.partition("/")
    is_file = model.startswith(OPEN_CLIP) and Path(pretrained).is_file()
    return f"{model}{slash}{Path(pretrained).resolve()}" if is_file else name


def absolute_detectors(names: str) -> str:
    """What `--detector` takes, where a folder (`hf:FOLDER`) that is there is absolute."""
    parts = []
    for text in names.split(","):
        name, colon, argument = text.strip().partition(":")
        is_folder = bool(argument) and Path(argument).exists()
        parts.append(f"{name}{colon}{Path(argument).resolve() if is_folder else argument}")
    return ",".join(parts)


def split_format(boxes: str) -> tuple[str, str]:
    """Format and path of `FORMAT:PATH`; the format is empty where it is not said."""
    name, colon, path = boxes.partition(":")
    is_name = len(name) > 1 and all(char.isalpha() or char == "-" for char in name)
    return (name, path) if colon and is_name else ("", boxes)


def validated(kind: type[T], text: str, name_of: Callable[[str], str]) -> T:
    """Parse JSON as a dataclass; other types, values out of range and unknown keys are refused.

    Args:
        kind: the dataclass.
        text: JSON.
        name_of: what a message calls a field, from its dotted path.

    Raises:
        InputError: names the first field that is wrong, what was expected and what came.
    """
    try:
        return TypeAdapter(kind).validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        from regionspot.errors import InputError  # brings torch, which takes seconds

        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise InputError(f"{name_of('').removesuffix(': ')}: {first['msg']}") from error
        place = first["loc"] or ("",)  # empty: the whole is of another type
        name = name_of(".".join(str(part) for part in place)).removesuffix(": ")
        if first["type"] in ("missing", "unexpected_keyword_argument", "extra_forbidden"):
            what = "is missing" if first["type"] == "missing" else "is unknown"
            raise InputError(f"{name} {what}") from error
        expected = first["msg"].removeprefix("Input should be ")
        option = get_type_hints(Options, include_extras=True).get(str(place[-1]))
        if option and not first["type"].endswith("_type"):
            expected = option.__metadata__[0].description
        raise InputError(f"{name} must be {expected}, got {first['input']!r:.200}") from error
