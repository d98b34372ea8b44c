"""MobileSAM in torch against the ONNX graphs that its weights come from."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from segment_anything.modeling import Sam

from regionspot.localizers.fast_decoder import RegionDecoder
from regionspot.localizers.mobile_sam import build_mobile_sam
from regionspot.localizers.sam import SamLocalizer
from regionspot.weights import locate

BOX = np.array([[120.0, 30.0, 400.0, 290.0]], np.float32)  # the cat, in pixels of the photo


@pytest.fixture(scope="module")
def sam() -> Sam:
    return build_mobile_sam()


def session(name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(locate(name)), providers=["CPUExecutionProvider"])


def decoded_by_onnx(features: torch.Tensor, coords: np.ndarray, labels: list[int]) -> np.ndarray:
    """The low-resolution mask (256, 256) that the published graph gives for points."""
    inputs = {
        "image_embeddings": features.numpy(),
        "point_coords": coords[None].astype(np.float32),
        "point_labels": np.array([labels], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array([1024, 1024], np.float32),
    }
    (mask,) = session("mobile-sam-decoder").run(["low_res_masks"], inputs)
    return np.asarray(mask)[0, 0]


def test_mobile_sam_agrees_with_onnx_runtime(sam: Sam, photo: Callable[[str], Image.Image]) -> None:
    image = np.asarray(photo("chelsea"))
    embedding = SamLocalizer(sam).encode(image)
    resized = photo("chelsea").resize((embedding.input_width, embedding.input_height), 2)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None]
    (expected,) = session("mobile-sam-encoder").run(None, {"input": sam.preprocess(pixels).numpy()})
    features = torch.from_numpy(expected)
    assert (embedding.features[None] - features).abs().max() < 1e-4

    corners = BOX.reshape(2, 2) * (embedding.input_width / embedding.width)
    point = corners.mean(0, keepdims=True)
    prompt = sam.prompt_encoder
    with torch.no_grad():
        sparse, dense = prompt(None, torch.from_numpy(corners.reshape(1, 4)), None)
        masks, iou = sam.mask_decoder.predict_masks(features, prompt.get_dense_pe(), sparse, dense)
        # of two points the graph gives the best of masks 1 to 3, of more points mask 0
        best = masks[0, 1 + int(iou[0, 1:].argmax())]
        assert np.abs(best.numpy() - decoded_by_onnx(features, corners, [2, 3])).max() < 1e-3
        clicked = (torch.from_numpy(point)[None].float(), torch.ones(1, 1))
        sparse, dense = prompt(clicked, torch.from_numpy(corners.reshape(1, 4)), None)
        ours = RegionDecoder(sam.mask_decoder)(
            features[0] + dense[0],
            prompt.get_dense_pe()[0],
            sparse,
            np.array([[0, 0, 64, 64]]),
        )
    assert ours.mask_logits is not None
    mask = decoded_by_onnx(features, np.concatenate([point, corners]), [1, 2, 3])
    assert np.abs(ours.mask_logits[0].numpy() - mask).max() < 1e-3
