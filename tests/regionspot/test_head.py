"""The head: the official module's output, masks between regions, and the paper's ablations."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from regionspot.checkpoint import load_official
from regionspot.head import HeadConfig, RegionHead
from tests.regionspot.factories import HEAD, relative_error, seeded_head

GOLDEN = Path(__file__).parent / "golden" / "official_head_bb.json"
BL = HeadConfig(map_width=1024, text_width=768, width=1024)
HEADS = 8


def pattern(i: int, shape: tuple[int, ...]) -> torch.Tensor:
    values = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(values * 0.7371 + i * 1.913) * 0.05).reshape(shape)


def patterned_state(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    state = {}
    for i, name in enumerate(sorted(shapes)):
        is_norm = "norm" in name and name.endswith("weight")
        state[name] = (pattern(i, tuple(shapes[name])) + is_norm).float()
    return state


def patterned_inputs(tokens: int, width: int, text: int) -> tuple[torch.Tensor, ...]:
    words = F.normalize(pattern(103, (9, text)).float(), dim=-1)
    return (
        pattern(101, (1, 6, 256)).float() * 20,
        pattern(102, (1, tokens, width)).float() * 20,
        words,
    )


def saved(path: Path, state: dict[str, torch.Tensor]) -> Path:
    others = {"sam.x": torch.zeros(1), "clip.visual.proj": torch.zeros(1)}
    torch.save({"model": {f"model.{n}": t for n, t in (state | others).items()}}, path)
    return path


def test_golden_output_of_the_official_head(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text())["bb"]
    state = patterned_state(golden["shapes"])
    head = load_official(saved(tmp_path / "bb.pth", state))
    mask_tokens, image_tokens, words = patterned_inputs(golden["tokens"], 768, 512)
    cosine = F.normalize(head(mask_tokens, image_tokens)[0], dim=-1) @ words.T
    torch.testing.assert_close(cosine, torch.tensor(golden["cosine"]), rtol=0, atol=1e-5)


def attention(
    state: dict[str, torch.Tensor], name: str, query: torch.Tensor, memory: torch.Tensor
) -> torch.Tensor:
    """Multi-head attention written out, (N, C) over (L, C)."""
    weight, bias = state[f"{name}.in_proj_weight"].chunk(3), state[f"{name}.in_proj_bias"].chunk(3)
    q, k, v = (
        F.linear(x, w, b).view(len(x), HEADS, -1).transpose(0, 1)
        for x, w, b in zip((query, memory, memory), weight, bias, strict=True)
    )
    shares = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
    read = (shares @ v).transpose(0, 1).reshape(len(query), -1)
    return F.linear(read, state[f"{name}.out_proj.weight"], state[f"{name}.out_proj.bias"])


def written_out(
    state: dict[str, torch.Tensor], token: torch.Tensor, memory: torch.Tensor
) -> torch.Tensor:
    """The official head as its equations say, in the precision of its arguments."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    x = linear("to_clip", token)
    for layer in (f"decoder.layers.{i}" for i in range(3)):
        x = norm(f"{layer}.norm1", x + attention(state, f"{layer}.self_attn", x, x))
        x = norm(f"{layer}.norm2", x + attention(state, f"{layer}.multihead_attn", x, memory))
        hidden = linear(f"{layer}.linear1", x).relu()
        x = norm(f"{layer}.norm3", x + linear(f"{layer}.linear2", hidden))
    return linear("projector", norm("decoder.norm", x))


@pytest.mark.parametrize("tokens", [257, 577])
def test_head_of_bl_is_its_equations(tmp_path: Path, tokens: int) -> None:
    shapes = {name: list(t.shape) for name, t in RegionHead(BL).state_dict().items()}
    state = patterned_state(shapes)
    head = load_official(saved(tmp_path / "bl.pth", state))
    assert head.config == BL
    mask_tokens, image_tokens, words = patterned_inputs(tokens, 1024, 768)
    exact = written_out(
        {n: t.double() for n, t in state.items()}, mask_tokens[0].double(), image_tokens[0].double()
    )
    cosine = F.normalize(head(mask_tokens, image_tokens)[0], dim=-1) @ words.T
    expected = F.normalize(exact, dim=-1).float() @ words.T
    torch.testing.assert_close(cosine, expected, rtol=0, atol=1e-5)


