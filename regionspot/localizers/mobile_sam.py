"""MobileSAM rebuilt in torch from the initializers of its two published ONNX graphs.

The image encoder is timm's TinyViT-5M with the last downsampling at stride 1 and SAM's neck
(Zhang et al. 2023, arXiv 2306.14289); prompt encoder and mask decoder are segment-anything's own.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import ConvNorm, TinyVit, TinyVitBlock
from torch import nn

from regionspot.weights import locate

IMAGE_SIZE = 1024
TOKEN_WIDTH = 256


class TinyVitEncoder(nn.Module):
    """Image (B, 3, 1024, 1024), normalised and padded, to the embedding (B, 256, 64, 64)."""

    img_size = IMAGE_SIZE  # segment-anything's generators read it from the encoder

    def __init__(self) -> None:
        super().__init__()
        self.trunk = TinyVit(
            depths=(2, 2, 6, 2),
            embed_dims=(64, 128, 160, 320),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            num_classes=0,
        )
        last = self.trunk.get_submodule("stages.3.downsample.conv2.conv")
        assert isinstance(last, nn.Conv2d), "timm's TinyViT downsamples by a convolution"
        last.stride = (1, 1)
        self.neck = nn.Sequential(
            nn.Conv2d(320, TOKEN_WIDTH, 1, bias=False),
            LayerNorm2d(TOKEN_WIDTH),
            nn.Conv2d(TOKEN_WIDTH, TOKEN_WIDTH, 3, padding=1, bias=False),
            LayerNorm2d(TOKEN_WIDTH),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Embed a batch of images (B, 3, 1024, 1024)."""
        x = self.trunk.patch_embed(image)
        for stage in self.trunk.stages:
            x = stage(x)
        return torch.as_tensor(self.neck(x))


def build_mobile_sam() -> Sam:
    """The whole of MobileSAM in evaluation mode, weights from the cache.

    Raises:
        InputError: a weight file cannot be had.
    """
    encoder = TinyVitEncoder()
    sam = Sam(
        image_encoder=encoder,
        prompt_encoder=PromptEncoder(TOKEN_WIDTH, (64, 64), (IMAGE_SIZE, IMAGE_SIZE), 16),
        mask_decoder=MaskDecoder(
            transformer_dim=TOKEN_WIDTH,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=TOKEN_WIDTH, mlp_dim=2048, num_heads=8
            ),
        ),
    )
    _load_encoder(encoder, _Graph(locate("mobile-sam-encoder")))
    _load_decoder(sam, _Graph(locate("mobile-sam-decoder")))
    return sam.eval()


class _Graph:
    """An ONNX graph's tensors: by name where the export kept it, else in the order of use."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        self.named = {tensor.name: _as_tensor(tensor) for tensor in graph.initializer}
        self._nodes = list(graph.node)

    def unnamed(self, operator: str) -> Iterator[torch.Tensor]:
        """Initializers without a name of their own, as nodes of this type take them."""
        for node in self._nodes:
            if node.op_type == operator:
                for name in node.input:
                    if name.startswith("onnx::") and name in self.named:
                        yield self.named[name]

    def attention_biases(self) -> Iterator[torch.Tensor]:
        """Each attention's relative-position bias (heads, N, N), a constant that is added."""
        constants = {n.output[0]: n.attribute[0].t for n in self._nodes if n.op_type == "Constant"}
        for node in self._nodes:
            for name in node.input:
                if node.op_type == "Add" and name in constants and len(constants[name].dims) == 3:
                    yield _as_tensor(constants[name])


def _as_tensor(tensor: onnx.TensorProto) -> torch.Tensor:
    return torch.from_numpy(numpy_helper.to_array(tensor).copy())


@torch.no_grad()
def _load_encoder(encoder: TinyVitEncoder, graph: _Graph) -> None:
    for name, tensor in graph.named.items():
        if name.startswith(("layers.", "neck.")):
            ours = name.replace("layers.", "trunk.stages.", 1)
            encoder.get_parameter(ours).copy_(tensor)
    convolutions = graph.unnamed("Conv")
    for module in encoder.trunk.modules():
        if isinstance(module, ConvNorm):
            _fold(module, weight=next(convolutions), bias=next(convolutions))
    products = graph.unnamed("MatMul")
    biases = graph.attention_biases()
    for module in encoder.trunk.modules():
        if isinstance(module, TinyVitBlock):
            for linear in (module.attn.qkv, module.attn.proj, module.mlp.fc1, module.mlp.fc2):
                linear.weight.copy_(next(products).T)
            # the offsets of all window cells from the first one are the distinct offsets, in order
            module.attn.attention_biases.copy_(next(biases)[:, 0])
    _load_norms((encoder.neck[1], encoder.neck[3]), graph.unnamed("Mul"), graph.unnamed("Add"))


@torch.no_grad()
def _load_decoder(sam: Sam, graph: _Graph) -> None:
    for name, tensor in graph.named.items():
        if name.startswith("model.prompt_encoder.pe_layer."):
            sam.get_buffer(name.removeprefix("model.")).copy_(tensor)
        elif name.startswith(("mask_decoder.", "model.prompt_encoder.")):
            sam.get_parameter(name.removeprefix("model.")).copy_(tensor)
    products = graph.unnamed("MatMul")
    for linear in _linears_in_order_of_use(sam.mask_decoder.transformer):
        linear.weight.copy_(next(products).T)
    scales = list(graph.unnamed("Mul"))
    downscaling, upscaling = sam.prompt_encoder.mask_downscaling, sam.mask_decoder.output_upscaling
    norms = (downscaling[1], downscaling[4], upscaling[1])
    _load_norms(norms, (t for t in scales if t.ndim == 3), graph.unnamed("Add"))
    (no_mask,) = (tensor for tensor in scales if tensor.ndim == 4)
    sam.prompt_encoder.no_mask_embed.weight.copy_(no_mask.reshape(1, -1))
    (output_tokens,) = graph.unnamed("Expand")
    sam.mask_decoder.iou_token.weight.copy_(output_tokens[0, :1])
    sam.mask_decoder.mask_tokens.weight.copy_(output_tokens[0, 1:])


def _linears_in_order_of_use(transformer: TwoWayTransformer) -> Iterator[nn.Linear]:
    def projections(attention: nn.Module) -> Iterator[nn.Linear]:
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear = attention.get_submodule(name)
            assert isinstance(linear, nn.Linear), "segment-anything projects by linear layers"
            yield linear

    for layer in transformer.layers:
        yield from projections(layer.self_attn)
        yield from projections(layer.cross_attn_token_to_image)
        yield from (layer.mlp.lin1, layer.mlp.lin2)
        yield from projections(layer.cross_attn_image_to_token)
    yield from projections(transformer.final_attn_token_to_image)


def _fold(module: ConvNorm, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Put in a convolution that the export has folded its batch norm into."""
    module.conv.weight.copy_(weight)
    module.conv.bias = nn.Parameter(bias)
    module.add_module("bn", nn.Identity())


def _load_norms(
    norms: Iterable[LayerNorm2d], scales: Iterable[torch.Tensor], shifts: Iterable[torch.Tensor]
) -> None:
    for norm, scale, shift in zip(norms, scales, shifts, strict=True):
        norm.weight.copy_(scale.flatten())
        norm.bias.copy_(shift.flatten())
