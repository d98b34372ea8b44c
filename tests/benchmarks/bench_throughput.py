"""Images a second of the whole preset `bl` with 50 boxes each, on seeded weights."""

import open_clip
import torch
from segment_anything import sam_model_registry

from regionspot.config import fast_dtype, preset
from regionspot.encoders.clip import ClipEncoder
from regionspot.head import RegionHead
from regionspot.localizers.sam import SamLocalizer
from regionspot.model import RegionSpot
from regionspot.scoring import RegionScorer
from regionspot.types import ScoreCalibration
from tests.benchmarks.measure import (
    Work,
    matmul_rate,
    peak_megabytes,
    processor,
    tell,
    time_side_by_side,
)
from tests.regionspot.factories import noise_image, random_boxes

BOXES = 50


def seeded_bl(device: torch.device, dtype: torch.dtype) -> RegionSpot:
    torch.manual_seed(0)
    config = preset("bl")
    localizer = SamLocalizer(sam_model_registry["vit_b"]().to(device), dtype)
    clip = open_clip.create_model(config.encoder.model, load_weights=False)
    tokenizer = open_clip.get_tokenizer(config.encoder.model)
    encoder = ClipEncoder(clip, "seeded", tokenizer, config.encoder.input_sizes[0], device, dtype)
    head = RegionHead(config.head).eval().requires_grad_(False).to(device)
    calibration = ScoreCalibration.of_encoder(encoder.logit_scale)
    scorer = RegionScorer(encoder, config.encoder.templates, head, calibration)
    return RegionSpot(config, localizer, scorer, device, dtype)


def stages(model: RegionSpot) -> dict[str, Work]:
    """The parts of labelling one image, and the whole."""
    image, boxes = noise_image(768, 1024), random_boxes(BOXES, 1024, 768)
    embedding = model.localizer.encode(image)
    tokens = [model.localizer.tokens(embedding, boxes)]
    maps = model.encoder.image_tokens([image])
    return {
        "image encoder": lambda: model.localizer.encode(image),
        "mask decoder": lambda: model.localizer.tokens(embedding, boxes),
        "CLIP's map": lambda: model.encoder.image_tokens([image]),
        "head": lambda: model.embed([image], tokens, maps, [boxes]),
        "all": lambda: model.regions([image], [boxes]),
    }


def test_images_a_second(device: torch.device) -> None:
    dtype = fast_dtype(device)
    work = stages(seeded_bl(device, dtype))
    counted = stages(seeded_bl(device, torch.float32))
    rounds = 20 if device.type == "cuda" else 2
    timings = time_side_by_side(work, device, rounds, counted)
    rates = dict.fromkeys(timings, matmul_rate(device, dtype))
    tell(f"bl with {BOXES} boxes in {dtype} on {processor(device)}", timings, rates)
    peak = peak_megabytes(work["all"], device)
    print(f"\n{1 / timings['all'].seconds:.2f} images a second, {peak:.0f} MB beside the weights")
    labelled = work["all"]()
    assert isinstance(labelled, list)
    assert labelled[0].embedding.isfinite().all()