def inputs(rows: int = 5, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(2, rows, HEAD.token_width, generator=generator),
        torch.randn(2, 17, HEAD.map_width, generator=generator),
    )


@pytest.mark.parametrize("regions_attend", [True, False])
def test_padding_and_batch_mates_change_nothing(regions_attend: bool) -> None:
    head = seeded_head(replace(HEAD, regions_attend=regions_attend))
    tokens, memory = inputs()
    padded = torch.cat([tokens, torch.full((2, 4, HEAD.token_width), 9.0)], dim=1)
    padding = torch.arange(9)[None].expand(2, -1) >= torch.tensor([[5], [2]])
    output = head(padded, memory, padding)
    for image, count in enumerate((5, 2)):
        alone = head(tokens[image : image + 1, :count], memory[image : image + 1])[0]
        torch.testing.assert_close(output[image, :count], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("regions_attend", [True, False])
def test_an_image_without_regions_stays_finite(regions_attend: bool) -> None:
    head = seeded_head(replace(HEAD, regions_attend=regions_attend))
    tokens, memory = inputs()
    padding = torch.tensor([[False] * 5, [True] * 5])
    assert head(tokens, memory, padding).isfinite().all()
    assert head(tokens[:, :0], memory).shape == (2, 0, HEAD.text_width)


def test_permuting_the_regions_permutes_the_result() -> None:
    head = seeded_head()
    tokens, memory = inputs()
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted, output = head(tokens[:, order], memory), head(tokens, memory)
    torch.testing.assert_close(permuted, output[:, order], rtol=0, atol=1e-5)


def test_without_class_token_only_the_map_is_read() -> None:
    tokens, memory = inputs()
    other = torch.cat([memory[:, :1] + 5, memory[:, 1:]], dim=1)
    reads, ignores = seeded_head(), seeded_head(replace(HEAD, class_token=False))
    assert relative_error(reads(tokens, other), reads(tokens, memory)) > 1e-3
    assert torch.equal(ignores(tokens, other), ignores(tokens, memory))
    torch.testing.assert_close(ignores(tokens, memory), reads(tokens, memory[:, 1:]))


def test_without_map_the_token_alone_is_projected() -> None:
    head = seeded_head(replace(HEAD, read_map=False))
    tokens, memory = inputs()
    expected = head.projector(head.to_clip(tokens))
    torch.testing.assert_close(head(tokens, memory), expected)
    assert torch.equal(head(tokens, memory + 1), head(tokens, memory))


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_depth_is_the_number_of_layers(depth: int) -> None:
    head = seeded_head(replace(HEAD, depth=depth))
    called: list[int] = []
    for number, layer in enumerate(head.decoder.layers):
        layer.register_forward_hook(lambda *_, number=number: called.append(number))
    head(*inputs())
    assert called == list(range(depth))


def test_regions_see_each_other_only_where_they_may() -> None:
    together, apart = seeded_head(), seeded_head(replace(HEAD, regions_attend=False))
    tokens, memory = inputs()
    changed = tokens.clone()
    changed[:, 0] += 1
    difference = (together(changed, memory) - together(tokens, memory))[:, 1:]
    assert difference.abs().max() > 1e-4
    torch.testing.assert_close(
        apart(changed, memory)[:, 1:], apart(tokens, memory)[:, 1:], rtol=0, atol=1e-6
    )
    one_by_one = torch.cat([together(tokens[:, i : i + 1], memory) for i in range(5)], dim=1)
    torch.testing.assert_close(apart(tokens, memory), one_by_one, rtol=0, atol=1e-5)


@dataclass(frozen=True)
class Features:
    """Inputs of one image."""

    tokens: torch.Tensor
    memory: torch.Tensor
    pooled: torch.Tensor | None = None
    prior: torch.Tensor | None = None


def test_regions_of_a_batch_are_those_of_each_image() -> None:
    head = seeded_head()
    tokens, memory = inputs()
    batch = [Features(tokens[0], memory[0]), Features(tokens[1, :2].half(), memory[1].half())]
    found = head.regions(batch)
    assert [len(each.embedding) for each in found] == [5, 2]
    for each, image in zip(found, batch, strict=True):
        expected = head(image.tokens[None].float(), image.memory[None].float())[0]
        torch.testing.assert_close(each.embedding, F.normalize(expected, dim=-1))
        assert each.class_logits is None
