"""Image encoders of SAM and MobileSAM at full size: bfloat16 over float32, on the same weights."""

import pytest
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from regionspot.localizers.mobile_sam import TinyVitEncoder
from regionspot.localizers.sam import SamLocalizer
from tests.benchmarks.measure import Timing, matmul_rate, processor, tell, time_side_by_side
from tests.regionspot.factories import noise_image

MOST_OF_FLOAT32 = 0.5
IMAGE = noise_image(768, 1024)


def vit_b() -> Sam:
    return sam_model_registry["vit_b"]()


def mobile() -> Sam:
    decoder = MaskDecoder(transformer_dim=256, transformer=TwoWayTransformer(2, 256, 8, 2048))
    return Sam(TinyVitEncoder(), PromptEncoder(256, (64, 64), (1024, 1024), 16), decoder)


def timed(name: str, sam: Sam, device: torch.device, rounds: int) -> dict[str, Timing]:
    localizers = {t: SamLocalizer(sam.to(device), t) for t in (torch.float32, torch.bfloat16)}
    work = {
        f"{name}, {str(dtype).removeprefix('torch.')}": lambda each=each: each.encode(IMAGE)
        for dtype, each in localizers.items()
    }
    found = time_side_by_side(
        work, device, rounds, counted=dict.fromkeys(work, next(iter(work.values())))
    )
    rates = dict(zip(found, (matmul_rate(device, t) for t in localizers), strict=True))
    tell(f"image encoder on {processor(device)}", found, rates)
    return found


@pytest.mark.parametrize(("build", "rounds"), [(vit_b, 2), (mobile, 5)])
def test_bfloat16_over_float32(build: type[Sam], rounds: int, device: torch.device) -> None:
    torch.manual_seed(0)
    full, half = timed(build.__name__, build(), device, rounds).values()
    has_target = device.type == "cuda" or torch.cpu._is_amx_tile_supported()
    said = f"at most {MOST_OF_FLOAT32}" if has_target else "no target: this CPU has no AMX"
    print(f"\n{build.__name__}: bfloat16 is {half.seconds / full.seconds:.3f} of float32 ({said})")
    assert not has_target or half.seconds <= MOST_OF_FLOAT32 * full.seconds
