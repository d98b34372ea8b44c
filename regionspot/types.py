"""What crosses package borders: frozen dataclasses, checked when they are made.

Axes: B images, N regions, L map tokens, T token width, K words, C map width, D text width,
M classes of the encoder's own classifier, E classes of a detector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as coco_mask

from regionspot.boxes import FloatArray, as_boxes
from regionspot.errors import InputError

IntArray = npt.NDArray[np.int64]
ImageArray = npt.NDArray[np.uint8]  # (H, W, 3) RGB
Pixels = ImageArray | torch.Tensor  # likewise; a tensor may lie on any device


class Rle(TypedDict):
    """A binary mask as COCO's compressed run lengths."""

    size: list[int]
    counts: str


def encode_mask(mask: npt.NDArray[np.bool_]) -> Rle:
    """Run lengths of a mask (H, W)."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return Rle(size=[int(side) for side in rle["size"]], counts=rle["counts"].decode("ascii"))


def encode_window(
    window: npt.NDArray[np.bool_], left: int, top: int, width: int, height: int
) -> Rle:
    """Run lengths of a mask (height, width) that is false outside of a window.

    The time depends on the window, and not on the image.

    Args:
        window: (h, w) of the mask.
        left: first column of the window in the image.
        top: first row of the window in the image.
        width: of the image, in pixels.
        height: of the image, in pixels.
    """
    # Run lengths go down the columns: (h, w) to (w, h), between two zeros each.
    steps = np.diff(np.pad(window.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)  # (w, h + 1)
    starts, ends = (
        (column + left) * height + row + top
        for column, row in (np.nonzero(steps == 1), np.nonzero(steps == -1))
    )
    # Two runs are one where the first ends at the foot of a column.
    apart = starts[1:] != ends[:-1]
    starts, ends = (
        starts[np.append(True, apart)[: len(starts)]],
        ends[np.append(apart, True)[: len(ends)]],
    )
    edges = np.stack([starts, ends], axis=1).ravel()  # (runs, 2) to (2 runs,)
    counts = np.diff(edges, prepend=0, append=width * height)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]  # as pycocotools ends a mask that reaches the last pixel
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return Rle(size=[height, width], counts=rle["counts"].decode("ascii"))


def decode_mask(rle: Rle) -> npt.NDArray[np.bool_]:
    """The mask (H, W) of run lengths."""
    return np.asarray(
        coco_mask.decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")}), np.bool_
    )


def _check_rows(name: str, values: npt.NDArray[np.generic], rows: int) -> None:
    if values.shape != (rows,):
        raise InputError(f"{name} must be ({rows},), one for each box, got {values.shape}")


@dataclass(frozen=True)
class Proposals:
    """Boxes that may hold an object.

    Attributes:
        boxes: (N, 4) float32 xyxy pixels of the original image.
        score: (N,) float32 in [0, 1], the detector's confidence that there is any object.
        ids: N ids of the boxes that were given, or empty where a detector found them.
        class_names: E names of the detector's own classes, or empty where it names none.
        class_scores: (N, E) float32 in [0, 1], the detector's confidence that there is an object of
            the class; NaN where the detector of a box does not name the class. None: no classes.
    """

    boxes: FloatArray
    score: FloatArray
    ids: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    class_scores: FloatArray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", as_boxes(self.boxes))
        object.__setattr__(self, "score", np.asarray(self.score, np.float32))
        _check_rows("score", self.score, len(self.boxes))
        if len(self.ids) not in (0, len(self.boxes)):
            raise InputError(
                f"expected {len(self.boxes)} ids, one for each box, got {len(self.ids)}"
            )
        if self.class_scores is None:
            if self.class_names:
                raise InputError("class_names are given without class_scores; give both")
            return
        scores = np.asarray(self.class_scores, np.float32)
        object.__setattr__(self, "class_scores", scores)
        if scores.shape != (expected := (len(self.boxes), len(self.class_names))):
            raise InputError(
                f"class_scores must be {expected}, boxes by class_names, got {scores.shape}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: npt.ArrayLike) -> "Proposals":
        """Some rows, in the order of the indices (M,) or where a boolean mask (N,) is true."""
        index = np.arange(len(self))[np.asarray(rows)]
        return replace(
            self,
            boxes=self.boxes[index],
            score=self.score[index],
            ids=tuple(self.ids[row] for row in index.tolist()) if self.ids else (),
            class_scores=None if self.class_scores is None else self.class_scores[index],
        )

    @classmethod
    def joined(cls, parts: Sequence["Proposals"]) -> "Proposals":
        """The boxes of several detectors one after another, without ids.

        The classes are those of all; a class is NaN in the rows of a detector that does not name
        it.

        Args:
            parts: of one image, at least one.
        """
        names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
        column = {name: index for index, name in enumerate(names)}
        scores = np.full((sum(map(len, parts)), len(names)), np.nan, np.float32)  # (N, E)
        start = 0
        for part in parts:
            if part.class_scores is not None:
                columns = [column[name] for name in part.class_names]
                scores[start : start + len(part), columns] = part.class_scores
            start += len(part)
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.score for part in parts]),
            class_names=names,
            class_scores=scores if names else None,
        )


@dataclass(frozen=True)
class ImageEmbedding:
    """The localizer's features of one image.

    Attributes:
        features: (256, 64, 64).
        width, height: of the original image, in pixels.
        input_width, input_height: of the resized image inside the padded square, in pixels.
    """

    features: torch.Tensor
    width: int
    height: int
    input_width: int
    input_height: int


@dataclass(frozen=True)
class RegionTokens:
    """The localizer's output for the boxes of one image.

    Attributes:
        tokens: (N, T) position-aware tokens; T is 256, or 32 for those of the mask MLP.
        mask_logits: (N, h, w) low-resolution mask logits over the padded square, or None.
        mask_iou: (N,) the localizer's own estimate of each mask's IoU, or None.
    """

    tokens: torch.Tensor
    mask_logits: torch.Tensor | None = None
    mask_iou: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2:
            raise InputError(f"tokens must be (N, T), got {tuple(self.tokens.shape)}")


@dataclass(frozen=True)
class ImageTokens:
    """The semantic map of one whole image, resized to a square without cropping.

    Attributes:
        class_token: (C,) the token of the whole image.
        map: (C, h, w) the spatial tokens, row by row.
        finer: maps (C, h', w') of larger inputs, for pooling small boxes; the head does not get
            them.
    """

    class_token: torch.Tensor
    map: torch.Tensor
    finer: tuple[torch.Tensor, ...] = ()

    def __post_init__(self) -> None:
        if self.map.ndim != 3 or self.class_token.shape != self.map.shape[:1]:
            raise InputError(
                "expected class_token (C,) and map (C, h, w), got "
                f"{tuple(self.class_token.shape)} and {tuple(self.map.shape)}"
            )

    def sequence(self) -> torch.Tensor:
        """(L, C): the class token, then the map row by row; L = 1 + h w."""
        return torch.cat([self.class_token[None], self.map.flatten(1).T])


@dataclass(frozen=True)
class ScoreCalibration:
    """How scores become probabilities.

    Attributes:
        logit_scale: of the softmax over the vocabulary (paper, equation 3).
        presence_scale, presence_bias: of the sigmoid of a single score (Platt scaling).
    """

    logit_scale: float
    presence_scale: float
    presence_bias: float

    @classmethod
    def of_encoder(cls, logit_scale: float, logit_bias: float = 0.0) -> "ScoreCalibration":
        """The paper's: the encoder's logit scale, also in the sigmoid of the focal loss."""
        return cls(logit_scale, logit_scale, logit_bias)


@dataclass(frozen=True)
class ZeroShotClasses:
    """How the classes of a vocabulary are scored by the encoder's own classifier.

    Attributes:
        novelty: (K,) in [0, 1]: 0 for a class that the head was trained on, 1 for one far from all.
        mixture: (K, M) weights of the encoder's classes in each class's synthesized row.
        seen: (S, D) L2-normalised embeddings of the classes that the head was trained on.
    """

    novelty: torch.Tensor
    mixture: torch.Tensor
    seen: torch.Tensor


@dataclass(frozen=True)
class ExampleDiscriminants:
    """How the classes with examples are told apart; rows of zeros for classes without.

    Attributes:
        embedding_centre: (D,) subtracted from unit region embeddings, before they are normalised
            again.
        logits_centre: (M,) likewise of class logits; (0,) without.
        embedding: (K, D) multiplied with these embeddings.
        logits: (K, M) multiplied with these class logits; (K, 0) without.
        bias: (K,) added to the logit.
        text_weight: (K,) of the text's score, less its mean over the classes of a weight.
    """

    embedding_centre: torch.Tensor
    logits_centre: torch.Tensor
    embedding: torch.Tensor
    logits: torch.Tensor
    bias: torch.Tensor
    text_weight: torch.Tensor


@dataclass(frozen=True)
class ExampleClasses:
    """How the classes of a vocabulary are scored by example regions; a row of zeros: not at all.

    Attributes:
        text_weight: (K,) of the text's score: 1 without examples, 0 without text.
        embedding: (K, D) weighted prototypes, multiplied with unit region embeddings.
        logits: (K, M) weighted prototypes, multiplied with unit class logits; (K, 0) without.
        bias: (K,) added to the score.
        has_examples: (K,) bool.
        discriminants: among the classes with examples; None where there are fewer than two.
    """

    text_weight: torch.Tensor
    embedding: torch.Tensor
    logits: torch.Tensor
    bias: torch.Tensor
    has_examples: torch.Tensor
    discriminants: ExampleDiscriminants | None = None

    def only(self, rows: Sequence[int]) -> "ExampleClasses":
        """Some of the classes, in the order given."""
        kept = list(rows)
        among = self.discriminants
        if among is not None:
            among = replace(
                among,
                embedding=among.embedding[kept],
                logits=among.logits[kept],
                bias=among.bias[kept],
                text_weight=among.text_weight[kept],
            )
        return ExampleClasses(
            self.text_weight[kept],
            self.embedding[kept],
            self.logits[kept],
            self.bias[kept],
            self.has_examples[kept],
            among,
        )


@dataclass(frozen=True)
class Vocabulary:
    """Words and their embeddings.

    Attributes:
        names: K words, in the person's order.
        embedding: (K, D) float32, L2-normalised.
        synonyms: for each name, all the strings that were averaged into it.
        zero_shot: for a model that scores unseen classes in another way than seen ones.
        examples: where some of the words have example regions.
        bank: nouns that the words are compared with for their presence, where the model has a
            zero-shot classifier.
    """

    names: tuple[str, ...]
    embedding: torch.Tensor
    synonyms: tuple[tuple[str, ...], ...] = ()
    zero_shot: ZeroShotClasses | None = None
    examples: ExampleClasses | None = None
    bank: "NounBank | None" = None

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("the vocabulary is empty: give at least one word")
        if self.embedding.ndim != 2 or len(self.embedding) != len(self.names):
            raise InputError(
                f"embedding must be ({len(self.names)}, D), got {tuple(self.embedding.shape)}"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def strings(self) -> tuple[tuple[str, ...], ...]:
        """Of each word its name, and after it all the strings that were averaged into it."""
        groups = self.synonyms or ((),) * len(self.names)
        return tuple((name, *group) for name, group in zip(self.names, groups, strict=True))

    def only(self, names: Sequence[str]) -> "Vocabulary":
        """Some of the words, in the order given."""
        row = {name: k for k, name in enumerate(self.names)}
        kept = [row[name] for name in names]
        zero_shot = self.zero_shot
        if zero_shot:
            zero_shot = replace(
                zero_shot, novelty=zero_shot.novelty[kept], mixture=zero_shot.mixture[kept]
            )
        synonyms = tuple(self.synonyms[k] for k in kept) if self.synonyms else ()
        examples = self.examples.only(kept) if self.examples else None
        bank = self.bank.only(kept) if self.bank else None
        return Vocabulary(tuple(names), self.embedding[kept], synonyms, zero_shot, examples, bank)


@dataclass(frozen=True)
class NounBank:
    """Common nouns that the words of a vocabulary are compared with.

    Attributes:
        nouns: B of them, embedded.
        kinds: (K, B) 1 where a noun is a kind of a word, or the word itself; 0 elsewhere.
        against: (K, B) 1 where a noun is evidence against a word; 0 elsewhere.
    """

    nouns: Vocabulary
    kinds: torch.Tensor
    against: torch.Tensor

    def only(self, rows: Sequence[int]) -> "NounBank":
        """For some of the words, in the order given."""
        kept = list(rows)
        return replace(self, kinds=self.kinds[kept], against=self.against[kept])


@dataclass(frozen=True)
class Labels:
    """One row a box, in the order of the boxes.

    Attributes:
        boxes: (N, 4) float32 xyxy pixels of the original image.
        class_id: (N,) index of the best word in the vocabulary.
        score: (N,) float32 in [0, 1]: the best word's softmax probability over the vocabulary.
        runner_up: (N,) index of the second-best word; the best one where there is only one word.
        margin: (N,) float32, probability of the best minus that of the second-best word.
        presence: (N,) float32 in [0, 1]: probability that the box shows the best word, which does
            not depend on the other words of the vocabulary.
        names: the vocabulary's words.
        masks: N run-length masks of the image's size, or empty where none were asked for.
        mask_iou: (N,) the localizer's estimate of each mask's IoU, or empty.
    """

    boxes: FloatArray
    class_id: IntArray
    score: FloatArray
    runner_up: IntArray
    margin: FloatArray
    presence: FloatArray
    names: tuple[str, ...]
    masks: tuple[Rle, ...] = ()
    mask_iou: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", as_boxes(self.boxes))
        for name in ("class_id", "score", "runner_up", "margin", "presence"):
            _check_rows(name, getattr(self, name), len(self.boxes))
        if self.masks and len(self.masks) != len(self.boxes):
            raise InputError(f"expected {len(self.boxes)} masks, got {len(self.masks)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: npt.ArrayLike) -> "Labels":
        """Some rows, in the order of the indices (M,) or where a boolean mask (N,) is true."""
        index = np.arange(len(self))[np.asarray(rows)]
        return replace(
            self,
            boxes=self.boxes[index],
            class_id=self.class_id[index],
            score=self.score[index],
            runner_up=self.runner_up[index],
            margin=self.margin[index],
            presence=self.presence[index],
            masks=tuple(self.masks[row] for row in index.tolist()) if self.masks else (),
            mask_iou=self.mask_iou[index] if len(self.mask_iou) else self.mask_iou,
        )

    def name(self, row: int) -> str:
        """The best word of a row."""
        return self.names[int(self.class_id[row])]


@dataclass(frozen=True)
class Regions:
    """The model's output for the boxes of one image, which does not depend on any vocabulary.

    Attributes:
        embedding: (N, D) float32 of any length; it is compared with words by its cosine.
        masks: N run-length masks of the image's size, or empty where none were asked for.
        mask_iou: (N,) the localizer's estimate of each mask's IoU, or empty.
        class_logits: (N, M) of the encoder's own classifier, on the adapted features of the boxes;
            None where the model scores all classes by their embeddings alone.
    """

    embedding: torch.Tensor
    masks: tuple[Rle, ...] = ()
    mask_iou: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    class_logits: torch.Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence["Regions"]) -> "Regions":
        """The rows of several, at least one, without their masks."""
        logits = [each.class_logits for each in parts if each.class_logits is not None]
        return cls(
            torch.cat([each.embedding for each in parts]),
            class_logits=torch.cat(logits) if len(logits) == len(parts) else None,
        )

    def select(self, rows: Sequence[int]) -> "Regions":
        """The regions of some rows, without their masks."""
        logits = self.class_logits
        index = list(rows)
        return Regions(
            self.embedding[index], class_logits=None if logits is None else logits[index]
        )
