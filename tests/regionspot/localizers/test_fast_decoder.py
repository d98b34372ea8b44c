"""The decoder of many boxes: chunks and precision; the rest is compared in `test_sam`."""

import numpy as np
import pytest
import torch

from regionspot.localizers.fast_decoder import RegionDecoder
from regionspot.localizers.sam import SamLocalizer
from tests.regionspot.factories import (
    relative_error,
    small_sam,
)


@pytest.fixture(scope="module")
def localizer() -> SamLocalizer:
    return SamLocalizer(small_sam())


def test_bfloat16_token_is_near(localizer: SamLocalizer) -> None:
    decoder = localizer.sam.mask_decoder
    embedding, position = torch.randn(256, 16, 16), localizer.sam.prompt_encoder.get_dense_pe()[0]
    prompts = torch.randn(5, 2, 256, generator=torch.Generator().manual_seed(1))
    exact = RegionDecoder(decoder)(embedding, position, prompts).token
    rounded = RegionDecoder(decoder, torch.bfloat16)(embedding, position, prompts).token
    assert 0 < relative_error(rounded, exact) < 2e-2


@pytest.mark.parametrize("chunk", [1, 2, 50])
def test_chunks_change_nothing(localizer: SamLocalizer, chunk: int) -> None:
    embedding, position = torch.randn(256, 16, 16), localizer.sam.prompt_encoder.get_dense_pe()[0]
    prompts = torch.randn(5, 2, 256, generator=torch.Generator().manual_seed(1))
    windows = np.array([[0, 0, 16, 16], [3, 4, 5, 9], [-2, 10, 8, 18], [0, 0, 1, 1], [7] * 4])
    decoded = [
        RegionDecoder(localizer.sam.mask_decoder, chunk=n)(embedding, position, prompts, windows)
        for n in (4, chunk)
    ]
    for name in ("token", "mask_logits", "mask_iou"):
        first, second = (getattr(each, name) for each in decoded)
        torch.testing.assert_close(second, first, rtol=0, atol=1e-5)


def test_a_window_changes_nothing_inside(localizer: SamLocalizer) -> None:
    embedding, position = torch.randn(256, 16, 16), localizer.sam.prompt_encoder.get_dense_pe()[0]
    prompts = torch.randn(2, 2, 256, generator=torch.Generator().manual_seed(1))
    decode = RegionDecoder(localizer.sam.mask_decoder)
    everywhere = np.array([[0, 0, 16, 16]] * 2)
    whole = decode(embedding, position, prompts, everywhere).mask_logits
    part = decode(
        embedding, position, prompts, np.array([[3, 4, 5, 9], [-2, 10, 8, 18]])
    ).mask_logits
    assert whole is not None
    assert part is not None
    expected = torch.zeros_like(whole)
    expected[0, 16:36, 12:20] = whole[0, 16:36, 12:20]
    expected[1, 40:, :32] = whole[1, 40:, :32]
    torch.testing.assert_close(part, expected, rtol=0, atol=1e-5)
