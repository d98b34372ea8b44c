"""CLIP and SigLIP models of open_clip as they stand (Radford et al. 2021, arXiv 2103.00020; Zhai et
al. 2023, arXiv 2303.15343)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

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
from regionspot.encoders.open_clip_weights import (
    OPENAI_PIXELS,
    PixelStatistics,
    find_tokenizer,
    find_weights,
    pixel_statistics,
)
from regionspot.errors import InputError
from regionspot.types import ImageTokens, Pixels
from regionspot.weights import WEIGHTS, cached_path, sha256_of

TEXT_BATCH = 256


class ClipEncoder:
    """The class and patch tokens of an open_clip ViT, and its image and text features.

    Args:
        model: an `open_clip.CLIP`, or `CustomTextCLIP` as SigLIP is; `image_tokens` needs a vision
            transformer of open_clip's own.
        name: what distinguishes its text features in the cache of vocabularies.
        tokenizer: from strings to token ids (K, T).
        side: of the input square in pixels.
        dtype: float32, or bfloat16 for the image tower's products.
        pixels: what its inputs are normalised by.
        weights: sha256 of its file, by what a run's manifest calls it.
    """

    pooler = None  # the head reads CLIP's map by attention alone, as in the paper
    pools = False

    def __init__(
        self,
        model: open_clip.CLIP,
        name: str,
        tokenizer: Callable[[list[str]], torch.Tensor],
        side: int,
        device: torch.device,
        dtype: torch.dtype,
        pixels: PixelStatistics = OPENAI_PIXELS,
        weights: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.text_key = name
        self.side = side
        self.device = device
        self.dtype = dtype
        self.weights = weights
        self.logit_scale = float(model.logit_scale.exp())
        self.logit_bias = 0.0 if model.logit_bias is None else float(model.logit_bias)
        self.text_width = self.text(["width"]).shape[-1]
        self._visual = self.model.visual
        if device.type != "cpu" and dtype != torch.float32:
            self._visual = in_precision(self._visual, dtype)
        self._mean = torch.tensor(pixels.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(pixels.std, device=device).view(3, 1, 1)

    @classmethod
    def build(
        cls,
        config: EncoderConfig,
        device: torch.device,
        dtype: torch.dtype,
        runtime: Runtime = TORCH,
    ) -> "ClipEncoder":
        """A model of open_clip with pretrained weights.

        Raises:
            InputError: unknown to open_clip, OpenAI weights on a model without QuickGELU, or the
                weights or the tokenizer cannot be had.
        """
        assert runtime is TORCH, "resolve_runtime gives no other"
        model, pretrained = config.model, config.pretrained
        path = find_weights(config)
        built = _load(model, path)
        tokenizer = find_tokenizer(model)
        size = built.visual.image_size
        height, width = size if isinstance(size, tuple) else (size, size)
        if config.kind == "open_clip":
            if not isinstance(built.visual, VisionTransformer):
                raise InputError(f"{model!r} must have a vision transformer of open_clip's own")
            (side,) = config.input_sizes
            if (height, width) != (side, side):
                raise InputError(f"{model!r} takes squares of {(height, width)}, got {side}")
            return cls(built, f"{model}/{pretrained}", tokenizer, side, device, dtype)
        if height != width:
            raise InputError(f"{model!r} must take squares, got {height} x {width} pixels")
        sha256 = sha256_of(path)
        name = f"{model}/{sha256 if path == Path(pretrained) else pretrained}"
        pixels = pixel_statistics(config)
        return cls(built, name, tokenizer, height, device, dtype, pixels, {"open_clip": sha256})

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
        """Squares (B, 3, side, side), normalised with the model's mean and deviation."""
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


def _load(model: str, path: Path) -> open_clip.CLIP:
    is_listed = path in map(cached_path, WEIGHTS.values())
    try:
        if is_listed:
            # the files are TorchScript archives, which create_model refuses to read
            return open_clip.load_openai_model(str(path), precision="fp32", device="cpu")
        return open_clip.create_model(model, pretrained=str(path))
    except Exception as error:
        # torch reports a foreign file by many exception types
        mend = "run `autolabel models verify`" if is_listed else "give its weights or name others"
        raise InputError(f"{path} is not {model}; {mend}") from error
