"""Detection models of transformers: `hf:REPO`, or `hf:FOLDER` as `save_pretrained` writes it.

Zero-shot models (Grounding DINO, MM-Grounding-DINO, LLMDet, OWL-ViT, OWLv2, OmDet-Turbo) look for
the words of the vocabulary; of what they find only boxes and scores are used. All others (DETR,
RT-DETR, D-FINE, YOLOS, ...) have classes of their own.

Axes: N boxes of one image, E classes.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import SAFETENSORS_INDEX_FILE, SAFETENSORS_SINGLE_FILE
from PIL import Image
from torchvision.ops import box_convert

from integrations.detectors.base import MIN_SCORE, Detector, DetectorOptions, check_image, select
from regionspot.errors import InputError
from regionspot.types import ImageArray, Proposals

# Words of one prompt, where each word is a text of its own and only memory limits their number.
MAX_QUERIES = 100
_SPECIAL_TOKENS = 2  # of the beginning and the end of a prompt


def build_hugging_face(options: DetectorOptions) -> Detector:
    """The model of a repository or folder; nothing is unpickled, and no code of it is run.

    Raises:
        InputError: it cannot be loaded, is no detection model, or has no words to look for.
    """
    import transformers as hf

    name = options.argument
    processors: Any = hf.AutoProcessor
    image_processors: Any = hf.AutoImageProcessor
    try:
        config = hf.AutoConfig.from_pretrained(name)
        if type(config) in hf.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING:
            model = hf.AutoModelForZeroShotObjectDetection.from_pretrained(
                name, use_safetensors=True
            )
            return ZeroShotDetector(model, processors.from_pretrained(name), options)
        if type(config) in hf.MODEL_FOR_OBJECT_DETECTION_MAPPING:
            model = hf.AutoModelForObjectDetection.from_pretrained(name, use_safetensors=True)
            processor = image_processors.from_pretrained(name)
            return ClosedSetDetector(model, processor, options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"--detector hf:{name} cannot be loaded: {reason:.300}; where there is no network, "
            "give the folder of a downloaded model with model.safetensors"
        ) from error
    raise InputError(
        f"--detector hf:{name} is a {config.model_type} and no detection model; give one of "
        "transformers' object detection or zero-shot object detection"
    )


def hugging_face_files(name: str) -> list[Path]:
    """The files of weights of a folder, or of a repository's snapshot that is in the cache."""
    for single in (SAFETENSORS_SINGLE_FILE, SAFETENSORS_INDEX_FILE):
        found = Path(name) / single
        if not Path(name).is_dir():
            cached = try_to_load_from_cache(name, single)
            found = Path(cached) if isinstance(cached, str) else found
        if found.is_file():
            return [found] if single == SAFETENSORS_SINGLE_FILE else _parts(found)
    return []


def _parts(index: Path) -> list[Path]:
    """The files that an index of sharded weights names, and the index itself."""
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return [index, *(index.parent / each for each in sorted(names))]


