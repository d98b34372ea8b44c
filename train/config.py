"""What to train and how: functions that return typed configurations."""

from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from regionspot.config import ModelConfig, preset
from regionspot.errors import InputError

# What may change between a run and its going on: the weights do not depend on it.
FREE = ("save_every", "evaluate_every")


@dataclass(frozen=True)
class Recipe:
    """Settings of one training. Steps are updates of the weights, images are counted over all
    processes.

    Attributes:
        loss: sigmoid focal loss, as in the paper, or a softmax over the words.
        start: file of the head to start from; empty for seeded weights.
        views: what each image is also shown as (`train.features.augment`): `flip`, `scale=0.75`;
            in `--set` parted by commas.
        held_out: share of the images that is only measured and calibrated on.
        iterations: steps; 0 for as many as `epochs` passes over the images take.
        images_per_step: images behind one step.
        accumulate: parts that a process computes its images of a step in, for less memory.
        schedule: `steps` divides the rate by 10 at each of `drops`, `cosine` lets it fall to 0.
        warmup: steps in which the rate rises from 0; below 1, their share of all.
        ema: decay of the weights' moving average, which is what is kept; 0 for the last weights.
        precision: of the head's products; `auto` is bfloat16 where the device is fast at it.
        region_dropout: the largest share of an image's regions left out of a step, so that the
            head does not come to need the complete set of boxes.
        repeat_threshold: t of repeat-factor sampling; 0 shows each image once a pass.
        balance: a word's weight in the loss is its count to the power of minus this.
        label_smoothing: of the softmax over the words.
        logit_scale: what cosines are multiplied with in the loss.
        pull: weight of one minus the cosine with the own word, beside the softmax, which only
            asks that other words be farther.
        focal_alpha, focal_gamma: of the focal loss.
        teachers: heads that are trained first, alike but for their seeds, and whose mean the head
            is held to; for the softmax alone.
        teacher_epochs: passes of each of them; alone, a head overfits sooner.
        teaching: share of the loss that compares with the teachers, not with the own word.
        teacher_pull: weight of one minus the cosine with the teachers' embedding in that share.
        saved_as: precision of the checkpoint's numbers.
        save_every: steps between two states that a stopped run goes on from.
        evaluate_every: steps between two evaluations; 0 for once a pass.
    """

    model: ModelConfig
    loss: Literal["focal", "softmax"]
    start: str = ""
    seed: int = 0
    views: tuple[str, ...] = ()
    held_out: float = 0.05
    iterations: int = 0
    epochs: int = 0
    images_per_step: int = 16
    accumulate: int = 1
    learning_rate: float = 2.5e-5
    weight_decay: float = 1e-4
    gradient_norm: float = 1.0
    schedule: Literal["steps", "cosine"] = "steps"
    warmup: float = 1000
    drops: tuple[int, ...] = ()
    ema: float = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    region_dropout: float = 0.0
    repeat_threshold: float = 0.0
    balance: float = 0.0
    label_smoothing: float = 0.0
    logit_scale: float = 100.0
    pull: float = 0.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    teachers: int = 0
    teacher_epochs: int = 4
    teaching: float = 0.5
    teacher_pull: float = 8.0
    saved_as: Literal["float16", "float32"] = "float32"
    save_every: int = 500
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        at_least_one = ("images_per_step", "accumulate", "save_every", "teacher_epochs")
        shares = (
            "held_out",
            "ema",
            "region_dropout",
            "label_smoothing",
            "focal_alpha",
            "teaching",
        )
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in shares:
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.teachers < 0 or (self.teachers and self.loss != "softmax"):
            raise InputError(
                "teachers must be 0 with the focal loss, and 0 or more with the softmax, "
                f"got {self.teachers} with the {self.loss} loss"
            )
        if (self.iterations > 0) == (self.epochs > 0):
            raise InputError(
                "either iterations or epochs must be above 0 and the other 0, "
                f"got {self.iterations} and {self.epochs}"
            )

    @property
    def warmup_steps(self) -> float:
        """Steps of rising rate, of a recipe whose iterations are known."""
        return self.warmup if self.warmup >= 1 else self.warmup * self.iterations


