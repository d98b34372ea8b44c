"""Images embedded and decoded together, over one at a time."""

import pytest
import torch
from segment_anything.modeling.image_encoder import Attention

from regionspot.localizers.batched_encoder import FusedAttention
from regionspot.localizers.sam import SamLocalizer
from tests.regionspot.factories import noise_image, random_boxes, relative_error, small_sam

IMAGES = [noise_image(), noise_image(90, 200, seed=1), noise_image(300, 260, seed=2)]
BOXES = [random_boxes(5), random_boxes(0), random_boxes(7, 260, 300, seed=2)]


@pytest.mark.parametrize("side", [(5, 5), (6, 9)])
def test_fused_attention_is_the_packages(side: tuple[int, int]) -> None:
    torch.manual_seed(0)
    attention = Attention(32, num_heads=2, use_rel_pos=True, input_size=side)
    for name in ("rel_pos_h", "rel_pos_w"):
        torch.nn.init.normal_(attention.get_parameter(name))
    x = torch.randn(3, *side, 32)
    with torch.inference_mode():
        assert relative_error(FusedAttention(attention)(x), attention(x)) < 1e-5


@pytest.mark.parametrize("masks", [False, True])
def test_a_batch_is_as_one_image_at_a_time(masks: bool) -> None:
    together = SamLocalizer(small_sam(), in_batches=True)
    alone = SamLocalizer(small_sam(), in_batches=False)
    embeddings = together.encode_all(IMAGES)
    for found, image in zip(embeddings, IMAGES, strict=True):
        expected = alone.encode(image)
        assert (found.width, found.input_height) == (expected.width, expected.input_height)
        assert relative_error(found.features, expected.features) < 1e-2  # levels that are ties
    decoded = together.tokens_of_all(embeddings, BOXES, masks)
    for found, embedding, boxes in zip(decoded, embeddings, BOXES, strict=True):
        expected = alone.tokens(embedding, boxes, masks)
        torch.testing.assert_close(found.tokens, expected.tokens, rtol=0, atol=1e-5)
        assert (found.mask_logits is None) == (not masks)
        if found.mask_logits is not None:
            torch.testing.assert_close(found.mask_logits, expected.mask_logits, rtol=0, atol=1e-5)