class ZeroShotDetector:
    """A model that looks for words; it gets them in as many prompts as they need."""

    def __init__(self, model: Any, processor: Any, options: DetectorOptions) -> None:
        """Wrap a model.

        Args:
            model: of `AutoModelForZeroShotObjectDetection`.
            processor: of the model.
            options: words, limits and device.

        Raises:
            InputError: there are no words, or one alone is longer than a prompt may be.
        """
        self.name = f"hf:{options.argument}"
        self.options = options
        self.model = model.to(options.device).eval().requires_grad_(False)
        self.processor = processor
        self.min_score = MIN_SCORE if options.min_score is None else options.min_score
        words = tuple(dict.fromkeys(options.words))
        if not words:
            raise InputError(f"the detector {self.name} looks for words, and there are none")
        # Grounding DINO and its kin read one text with all words of a prompt.
        self.joins_words = hasattr(model.config, "max_text_len")
        self.prompts = tuple(
            self._joined_prompts(words)
            if self.joins_words
            else (words[n : n + MAX_QUERIES] for n in range(0, len(words), MAX_QUERIES))
        )

    def _joined_prompts(self, words: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """The words, none left out, in groups whose text has no more tokens than are read."""
        tokenizer = self.processor.tokenizer
        limit = min(self.model.config.max_text_len, tokenizer.model_max_length) - _SPECIAL_TOKENS
        group: list[str] = []
        used = 0
        for word in words:
            tokens = len(tokenizer(_phrase(word), add_special_tokens=False)["input_ids"])
            if tokens > limit:
                raise InputError(
                    f"the detector {self.name} reads {limit} tokens, and {word!r:.60} has "
                    f"{tokens}; shorten it"
                )
            if used + tokens > limit:
                yield tuple(group)
                group, used = [], 0
            group.append(word)
            used += tokens
        yield tuple(group)

    @torch.inference_mode()
    def detect(self, image: ImageArray) -> Proposals:
        """See `Detector.detect`."""
        size = check_image(image)
        found = Proposals.joined([self._look_for(words, image) for words in self.prompts])
        return select(found, size, self.options.nms_iou, self.options.max_boxes)

    def _look_for(self, words: Sequence[str], image: ImageArray) -> Proposals:
        if self.joins_words:
            inputs = self.processor(
                images=[Image.fromarray(image)],
                text=[" ".join(map(_phrase, words))],
                return_tensors="pt",
            )
        else:
            inputs = self.processor(
                images=[Image.fromarray(image)],
                text=[list(words)],
                return_tensors="pt",
                padding="max_length",
                truncation=True,
            )
        outputs = self.model(**inputs.to(self.options.device))
        (found,) = self.processor.post_process_grounded_object_detection(
            outputs, threshold=self.min_score, target_sizes=[image.shape[:2]]
        )
        return Proposals(found["boxes"].cpu().numpy(), found["scores"].cpu().numpy())


def _phrase(word: str) -> str:
    """A word as a prompt of several has it: a full stop ends it, so that none is inside."""
    return " ".join(word.lower().replace(".", " ").split()) + "."


class ClosedSetDetector:
    """A model with classes of its own; a box's score is its highest class score."""

    def __init__(self, model: Any, processor: Any, options: DetectorOptions) -> None:
        """Wrap a model.

        Args:
            model: of `AutoModelForObjectDetection`.
            processor: of its images.
            options: limits and device.
        """
        self.name = f"hf:{options.argument}"
        self.options = options
        self.model = model.to(options.device).eval().requires_grad_(False)
        self.processor = processor
        self.min_score = MIN_SCORE if options.min_score is None else options.min_score
        names = model.config.id2label
        self.class_names = tuple(str(names[row]) for row in sorted(names))

    @torch.inference_mode()
    def detect(self, image: ImageArray) -> Proposals:
        """See `Detector.detect`."""
        height, width = check_image(image)
        inputs = self.processor(images=[Image.fromarray(image)], return_tensors="pt").to(
            self.options.device
        )
        outputs = self.model(**inputs)
        by_class = self._class_scores(outputs.logits[0]).cpu().numpy()  # (N, E)
        # Centre, width and height in parts of the image's sides.
        boxes = box_convert(outputs.pred_boxes[0].float(), "cxcywh", "xyxy").cpu().numpy()
        sides = np.array([width, height] * 2, np.float32)
        score = by_class.max(axis=1)
        found = Proposals(boxes * sides, score, (), self.class_names, by_class)
        return select(
            found[score > self.min_score],
            (height, width),
            self.options.nms_iou,
            self.options.max_boxes,
        )

    def _class_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores (N, E) of logits (N, E), or of (N, E + 1) whose last column is "no object"."""
        E = len(self.class_names)
        if logits.shape[1] == E:
            return logits.float().sigmoid()
        return logits.float().softmax(-1)[:, :E]
