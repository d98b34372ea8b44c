"""Settings of trainings: functions that return typed configurations."""

from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from regionspot.config import ModelConfig, preset
from regionspot.errors import InputError

# May change when a training is resumed: the weights do not depend on them.
FREE = ("save_every", "evaluate_every")
AT_LEAST_ONE = ("images_per_step", "accumulate", "save_every", "teacher_epochs")
FRACTIONS = (
    "held_out",
    "ema",
    "region_dropout",
    "label_smoothing",
    "focal_alpha",
    "distill_weight",
)


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What the training loop needs, for any data and loss.

    A step is one update of the weights; images are counted over all processes.

    Attributes:
        held_out: fraction of the images that are not trained on.
        iterations: number of steps; 0 for as many as `epochs` passes over the images take.
        images_per_step: batch size of a step.
        gradient_norm: gradients are clipped to this L2 norm.
        schedule: `steps` divides the learning rate by 10 at each of `drops`, `cosine` decays it
            to 0.
        warmup: steps of linear warm-up of the learning rate; below 1, a fraction of all steps.
        ema: decay of the exponential moving average of the weights, which is kept in place of the
            last weights; 0 for none.
        balance: a class's weight in the loss is its number of regions to the power of minus this.
        label_smoothing: of the softmax cross-entropy.
        save_every: steps between two checkpoints of the training.
        evaluate_every: steps between two evaluations; 0 for one a pass.
    """

    seed: int = 0
    held_out: float = 0.05
    iterations: int = 0
    epochs: int = 0
    images_per_step: int = 16
    learning_rate: float = 2.5e-5
    weight_decay: float = 1e-4
    gradient_norm: float = 1.0
    schedule: Literal["steps", "cosine"] = "steps"
    warmup: float = 1000
    drops: tuple[int, ...] = ()
    ema: float = 0.0
    balance: float = 0.0
    label_smoothing: float = 0.0
    save_every: int = 500
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        if (self.iterations > 0) == (self.epochs > 0):
            raise InputError(
                "either iterations or epochs must be above 0 and the other 0, "
                f"got {self.iterations} and {self.epochs}"
            )
        for name, value in vars(self).items():
            if name in AT_LEAST_ONE and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
            if name in FRACTIONS and not 0 <= value < 1:
                raise InputError(f"{name} must be in [0, 1), got {value}")

    @property
    def warmup_steps(self) -> float:
        """Steps of warm-up; `iterations` must be known."""
        return self.warmup if self.warmup >= 1 else self.warmup * self.iterations


@dataclass(frozen=True)
class Recipe(LoopConfig):
    """Settings of one training of a head on annotated data sets.

    Attributes:
        loss: sigmoid focal loss, as in the paper, or softmax cross-entropy over the classes.
        start: checkpoint of the head to start from; empty for randomly initialised weights.
        views: augmented views of each image beside the original (`train.features.augment`):
            `flip`, `scale=0.75`; comma-separated in `--set`.
        accumulate: micro-batches in which a process computes its images of a step.
        precision: of the head's matrix products; `auto` is bfloat16 where the device is fast at it.
        region_dropout: largest fraction of an image's regions left out of a step, so that the
            head does not rely on the complete set of boxes.
        repeat_threshold: t of repeat-factor sampling; 0 shows each image once a pass.
        logit_scale: factor from cosines to logits.
        cosine_weight: weight of the cosine-distance term (1 - cos to the target class) added to
            cross-entropy.
        focal_alpha, focal_gamma: of the focal loss.
        teachers: number of heads trained first with other seeds, whose mean embedding is
            distilled into the head; for the softmax loss alone.
        teacher_epochs: passes over the images for each teacher.
        distill_weight: weight of the distillation loss; that of the labels' loss is 1 minus it.
        distill_cosine_weight: weight of the cosine distance to the teacher embedding, added to
            the cross-entropy with the teachers' class probabilities.
        saved_as: precision of the checkpoint's numbers.
    """

    model: ModelConfig
    loss: Literal["focal", "softmax"]
    start: str = ""
    views: tuple[str, ...] = ()
    accumulate: int = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    region_dropout: float = 0.0
    repeat_threshold: float = 0.0
    logit_scale: float = 100.0
    cosine_weight: float = 0.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    teachers: int = 0
    teacher_epochs: int = 4
    distill_weight: float = 0.5
    distill_cosine_weight: float = 8.0
    saved_as: Literal["float16", "float32"] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teachers < 0 or (self.teachers and self.loss != "softmax"):
            raise InputError(
                "teachers must be 0 with the focal loss, and 0 or more with the softmax, "
                f"got {self.teachers} with the {self.loss} loss"
            )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(LoopConfig):
    """Settings of fine-tuning a head on a review.

    Attributes:
        epochs: passes over the reviewed images.
        images_per_step: images of the review, and of each other set, in a step.
        min_iterations: steps at least, for reviews of few images.
        anchor_weight: weight of the cosine distance to the initial head's embeddings.
        kl_weight: weight of the KL divergence from the initial head's class probabilities, in
            fine-tuning the head.
        background_weight: weight of the loss of regions in images verified to be empty.
        kl_weight_unseen: weight of the KL divergence from the previous class probabilities, in
            extending the adapter for unseen classes.
        min_corrected_images: with fewer corrected images, none is held out and accuracy is that
            on the training images.
    """

    epochs: int = 20
    images_per_step: int = 8
    min_iterations: int = 100
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    schedule: Literal["steps", "cosine"] = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.1
    balance: float = 0.5
    anchor_weight: float = 10.0
    kl_weight: float = 10.0
    background_weight: float = 1.0
    kl_weight_unseen: float = 1.0
    held_out: float = 0.25
    min_corrected_images: int = 8


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
    """The paper's second stage: from the first stage's head, on several data sets (section 4).

    V3Det and OpenImages have classes as rare as LVIS, so images of rare classes are repeated with
    LVIS's threshold.
    """
    return replace(stage1(model), start=start, repeat_threshold=1e-3)


def mini(model: ModelConfig | None = None) -> Recipe:
    """The head of the preset `mini`: softmax over the classes of one small data set."""
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
        cosine_weight=4.0,
        teachers=3,
        distill_weight=0.9,
        saved_as="float16",
    )


def override(recipe: Recipe, settings: list[str]) -> Recipe:
    """A recipe with some settings changed, each written `name=value`.

    Settings of the model are named by a path: `model.head.depth=6`. Values of a tuple are
    separated by commas. No configuration library: this much keeps errors to one line.

    Raises:
        InputError: no such setting, or a value that is not of its type.
    """
    changed: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"a setting is written name=value, got {setting!r}")
        changed[name.strip()] = value.strip()
    # All at once, so that two settings that depend on each other can be changed.
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


def as_json(config: LoopConfig) -> dict[str, Any]:
    """A configuration in JSON's types, tuples as lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(config).items()
    }


def difference(config: LoopConfig, written: dict[str, Any]) -> str:
    """Where a configuration differs from one written as JSON; empty where it does not."""
    now, then = _flat(as_json(config)), _flat(written)
    changed = [
        f"{name} {then.get(name)!r}, now {now.get(name)!r}"
        for name in sorted(now.keys() | then.keys())
        if name not in FREE and now.get(name) != then.get(name)
    ]
    return "; ".join(changed)


def _flat(values: dict[str, Any], where: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{where}{name}.")
        else:
            found[where + name] = list(value) if isinstance(value, tuple) else value
    return found
