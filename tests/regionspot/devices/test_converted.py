"""Towers computed by OpenVINO and ONNX Runtime against torch, and their cache."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from regionspot.devices.converted import ConvertedRuntime, ConvertedTower
from regionspot.devices.runtime import CONVERTERS, Runtime, build_runtime
from regionspot.encoders.mini import CROP_SIDE, _build_image_tower, _Maps
from regionspot.errors import InputError
from regionspot.localizers.mobile_sam import build_mobile_sam
from regionspot.localizers.sam import SamLocalizer
from tests.regionspot.factories import relative_error

Made = Callable[..., ConvertedTower]
SIDE = 128  # of which 32 squares are computed together


class Untraceable(nn.Module):
    """A module whose trace fails."""

    def forward(self, squares: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no trace")


@pytest.fixture(params=CONVERTERS)
def runtime(request: pytest.FixtureRequest) -> Callable[[], ConvertedRuntime]:
    """Builds a runtime of a kind, which then knows no tower."""
    return lambda: build_runtime(request.param)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small_tower(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 4, 1)]
    tower = nn.Sequential(*layers).eval().requires_grad_(False)
    return tower.to(memory_format=torch.channels_last)


@pytest.fixture
def made(runtime: Callable[[], ConvertedRuntime]) -> Callable[..., ConvertedTower]:
    return lambda module, side=SIDE: runtime().tower("small", module, torch.float32, (side,))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("count", [0, 1, 32, 35])
def test_any_number_of_squares_agrees_with_torch(made: Made, count: int) -> None:
    module = small_tower()
    squares = torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    found = made(module)(squares.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, module(squares), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("cache")
def test_large_squares_are_computed_one_by_one(made: Made) -> None:
    module, squares = small_tower(), torch.randn(2, 3, 768, 768)
    tower = made(module, 768)
    torch.testing.assert_close(tower(squares), module(squares), rtol=1e-4, atol=1e-5)


def test_a_tower_is_converted_once(
    cache: Path, runtime: Callable[[], ConvertedRuntime], made: Made
) -> None:
    said: list[str] = []
    for _ in range(2):
        found = runtime()
        found.tower("small", small_tower(), torch.float32, (SIDE,))
        found.prepare(said.append)
    title = CONVERTERS[found.engine.kind]
    assert said == [f"converting the image towers for {title}, which is done once"]
    (folder,) = (cache / found.engine.kind).iterdir()
    assert folder == made(small_tower()).folder(SIDE)
    assert {path.name for path in folder.iterdir()} == {*found.engine.files, "sha256.json"}


def test_other_weights_and_sides_have_other_folders(cache: Path, made: Made) -> None:
    first, other = made(small_tower(0)), made(small_tower(1))
    assert len({first.folder(SIDE), other.folder(SIDE), first.folder(64)}) == 3
    assert first.folder(SIDE) == made(small_tower(0)).folder(SIDE)
    assert first.folder(SIDE).is_relative_to(cache)


@pytest.mark.usefixtures("cache")
def test_what_is_damaged_is_converted_again(made: Made) -> None:
    squares, expected = torch.ones(1, 3, SIDE, SIDE), small_tower()(torch.ones(1, 3, SIDE, SIDE))
    tower = made(small_tower())
    tower(squares)
    for name in tower.engine.files:
        path = tower.folder(SIDE) / name
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        again = made(small_tower())
        assert not again.is_ready(SIDE)
        torch.testing.assert_close(again(squares), expected, rtol=1e-4, atol=1e-5)
        assert made(small_tower()).is_ready(SIDE)


def test_a_cache_that_cannot_be_written_costs_no_result(cache: Path, made: Made) -> None:
    cache.mkdir()
    for kind in CONVERTERS:
        (cache / kind).write_text("a file where the folder should be")
    module, squares = small_tower(), torch.ones(1, 3, SIDE, SIDE)
    torch.testing.assert_close(made(module)(squares), module(squares), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("cache")
def test_what_cannot_be_converted_is_said_in_one_line(
    runtime: Callable[[], ConvertedRuntime],
) -> None:
    found = runtime()
    found.tower("untraceable", Untraceable(), torch.float32, (SIDE,))
    with pytest.raises(InputError) as caught:
        found.prepare(lambda _: None)
    title = CONVERTERS[found.engine.kind]
    assert str(caught.value).startswith(
        f"{title} cannot compute the tower untraceable (no trace); say "
    )


def test_the_image_tower_of_mini_agrees_with_torch(
    runtime: Callable[[], Runtime], photo: Callable[[str], Image.Image]
) -> None:
    module = _Maps(_build_image_tower())
    crop = np.asarray(photo("chelsea").resize((CROP_SIDE, CROP_SIDE)))
    squares = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    found = runtime().tower("efficientnet-lite2", module, torch.float32, ())(squares)
    assert relative_error(found, module(squares)) < 1e-4


def test_mobile_sam_agrees_with_torch(
    runtime: Callable[[], Runtime], photo: Callable[[str], Image.Image]
) -> None:
    sam, image = build_mobile_sam(), np.asarray(photo("chelsea"))
    expected = SamLocalizer(sam).encode(image)
    found = SamLocalizer(sam, runtime=runtime()).encode(image)
    assert relative_error(found.features, expected.features) < 1e-4
    assert (found.input_width, found.input_height) == (
        expected.input_width,
        expected.input_height,
    )
