"""The decoder of many boxes: chunks and precision; the rest is compared in `test_sam`."""

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
    decoded = [
        RegionDecoder(localizer.sam.mask_decoder, chunk=n)(embedding, position, prompts, masks=True)
        for n in (4, chunk)
    ]
    for name in ("token", "mask_logits", "mask_iou"):
        first, second = (getattr(each, name) for each in decoded)
        torch.testing.assert_close(second, first, rtol=0, atol=1e-5)
