"""Attention weights are those that the labels were made with."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from regionspot.attention import attended, recorded_cross_attention
from regionspot.errors import InputError
from tests.regionspot.factories import CONFIG, noise_image, random_boxes, small_model

IMAGE = noise_image()
BOXES = random_boxes(4)


def test_weights_add_up_to_one_and_regions_are_the_models() -> None:
    model = small_model()
    regions, attention = attended(model, IMAGE, BOXES)
    assert attention.map.shape == (3, 4, 4, 4)
    total = attention.map.sum((2, 3)) + attention.class_token
    torch.testing.assert_close(total, torch.ones(3, 4))
    (expected,) = model.regions([IMAGE], [BOXES])
    torch.testing.assert_close(regions.embedding, expected.embedding, rtol=0, atol=1e-5)


def test_weights_are_the_softmax_of_queries_and_keys() -> None:
    head = small_model().scorer.head
    caught: list[tuple[torch.Tensor, ...]] = []
    attention = head.decoder.layers[0].get_submodule("multihead_attn")
    hook = attention.register_forward_pre_hook(lambda module, args: caught.append(args))
    with recorded_cross_attention(head) as weights:
        head(torch.randn(1, 3, 256), torch.randn(1, 17, 64))
    hook.remove()
    query, memory = caught[0][0][0], caught[0][1][0]
    (wq, wk, _), (bq, bk, _) = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q = (query @ wq.T + bq).view(3, 8, 8).transpose(0, 1)
    k = (memory @ wk.T + bk).view(17, 8, 8).transpose(0, 1)
    expected = (q @ k.transpose(1, 2) / 8**0.5).softmax(-1)
    torch.testing.assert_close(weights[0][0], expected)
    head(torch.randn(1, 3, 256), torch.randn(1, 17, 64))
    assert len(weights) == 3


def test_without_class_token_the_map_has_all_the_weight() -> None:
    config = replace(CONFIG, head=replace(CONFIG.head, class_token=False))
    _, attention = attended(small_model(config), IMAGE, BOXES)
    torch.testing.assert_close(attention.map.sum((2, 3)), torch.ones(3, 4))
    assert not attention.class_token.any()


def test_what_has_no_attention_is_refused() -> None:
    blind = small_model(replace(CONFIG, head=replace(CONFIG.head, read_map=False)))
    with pytest.raises(InputError, match="the head of 'small' reads no map"):
        attended(blind, IMAGE, BOXES)
    with pytest.raises(InputError, match="at least one box, got none"):
        attended(small_model(), IMAGE, np.zeros((0, 4), np.float32))
    with pytest.raises(InputError, match="must have x1 < x2"):
        attended(small_model(), IMAGE, BOXES[:, [2, 1, 0, 3]])