def stage1(model: ModelConfig | None = None) -> Recipe:
    """The paper's first stage: region-word alignment warmed up on one data set (section 4)."""
    return Recipe(
        model or preset("bl"),
        "focal",
        iterations=450_000,
        images_per_step=16 * 8,
        drops=(350_000, 420_000),
        save_every=1000,
        evaluate_every=5000,
    )


def stage2(model: ModelConfig | None = None, start: str = "") -> Recipe:
    """The paper's second stage: on from the first's head over several data sets (section 4).

    Words of V3Det and OpenImages are as rare as LVIS's, so images of rare words are repeated, with
    LVIS's threshold.
    """
    return replace(stage1(model), start=start, repeat_threshold=1e-3)


def mini(model: ModelConfig | None = None) -> Recipe:
    """The head of the preset `mini`: a softmax over the words of one small data set."""
    return Recipe(
        model or preset("mini"),
        "softmax",
        views=("flip",),
        epochs=6,
        learning_rate=4e-4,
        weight_decay=0.1,
        schedule="cosine",
        warmup=0.1,
        region_dropout=0.5,
        balance=0.3,
        label_smoothing=0.1,
        logit_scale=20.0,
        pull=4.0,
        teachers=3,
        teaching=0.9,
        saved_as="float16",
    )


def override(recipe: Recipe, settings: list[str]) -> Recipe:
    """A recipe with some settings changed, each written `name=value`.

    Settings inside the model are named by a path: `model.head.depth=6`. Numbers of a tuple are
    parted by commas.

    Raises:
        InputError: no such setting, or a value that is not of its type.
    """
    changed: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"a setting is written name=value, got {setting!r}")
        changed[name.strip()] = value.strip()
    # All at once, so that two settings that only fit together can be changed.
    return cast(Recipe, _override(recipe, changed, ""))


def _override(config: Any, changed: dict[str, str], where: str) -> Any:
    hints = get_type_hints(type(config))
    known = [field.name for field in fields(config)]
    values: dict[str, Any] = {}
    nested: dict[str, dict[str, str]] = {}
    for path, text in changed.items():
        name, _, rest = path.partition(".")
        if name not in known:
            raise InputError(
                f"there is no setting {where + path!r}; there are {', '.join(sorted(known))}"
            )
        inner = is_dataclass(getattr(config, name))
        if inner != bool(rest):
            kind = "a group, as in" if inner else "no group like"
            raise InputError(f"{where + name!r} is {kind} model.head.depth")
        if inner:
            nested.setdefault(name, {})[rest] = text
        else:
            values[name] = _parse(text, hints[name], where + name)
    for name, inside in nested.items():
        values[name] = _override(getattr(config, name), inside, f"{where}{name}.")
    return replace(config, **values)


def _parse(text: str, kind: Any, name: str) -> Any:
    """The value that a text stands for."""
    options = get_args(kind)
    if get_origin(kind) is Literal:
        if text in options:
            return text
        raise InputError(f"{name} must be one of {', '.join(options)}, got {text!r}")
    if get_origin(kind) is tuple:
        return tuple(_parse(part, options[0], name) for part in text.split(",") if part)
    if kind is bool:
        if text in ("true", "false"):
            return text == "true"
        raise InputError(f"{name} must be true or false, got {text!r}")
    if kind not in (int, float, str):
        raise InputError(f"{name} cannot be set from a text")
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"{name} must be of type {kind.__name__}, got {text!r}") from error


def as_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON's types, tuples as lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(recipe).items()
    }


def difference(recipe: Recipe, written: dict[str, Any]) -> str:
    """Where a recipe that was written as JSON differs from this one; empty where it does not."""
    now, then = _flat(as_json(recipe)), _flat(written)
    told = [
        f"{name} {then.get(name)!r}, now {now.get(name)!r}"
        for name in sorted(now.keys() | then.keys())
        if name not in FREE and now.get(name) != then.get(name)
    ]
    return "; ".join(told)


def _flat(values: dict[str, Any], where: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{where}{name}.")
        else:
            found[where + name] = list(value) if isinstance(value, tuple) else value
    return found
