"""The whole model: localizer, encoder and head, from an image and boxes to labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from regionspot.boxes import FloatArray
from regionspot.checkpoint import TrainedHead, load_head
from regionspot.classifier import checked_batch, label_regions
from regionspot.config import EncoderConfig, ModelConfig, preset
from regionspot.device import fast_dtype, resolve_device
from regionspot.encoders import VisionLanguageEncoder
from regionspot.encoders.mini import ImagenetMiniLm
from regionspot.errors import InputError
from regionspot.head import RegionHead
from regionspot.localizers.sam import SamLocalizer, build_sam, run_length_masks
from regionspot.scoring import Scoring
from regionspot.types import (
    ImageArray,
    ImageEmbedding,
    ImageTokens,
    Labels,
    Regions,
    RegionTokens,
    Vocabulary,
)
from regionspot.vocabulary import Words, build_vocabulary
from regionspot.weights import cache_folder, sha256_by_preset, sha256_of
from regionspot.zero_shot import UnseenWords, looks_of, widened

SHIPPED = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class RegionSpot:
    """A frozen localizer, a frozen encoder and the trained head between them.

    Attributes:
        device, dtype: where the head runs, and the precision of the towers' large products.
        checkpoint: the file of the head, or None for a head that was made here.
        unseen: how words that the head was not trained on are scored; None: as all others.
    """

    config: ModelConfig
    localizer: SamLocalizer
    encoder: VisionLanguageEncoder
    head: RegionHead
    scoring: Scoring
    device: torch.device
    dtype: torch.dtype
    checkpoint: Path | None = None
    unseen: UnseenWords | None = None

    @property
    def region_width(self) -> int:
        """Width of the region embeddings, and of the words of `vocabulary`."""
        return self.config.head.text_width + (self.unseen.width if self.unseen else 0)

    def vocabulary(self, words: Words) -> Vocabulary:
        """Embed words, or words with their synonyms, for this model.

        Raises:
            InputError: no words, an empty word, or the same word twice.
        """
        vocabulary = build_vocabulary(self.encoder, words, self.config.encoder.templates)
        return widened(vocabulary, self.unseen)

    def predict(
        self, image: ImageArray, boxes: FloatArray, vocabulary: Vocabulary, masks: bool = False
    ) -> Labels:
        """Label given boxes of one image.

        Args:
            image: uint8 (H, W, 3) RGB.
            boxes: float32 (N, 4) xyxy pixels of that image.

        Returns:
            One row a box, in the order of the boxes.

        Raises:
            InputError: an image or boxes that cannot be used; the message says which and why.
        """
        (regions,) = self.regions([image], [boxes], masks)
        return self.label(boxes, regions, vocabulary)

    def regions(
        self, images: Sequence[ImageArray], boxes: Sequence[FloatArray], masks: bool = False
    ) -> list[Regions]:
        """What the model makes of the boxes of each image, whatever the words.

        Args:
            images: uint8 (H, W, 3) RGB each.
            boxes: for each image, float32 (N, 4) xyxy pixels.

        Raises:
            InputError: an image or boxes that cannot be used.
        """
        checked = checked_batch(images, boxes)
        if not images:
            return []
        embeddings = [self.localizer.encode(image) for image in images]
        return self.read(images, embeddings, self.encoder.image_tokens(images), checked, masks)

    def read(
        self,
        images: Sequence[ImageArray],
        embeddings: Sequence[ImageEmbedding],
        maps: Sequence[ImageTokens],
        boxes: Sequence[FloatArray],
        masks: bool = False,
    ) -> list[Regions]:
        """As `regions`, for images that both towers have encoded already.

        Args:
            boxes: for each image, float32 (N, 4) xyxy pixels that were found usable.
        """
        tokens = [
            self.localizer.tokens(e, b, masks) for e, b in zip(embeddings, boxes, strict=True)
        ]
        regions = self.embed(images, tokens, maps, boxes)
        if not masks:
            return [Regions(region) for region in regions]
        return [
            Regions(region, run_length_masks(t, e, b), _as_array(t.mask_iou))
            for region, t, e, b in zip(regions, tokens, embeddings, boxes, strict=True)
        ]

    @torch.inference_mode()
    def embed(
        self,
        images: Sequence[ImageArray],
        tokens: Sequence[RegionTokens],
        maps: Sequence[ImageTokens],
        boxes: Sequence[FloatArray],
    ) -> list[torch.Tensor]:
        """Region embeddings (N, D) for each image of the batch, from what both towers gave.

        The head alone, after what the encoder pools of each box, where it does.
        """
        rows = pad_sequence([t.tokens for t in tokens], batch_first=True)
        counts = torch.tensor([len(t.tokens) for t in tokens], device=rows.device)
        padding = torch.arange(rows.shape[1], device=rows.device)[None] >= counts[:, None]
        memory = torch.stack([m.sequence() for m in maps])
        pooled = [
            self.encoder.pool(image, m, b) for image, m, b in zip(images, maps, boxes, strict=True)
        ]
        output = self.head(
            rows,
            memory,
            padding,
            _padded([p.pooled for p in pooled if p]),
            _padded([p.prior for p in pooled if p]),
        )
        found = [o[:n] for o, n in zip(output, counts.tolist(), strict=True)]
        if self.unseen:
            found = [
                self.unseen.widen_regions(each, looks_of(p.pooled, t.tokens))
                for each, p, t in zip(found, pooled, tokens, strict=True)
                if p
            ]
        return [each.cpu() for each in found]

    def label(self, boxes: FloatArray, regions: Regions, vocabulary: Vocabulary) -> Labels:
        """Compare region embeddings with words: one matrix product.

        Args:
            boxes: (N, 4) that the regions were made of.
        """
        return label_regions(boxes, regions, vocabulary, self.scoring)

    def provenance(self) -> dict[str, str]:
        """What the labels of this model come from: versions and sha256 of every weight file."""
        packages = ("regionspot-autolabel", "torch", "segment-anything", "timm", "open_clip_torch")
        result = {package: version(package) for package in packages}
        result |= sha256_by_preset(self.config.name)
        result["precision"] = str(self.dtype).removeprefix("torch.")
        if self.checkpoint:
            result["head"] = sha256_of(self.checkpoint)
        return result


def load_model(
    model: str | ModelConfig = "mini",
    device: str = "auto",
    checkpoint: str | Path | None = None,
    dtype: torch.dtype | None = None,
) -> RegionSpot:
    """Build a model and load its weights.

    Args:
        model: a preset's name, or a configuration.
        device: `auto`, `cpu` or `cuda`.
        checkpoint: the trained head; by default the one that is shipped or was imported.
        dtype: of the towers' large products; by default bfloat16 where the device is fast at it.

    Raises:
        InputError: an unknown name, or weights that cannot be had or do not fit.
    """
    config = preset(model) if isinstance(model, str) else model
    where = resolve_device(device)
    precision = dtype or fast_dtype(where)
    path = Path(checkpoint) if checkpoint else find_checkpoint(config.name)
    trained = load_head(path, config)
    localizer = SamLocalizer(build_sam(config.localizer).to(where), precision, config.token)
    encoder = build_encoder(config.encoder, where, precision)
    return RegionSpot(
        config,
        localizer,
        encoder,
        trained.head.to(where),
        trained.scored_beside(encoder.logit_scale),
        where,
        precision,
        path,
        unseen_words(encoder, trained, config.encoder.templates),
    )


def unseen_words(
    encoder: VisionLanguageEncoder, trained: TrainedHead, templates: str
) -> UnseenWords | None:
    """How an encoder scores words beside those that a head was trained on, if it says which."""
    if not trained.trained_words:
        return None
    words = build_vocabulary(encoder, trained.trained_words, templates)
    return encoder.unseen_words(words.embedding, trained.adaptation)


def build_encoder(
    config: EncoderConfig, device: torch.device, dtype: torch.dtype
) -> VisionLanguageEncoder:
    """The encoder that a configuration names.

    Raises:
        InputError: unknown to open_clip, or weights that cannot be had.
    """
    if config.kind == "imagenet-minilm":
        return ImagenetMiniLm(config.input_sizes, device, dtype)
    from regionspot.encoders.clip import build_clip  # open_clip takes seconds to import

    return build_clip(config.model, config.pretrained, config.input_sizes[0], device, dtype)


def find_checkpoint(name: str) -> Path:
    """Where the head of a preset lies: shipped in the package, or imported into the cache.

    Raises:
        InputError: there is none.
    """
    for folder in (SHIPPED, cache_folder() / "heads"):
        path = folder / f"{name}.safetensors"
        if path.exists():
            return path
    raise InputError(
        f"no trained head for {name!r}: import a released one with "
        f"`autolabel models import FILE --preset {name}`, or train one"
    )


def _as_array(values: torch.Tensor | None) -> FloatArray:
    return np.zeros(0, np.float32) if values is None else values.float().cpu().numpy()


def _padded(rows: Sequence[torch.Tensor]) -> torch.Tensor | None:
    return pad_sequence(list(rows), batch_first=True) if rows else None
