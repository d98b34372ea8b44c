"""Detection models of transformers with seeded weights, small enough to be made in a test.

Boxes of random weights mean nothing; that they come in pixels of the image, in order and for every
word is what the tests look at.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

WIDTH = 32
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _backbone(stages: list[str]) -> hf.ResNetConfig:
    return hf.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=stages,
    )


def _transformer() -> dict[str, Any]:
    return {
        "d_model": WIDTH,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_ffn_dim": WIDTH,
        "decoder_ffn_dim": WIDTH,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    }


def grounding_dino(folder: Path, num_queries: int = 12) -> Path:
    """Reads 256 tokens, each letter of a word being one."""
    torch.manual_seed(0)
    config = hf.GroundingDinoConfig(
        backbone_config=_backbone(["stage2", "stage3", "stage4"]),
        text_config=hf.BertConfig(
            vocab_size=1100,
            hidden_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=WIDTH,
            max_position_embeddings=256,
        ),
        num_queries=num_queries,
        num_feature_levels=4,
        **_transformer(),
    )
    hf.GroundingDinoForObjectDetection(config).eval().save_pretrained(folder)
    # The model knows these tokens by their number.
    vocabulary = {f"[unused{n}]": n for n in range(1100)}
    named = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    named |= {".": 1012, "?": 1029}
    named |= {letter: 200 + n for n, letter in enumerate(LETTERS)}
    named |= {f"##{letter}": 300 + n for n, letter in enumerate(LETTERS)}
    by_number = {n: name for name, n in vocabulary.items()} | {n: k for k, n in named.items()}
    path = folder / "vocab.txt"
    path.write_text("\n".join(by_number[n] for n in range(1100)) + "\n")
    tokenizer = hf.BertTokenizer.from_pretrained(folder, model_max_length=512)
    size = {"shortest_edge": 96, "longest_edge": 128}  # the last level is larger than one cell
    hf.GroundingDinoProcessor(hf.GroundingDinoImageProcessor(size=size), tokenizer).save_pretrained(
        folder
    )
    return folder


def owlv2(folder: Path) -> Path:
    """A score for each of the words, which are texts of their own."""
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": WIDTH}
    config = hf.Owlv2Config(
        text_config={
            "hidden_size": WIDTH,
            "vocab_size": 60,
            "max_position_embeddings": 16,
            "pad_token_id": 0,
            "bos_token_id": 58,
            "eos_token_id": 59,
            **layers,
        },
        vision_config={"hidden_size": WIDTH, "image_size": 32, "patch_size": 8, **layers},
        projection_dim=WIDTH,
    )
    model = hf.Owlv2ForObjectDetection(config).eval()
    with torch.no_grad():
        for weight in model.box_head.parameters():
            weight.mul_(0.01)  # boxes around the patches, and none without area
    model.save_pretrained(folder)
    tokens = ["!", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokens += [f"[unused{n}]" for n in range(58 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = hf.CLIPTokenizer.from_pretrained(folder, model_max_length=16, pad_token="!")
    processor = hf.Owlv2ImageProcessor(size={"height": 32, "width": 32})
    hf.Owlv2Processor(processor, tokenizer).save_pretrained(folder)
    return folder


def detr(folder: Path) -> Path:
    """Softmax over two classes and "no object"."""
    torch.manual_seed(0)
    config = hf.DetrConfig(
        backbone_config=_backbone(["stage4"]),
        num_queries=12,
        id2label={0: "cat", 1: "traffic light"},
        **_transformer(),
    )
    hf.DetrForObjectDetection(config).eval().save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 96}
    hf.DetrImageProcessor(size=size).save_pretrained(folder)
    return folder


def rt_detr(folder: Path) -> Path:
    """A sigmoid for each of three classes, of an image that is resized to a square."""
    torch.manual_seed(0)
    config = hf.RTDetrConfig(
        backbone_config=hf.RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_in_channels=[8, 16, 16],
        encoder_hidden_dim=WIDTH,
        decoder_in_channels=[WIDTH] * 3,
        num_queries=12,
        id2label={0: "cat", 1: "dog", 2: "cup"},
        **{k: v for k, v in _transformer().items() if k != "encoder_layers"},
    )
    hf.RTDetrForObjectDetection(config).eval().save_pretrained(folder)
    hf.RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


ZERO_SHOT: dict[str, Callable[[Path], Path]] = {"grounding-dino": grounding_dino, "owlv2": owlv2}
CLOSED_SET: dict[str, Callable[[Path], Path]] = {"detr": detr, "rt-detr": rt_detr}
