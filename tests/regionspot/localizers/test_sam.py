"""The localizer against segment-anything's own predictor and mask decoder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry

from regionspot.boxes import FloatArray
from regionspot.config import TokenSource, with_token
from regionspot.errors import InputError
from regionspot.localizers.masks import run_length_masks
from regionspot.localizers.sam import SamLocalizer, build_sam
from regionspot.types import RegionTokens, decode_mask
from regionspot.weights import WEIGHTS, cached_path
from tests.regionspot.factories import (
    CONFIG,
    list_cached_file,
    noise_image,
    random_boxes,
    random_words,
    relative_error,
    small_model,
    small_sam,
)

IMAGE = noise_image()
BOXES = random_boxes(6)


@pytest.fixture(scope="module")
def localizer() -> SamLocalizer:
    return SamLocalizer(small_sam())


@pytest.fixture(scope="module")
def predictor() -> SamPredictor:
    predictor = SamPredictor(small_sam())
    predictor.set_image(IMAGE)
    return predictor


def predicted(predictor: SamPredictor, boxes: FloatArray) -> RegionTokens:
    """What the package says of boxes; tokens caught behind `MaskDecoder.transformer`."""
    caught: list[torch.Tensor] = []
    hook = predictor.model.mask_decoder.transformer.register_forward_hook(
        lambda module, inputs, output: caught.append(output[0][:, 1])
    )
    corners = predictor.transform.apply_boxes_torch(torch.from_numpy(boxes), IMAGE.shape[:2])
    _, iou, logits = predictor.predict_torch(None, None, corners, multimask_output=False)
    hook.remove()
    return RegionTokens(caught[0], logits[:, 0], iou[:, 0])


def test_token_mask_and_iou_are_the_packages_own(
    localizer: SamLocalizer, predictor: SamPredictor
) -> None:
    embedding = localizer.encode(IMAGE)
    torch.testing.assert_close(embedding.features[None], predictor.features, rtol=0, atol=1e-4)
    ours, theirs = localizer.tokens(embedding, BOXES, masks=True), predicted(predictor, BOXES)
    assert relative_error(ours.tokens, theirs.tokens) < 1e-5
    assert ours.mask_iou is not None
    assert theirs.mask_iou is not None
    assert relative_error(ours.mask_iou, theirs.mask_iou) < 1e-4
    assert ours.mask_logits is not None
    assert theirs.mask_logits is not None
    scale = ours.mask_logits.shape[-1] / localizer.sam.image_encoder.img_size
    scale *= embedding.input_width / embedding.width
    for got, expected, box in zip(ours.mask_logits, theirs.mask_logits, BOXES * scale, strict=True):
        x1, y1, x2, y2 = (int(side) for side in box)
        window = slice(y1, y2 + 1), slice(x1, x2 + 1)
        assert relative_error(got[window], expected[window]) < 1e-4
        outside = torch.ones_like(got, dtype=torch.bool)
        outside[max(0, y1 - 12) : y2 + 13, max(0, x1 - 12) : x2 + 13] = False
        assert not got[outside].any()


def test_sams_checkpoint_in_the_cache_is_read_strictly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path))
    monkeypatch.setitem(sam_model_registry, "vit_h", small_sam)
    path = cached_path(WEIGHTS["sam-vit-h"])
    state = small_sam(seed=1).state_dict()
    torch.save(state, path)
    list_cached_file(monkeypatch, "sam-vit-h")
    for name, tensor in build_sam("vit_h").state_dict().items():
        assert torch.equal(tensor, state[name])
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, path)
    list_cached_file(monkeypatch, "sam-vit-h")
    with pytest.raises(InputError, match=r"is not SAM's vit_h; run `autolabel models verify`"):
        build_sam("vit_h")


def test_token_without_masks_is_the_same_token(localizer: SamLocalizer) -> None:
    embedding = localizer.encode(IMAGE)
    alone = localizer.tokens(embedding, BOXES)
    assert alone.mask_logits is None
    assert alone.mask_iou is None
    with_masks = localizer.tokens(embedding, BOXES, masks=True)
    torch.testing.assert_close(alone.tokens, with_masks.tokens, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masks", [False, True])
def test_no_boxes(localizer: SamLocalizer, masks: bool) -> None:
    nothing = np.zeros((0, 4), np.float32)
    embedding = localizer.encode(IMAGE)
    tokens = localizer.tokens(embedding, nothing, masks)
    assert tokens.tokens.shape == (0, 256)
    assert (tokens.mask_logits is not None) == (tokens.mask_iou is not None) == masks
    if masks:
        assert run_length_masks(tokens, embedding, nothing) == ()


def test_masks_are_the_packages_own_cut_to_their_boxes(
    localizer: SamLocalizer, predictor: SamPredictor
) -> None:
    embedding = localizer.encode(IMAGE)
    boxes = np.round(BOXES)
    tokens = localizer.tokens(embedding, boxes, masks=True)
    logits = predicted(predictor, boxes).mask_logits
    assert logits is not None
    whole = predictor.model.postprocess_masks(
        logits[:, None], predictor.input_size, predictor.original_size
    )[:, 0]
    # a threshold at the median, so that every mask has an edge
    threshold = float(whole.median())
    masks = run_length_masks(tokens, embedding, boxes, threshold)
    for mask, expected, box in zip(masks, whole, boxes.astype(int), strict=True):
        x1, y1, x2, y2 = box
        assert mask["size"] == list(IMAGE.shape[:2])
        decoded = decode_mask(mask)
        inside = decoded[y1:y2, x1:x2]
        assert decoded.sum() == inside.sum()
        agreed = inside == (expected > threshold).numpy()[y1:y2, x1:x2]
        assert agreed.mean() > 0.99


def test_a_mask_never_leaves_its_box_or_image() -> None:
    localizer = SamLocalizer(small_sam())
    embedding = localizer.encode(IMAGE)
    boxes = np.array([[0.4, 0.6, 12.2, 9.5], [150.5, 80.5, 200, 120]], np.float32)
    tokens = localizer.tokens(embedding, boxes, masks=True)
    whole = run_length_masks(tokens, embedding, boxes, threshold=-1e9)
    assert [decode_mask(mask).sum() for mask in whole] == [13 * 10, 50 * 40]
    assert decode_mask(whole[1])[80:, 150:].all()


def behind_transformer(predictor: SamPredictor) -> torch.Tensor:
    return predicted(predictor, BOXES).tokens


def behind_mask_mlp(predictor: SamPredictor) -> torch.Tensor:
    mlp = predictor.model.mask_decoder.output_hypernetworks_mlps[0]
    return torch.as_tensor(mlp(behind_transformer(predictor)))


def behind_prompt_encoder(predictor: SamPredictor) -> torch.Tensor:
    encoder = predictor.model.prompt_encoder
    boxes = predictor.transform.apply_boxes_torch(torch.from_numpy(BOXES), IMAGE.shape[:2])
    corners = boxes.reshape(-1, 2, 2) + 0.5
    placed = encoder.pe_layer.forward_with_coords(corners, encoder.input_image_size)
    first, second = (encoder.point_embeddings[i].weight[0] for i in (2, 3))
    return (placed[:, 0] + first + placed[:, 1] + second) / 2


@pytest.mark.parametrize(
    ("source", "width", "expected"),
    [
        ("transformer", 256, behind_transformer),
        ("mask-mlp", 32, behind_mask_mlp),
        ("prompt", 256, behind_prompt_encoder),
    ],
)
@pytest.mark.parametrize("masks", [False, True])
def test_token_is_taken_where_the_configuration_says(
    predictor: SamPredictor,
    source: TokenSource,
    width: int,
    expected: Callable[[SamPredictor], torch.Tensor],
    masks: bool,
) -> None:
    model = small_model(with_token(CONFIG, source))
    tokens = model.localizer.tokens(model.localizer.encode(IMAGE), BOXES, masks)
    assert tokens.tokens.shape == (6, width)
    assert relative_error(tokens.tokens, expected(predictor)) < 1e-5
    assert len(model.predict(IMAGE, BOXES, random_words())) == len(BOXES)
