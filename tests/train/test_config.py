"""Recipes, and what can be changed of them from the command line."""

import json

import pytest

from regionspot.errors import InputError
from train.config import (
    FinetuneConfig,
    Recipe,
    as_json,
    difference,
    mini,
    override,
    stage1,
    stage2,
)


def test_stages_have_the_papers_settings() -> None:
    for recipe in (stage1(), stage2()):
        assert (recipe.loss, recipe.focal_alpha, recipe.focal_gamma) == ("focal", 0.25, 2)
        assert (recipe.learning_rate, recipe.weight_decay) == (2.5e-5, 1e-4)
        assert (recipe.iterations, recipe.drops) == (450_000, (350_000, 420_000))
        assert (recipe.warmup_steps, recipe.gradient_norm) == (1000, 1.0)
        assert recipe.images_per_step == 128
        assert recipe.model.name == "bl"


def test_settings_are_changed_by_name() -> None:
    changes = ["learning_rate=1e-4", "drops=5,7", "loss=softmax", "model.head.depth=6"]
    recipe = override(stage1(), [*changes, "model.head.class_token=false", "iterations=10"])
    assert (recipe.learning_rate, recipe.drops, recipe.iterations) == (1e-4, (5, 7), 10)
    assert (recipe.model.head.depth, recipe.model.head.class_token) == (6, False)
    assert override(mini(), ["epochs=0", "iterations=5"]).iterations == 5


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rate", "written name=value, got 'learning_rate'"),
        ("rate=1", "no setting 'rate'; there are accumulate, balance"),
        ("model.head.dept=1", "no setting 'model.head.dept'; there are class_token"),
        ("iterations=1e3", "iterations must be of type int, got '1e3'"),
        ("model.head.class_token=no", "model.head.class_token must be true or false, got 'no'"),
        ("loss=hinge", "loss must be one of focal, softmax, got 'hinge'"),
        ("drops=5,x", "drops must be of type int, got 'x'"),
        ("model=mini", "'model' is a group, as in model.head.depth"),
        ("seed.x=1", "'seed' is no group like model.head.depth"),
        ("accumulate=0", "accumulate must be at least 1, got 0"),
        ("ema=1", "ema must be in .0, 1., got 1.0"),
        ("epochs=1", "either iterations or epochs must be above 0"),
        ("teachers=1", "must be 0 with the focal loss, .* got 1 with the focal loss"),
        ("distill_weight=1", "distill_weight must be in .0, 1., got 1.0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        override(stage1(), [setting])


def test_a_recipe_differs_from_what_was_written_where_weights_depend_on_it() -> None:
    written = json.loads(json.dumps(as_json(stage1())))
    assert not difference(stage1(), written)
    other = override(stage1(), ["model.head.depth=1", "save_every=3", "drops=1"])
    assert (
        difference(other, written) == "drops [350000, 420000], now [1]; model.head.depth 3, now 1"
    )


def test_a_recipe_is_typed() -> None:
    with pytest.raises(TypeError):
        Recipe(stage1().model)  # type: ignore[call-arg]


def test_settings_of_fine_tuning_are_checked_too() -> None:
    with pytest.raises(InputError, match="images_per_step must be at least 1, got 0"):
        FinetuneConfig(images_per_step=0)
