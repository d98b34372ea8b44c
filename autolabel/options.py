"""Every choice of a run and its default, in one place.

The command line reads its defaults here, so this imports nothing that takes long.
"""

from dataclasses import dataclass

LABEL_FIELD = "predictions"
RUNS_FOLDER = "runs"

# A label goes to the view "needs review" where either is below; else to "confident".
REVIEW_CONFIDENCE = 0.5
REVIEW_MARGIN = 0.2

CONTACT_SHEET_IMAGES = 12


@dataclass(frozen=True)
class Options:
    """What decides the content of a run folder, besides the dataset and the words.

    Attributes:
        model: a preset's name.
        detector: a detector's name; empty for the preset's own.
        conf_threshold: labels of a lower confidence (detector's score times the word's share) are
            dropped; in [0, 1].
        presence_threshold: labels whose word is less likely present, judged without regard to the
            other words, are dropped; in [0, 1].
        iou: of two labels whose boxes overlap by more, whatever their words, the less confident
            is dropped; in [0, 1].
        max_boxes: boxes an image that are given to the model, best first.
        masks: whether each label gets a mask.
        batch_size: images that the model works on at once.
        shard_size: images to a file of regions; a killed run loses this many at most.
        device: `auto`, `cpu` or `cuda`.
        checkpoint: absolute path of a head; empty for the model's own.
    """

    model: str = "mini"
    detector: str = ""
    conf_threshold: float = 0.3
    presence_threshold: float = 0.1
    iou: float = 0.5
    max_boxes: int = 100
    masks: bool = True
    batch_size: int = 4
    shard_size: int = 32
    device: str = "auto"
    checkpoint: str = ""

    def check(self) -> None:
        """Refuse values that make no sense.

        Raises:
            InputError: the message names the option as the command line does.
        """
        from regionspot.device import DEVICES
        from regionspot.errors import InputError

        for name in ("conf_threshold", "presence_threshold", "iou"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(f"{_flag(name)} must be from 0 to 1, got {value}")
        for name in ("max_boxes", "batch_size", "shard_size"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"{_flag(name)} must be 1 or more, got {value}")
        if self.device not in DEVICES:
            raise InputError(f"--device must be one of {', '.join(DEVICES)}, got {self.device!r}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
