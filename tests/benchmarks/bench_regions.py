"""Classifying 50 boxes of an image by one map and the head, over CLIP on 50 crops.

The shapes are those of the preset `bb`, the weights seeded.
"""

import open_clip
import torch

from regionspot.config import preset
from regionspot.crops.classifier import cut_out
from regionspot.encoders.clip import ClipEncoder
from regionspot.head import RegionHead
from tests.benchmarks.measure import matmul_rate, processor, tell, time_side_by_side
from tests.regionspot.factories import noise_image, random_boxes

BOXES = 50
MOST_OF_CROPS = 0.2


def test_map_and_head_over_clip_on_crops(device: torch.device) -> None:
    torch.manual_seed(0)
    config = preset("bb")
    (side,) = config.encoder.input_sizes
    clip = open_clip.create_model(config.encoder.model, load_weights=False)
    tokenizer = open_clip.get_tokenizer(config.encoder.model)
    encoder = ClipEncoder(clip, "seeded", tokenizer, side, device, torch.float32)
    head = RegionHead(config.head).eval().requires_grad_(False).to(device)
    image, boxes = noise_image(480, 640), random_boxes(BOXES, 640, 480)
    tokens = torch.randn(1, BOXES, 256, device=device)
    crops = [cut_out(image, box) for box in boxes]

    def regions() -> torch.Tensor:
        (found,) = encoder.image_tokens([image])
        return torch.as_tensor(head(tokens, found.sequence()[None]))

    work = {"map and head": regions, "CLIP on crops": lambda: encoder.image_features(crops)}
    timings = time_side_by_side(work, device, rounds=3)
    rate = matmul_rate(device, torch.float32)
    tell(f"words of {BOXES} boxes on {processor(device)}", timings, dict.fromkeys(timings, rate))
    ratio = timings["map and head"].seconds / timings["CLIP on crops"].seconds
    print(f"\nmap and head: {ratio:.3f} of CLIP on crops (at most {MOST_OF_CROPS})")
    assert ratio <= MOST_OF_CROPS
