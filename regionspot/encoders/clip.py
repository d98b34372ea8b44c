"""CLIP models of open_clip as they stand (Radford et al. 2021, arXiv 2103.00020)."""

from collections.abc import Sequence

import numpy as np
import open_clip
import torch
from open_clip.transformer import VisionTransformer
from PIL import Image

from regionspot.config import EncoderConfig
from regionspot.devices.precision import in_precision
from regionspot.devices.resample import bicubic, resize
from regionspot.devices.runtime import TORCH, Runtime
from regionspot.devices.transfer import pixels_on
from regionspot.errors import InputError
from regionspot.sources import OpenClip
from regionspot.types import ImageTokens, Pixels
from regionspot.weights import WEIGHTS, locate

TEXT_BATCH = 256


class ClipEncoder:
    """The class and patch tokens of an open_clip ViT, and its text features.

    Args:
        model: an `open_clip.CLIP` with a vision transformer.
        name: what distinguishes its text features in the cache of vocabularies.
        tokenizer: from strings to token ids (K, T).
        side: of the input square in pixels.
        dtype: float32, or bfloat16 for the image tower's products.
    """

    pooler = None  # the head reads CLIP's map by attention alone, as in the paper
    pools = False

    def __init__(
        self,
        model: open_clip.CLIP,
        name: str,
        tokenizer: open_clip.SimpleTokenizer,
        side: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.text_key = name
        self.side = side
        self.device = device
        self.dtype = dtype
        self.logit_scale = float(model.logit_scale.exp())
        self.text_width = int(model.visual.output_dim)
        self._visual = self.model.visual
        if device.type != "cpu" and dtype != torch.float32:
            self._visual = in_precision(self._visual, dtype)
        self._mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN, device=device).view(3, 1, 1)
        self._std = torch.tensor(open_clip.OPENAI_DATASET_STD, device=device).view(3, 1, 1)

    @classmethod
    def build(
        cls,
        config: EncoderConfig,
        device: torch.device,
        dtype: torch.dtype,
        runtime: Runtime = TORCH,
    ) -> "ClipEncoder":
        """An open_clip ViT with pretrained weights.

        Raises:
            InputError: unknown to open_clip, OpenAI weights on a model without QuickGELU, or the
                weights cannot be had.
        """
        assert runtime is TORCH, "resolve_runtime gives no other"
        model, pretrained, side = config.model, config.pretrained, config.input_sizes[0]
        check_activation(model, pretrained)
        built = _load(model, pretrained)
        if not isinstance(built.visual, VisionTransformer):
            raise InputError(f"{model!r} must have a vision transformer of open_clip's own")
        if built.visual.image_size != (side, side):
            raise InputError(f"{model!r} takes squares of {built.visual.image_size}, got {side}")
        tokenizer = open_clip.get_tokenizer(model)
        return cls(built, f"{model}/{pretrained}", tokenizer, side, device, dtype)

    @classmethod
    def map_length(cls, config: EncoderConfig) -> int:
        """L: the class token and the patches of the input square."""
        settings = open_clip.get_model_config(config.model)
        assert settings is not None, "the preset's model is known"
        patch: int = settings["vision_cfg"]["patch_size"]
        return 1 + (config.input_sizes[0] // patch) ** 2

    @classmethod
    def feature_settings(cls, config: EncoderConfig) -> dict[str, object]:
        """What image features depend on."""
        return config.image_settings()

    @torch.inference_mode()
    def image_tokens(self, images: Sequence[Pixels]) -> list[ImageTokens]:
        """Tokens after the last block, before `ln_post` and the projection (paper, section 3.2).

        The whole image is resized to the square without cropping.
        """
        visual = self._visual
        caught: list[torch.Tensor] = []
        hook = visual.transformer.register_forward_hook(lambda _, __, output: caught.append(output))
        try:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                visual(self.preprocess(images))
        finally:
            hook.remove()
        rows, columns = visual.grid_size
        tokens = caught[0].float()  # (B, 1 + rows columns, C)
        return [
            ImageTokens(t[0], t[1:].T.reshape(t.shape[1], rows, columns).contiguous())
            for t in tokens
        ]

    @torch.inference_mode()
    def image_features(self, images: Sequence[Pixels]) -> torch.Tensor:
        """CLIP's own embedding (B, D) of each whole RGB image, not normalised."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return torch.as_tensor(self.model.encode_image(self.preprocess(images))).float().cpu()

    def preprocess(self, images: Sequence[Pixels]) -> torch.Tensor:
        """Squares (B, 3, side, side), normalised with CLIP's mean and deviation."""
        size = (self.side, self.side)
        if self.device.type == "cpu":
            whole = [Image.fromarray(np.asarray(image)) for image in images]
            squares = [np.asarray(i.resize(size, Image.Resampling.BICUBIC)) for i in whole]
            pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
        else:
            uploaded = pixels_on(self.device, images)
            pixels = torch.stack([resize(image, size, bicubic) for image in uploaded])
        return (pixels.float() / 255 - self._mean) / self._std

    @torch.inference_mode()
    def text(self, strings: Sequence[str]) -> torch.Tensor:
        """Raw text features (K, D)."""
        parts = [
            self.model.encode_text(
                self.tokenizer(list(strings[i : i + TEXT_BATCH])).to(self.device)
            )
            for i in range(0, len(strings), TEXT_BATCH)
        ]
        return torch.cat(parts).float()


def _load(model: str, pretrained: str) -> open_clip.CLIP:
    listed = [f for f in WEIGHTS.values() if OpenClip(model, pretrained) in f.sources]
    if listed:
        # the files are TorchScript archives, which create_model refuses to read
        path = locate(listed[0].name)
        try:
            return open_clip.load_openai_model(str(path), precision="fp32", device="cpu")
        except Exception as error:
            # torch reports a foreign file by many exception types
            raise InputError(f"{path} is not {model}; run `autolabel models verify`") from error
    try:
        return open_clip.create_model(model, pretrained=pretrained)
    except (OSError, RuntimeError) as error:
        raise InputError(f"open_clip cannot load {model!r} ({pretrained!r}): {error}") from error


def check_activation(model: str, pretrained: str) -> None:
    """Refuse an activation that the weights were not trained with.

    Raises:
        InputError: unknown names, or the architecture's QuickGELU is not the weights'.
    """
    architecture = open_clip.get_model_config(model)
    weights = open_clip.get_pretrained_cfg(model, pretrained)
    if architecture is None or not weights:
        raise InputError(f"open_clip knows no {model!r} with weights {pretrained!r}")
    expected = bool(weights.get("quick_gelu", False))
    if bool(architecture.get("quick_gelu", False)) != expected:
        mend = f"{model}-quickgelu" if expected else model.removesuffix("-quickgelu")
        raise InputError(
            f"the weights {pretrained!r} were trained with{'' if expected else 'out'} QuickGELU, "
            f"which {model!r} has {'not' if expected else ''}; use {mend!r}"
        )
