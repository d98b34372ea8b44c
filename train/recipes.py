"""What to train and how: functions that return typed configurations."""

from dataclasses import dataclass

from regionspot.presets import ModelConfig, preset


@dataclass(frozen=True)
class Recipe:
    """Settings of one training.

    Attributes:
        held_out: share of the training images that only the scores are calibrated on.
        images_per_step: images in a batch.
        warmup: share of the steps in which the learning rate rises; it then falls as a cosine.
        region_dropout: the largest share of an image's regions left out of a step, so that the
            head does not come to need the complete set of boxes.
        label_smoothing: of the cross-entropy over the vocabulary.
        balance: a word's weight in the loss is its count to the power of minus this.
        logit_scale: what cosines are multiplied with before the softmax.
    """

    model: ModelConfig
    seed: int = 0
    held_out: float = 0.05
    epochs: int = 8
    images_per_step: int = 16
    learning_rate: float = 4e-4
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    warmup: float = 0.1
    region_dropout: float = 0.5
    label_smoothing: float = 0.1
    balance: float = 0.3
    logit_scale: float = 20.0


def mini() -> Recipe:
    """The head of the preset `mini`: contrastive over the words of one small data set."""
    return Recipe(preset("mini"))
