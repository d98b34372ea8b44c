"""Tokens (and masks) of 50 boxes: our decoder over segment-anything's own, on the same weights."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer

from regionspot.localizers.fast_decoder import RegionDecoder
from tests.benchmarks.measure import (
    Timing,
    matmul_rate,
    peak_megabytes,
    processor,
    tell,
    time_side_by_side,
)

BOXES, GRID = 50, 64
MOST_OF_FLOAT32, MOST_OF_BFLOAT16, MOST_WITH_MASKS = 0.32, 0.16, 0.6


@dataclass(frozen=True)
class Inputs:
    """Seeded weights of full size, an image embedding and the prompts of 50 boxes."""

    decoder: MaskDecoder
    embedding: torch.Tensor
    position: torch.Tensor
    prompts: torch.Tensor

    @torch.inference_mode()
    def package(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Token and mask as the package computes them; it always computes both."""
        caught: list[torch.Tensor] = []
        hook = self.decoder.transformer.register_forward_hook(
            lambda module, inputs, output: caught.append(output[0][:, 1])
        )
        masks, _ = self.decoder(
            image_embeddings=self.embedding[None],
            image_pe=self.position[None],
            sparse_prompt_embeddings=self.prompts,
            dense_prompt_embeddings=torch.zeros_like(self.embedding)[None],
            multimask_output=False,
        )
        hook.remove()
        return caught[0], masks[:, 0]

    def ours(
        self, dtype: torch.dtype, masks: Literal["", "whole", "boxes"] = ""
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token, and mask logits of the whole square or inside boxes of a fifth of its sides."""
        side = {"": 0, "whole": GRID, "boxes": GRID // 5}[masks]
        windows = np.array([[0, 0, side, side]])
        decoded = RegionDecoder(self.decoder, dtype)(
            self.embedding,
            self.position,
            self.prompts,
            np.tile(windows, (BOXES, 1)) if masks else None,
        )
        return decoded.token, decoded.token if decoded.mask_logits is None else decoded.mask_logits


@pytest.fixture(scope="module")
def inputs(device: torch.device) -> Inputs:
    torch.manual_seed(0)
    decoder = MaskDecoder(transformer_dim=256, transformer=TwoWayTransformer(2, 256, 8, 2048))
    shapes = [(256, GRID, GRID), (256, GRID, GRID), (BOXES, 2, 256)]
    tensors = [torch.randn(shape).to(device) for shape in shapes]
    return Inputs(decoder.eval().requires_grad_(False).to(device), *tensors)


@pytest.fixture(scope="module")
def timings(inputs: Inputs, device: torch.device) -> dict[str, Timing]:
    full, half = torch.float32, torch.bfloat16
    work = {
        "segment-anything, float32": inputs.package,
        "ours, float32": lambda: inputs.ours(full),
        "ours, bfloat16": lambda: inputs.ours(half),
        "ours, float32, with masks": lambda: inputs.ours(full, "whole"),
        "ours, bfloat16, with masks": lambda: inputs.ours(half, "whole"),
        "ours, float32, with masks in boxes": lambda: inputs.ours(full, "boxes"),
        "ours, bfloat16, with masks in boxes": lambda: inputs.ours(half, "boxes"),
    }
    found = time_side_by_side(work, device)
    rates = {t: matmul_rate(device, t) for t in (full, half)}
    tell(
        f"tokens of {BOXES} boxes on {processor(device)}",
        found,
        {name: rates[half if "bfloat16" in name else full] for name in found},
    )
    return found


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.float() - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str
)
def test_error(inputs: Inputs, dtype: torch.dtype, limit: float) -> None:
    expected_token, expected_mask = inputs.package()
    token, mask = inputs.ours(dtype, "whole")
    print(f"\nrelative error, {dtype}: token {error(token, expected_token):.1e}", end="")
    print(f", mask {error(mask, expected_mask):.1e}")
    assert error(token, expected_token) < limit


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("ours, float32", MOST_OF_FLOAT32),
        ("ours, bfloat16", MOST_OF_BFLOAT16),
        ("ours, float32, with masks", MOST_WITH_MASKS),
        ("ours, bfloat16, with masks", MOST_WITH_MASKS),
    ],
)
def test_time(timings: dict[str, Timing], name: str, most: float) -> None:
    ratio = timings[name].seconds / timings["segment-anything, float32"].seconds
    print(f"\n{name}: {ratio:.3f} of segment-anything's time (at most {most})")
    assert ratio <= most


def test_memory(inputs: Inputs, device: torch.device) -> None:
    work = {
        "ours, bfloat16": lambda: inputs.ours(torch.bfloat16),
        "ours, float32": lambda: inputs.ours(torch.float32),
        "ours, float32, with masks": lambda: inputs.ours(torch.float32, "whole"),
        "segment-anything, float32": inputs.package,
    }
    peaks = {name: peak_megabytes(call, device) for name, call in work.items()}
    print("\n" + ", ".join(f"{name}: {peak:.0f} MB" for name, peak in peaks.items()))
    assert max(peaks.values()) == peaks["segment-anything, float32"]
