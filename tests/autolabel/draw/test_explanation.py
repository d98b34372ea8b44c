"""The page of the head's attention, on a small model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from autolabel.cli import app
from autolabel.draw import explanation as explaining
from regionspot.config import PRESETS
from regionspot.errors import InputError
from regionspot.model import load_model
from regionspot.types import Proposals
from tests.regionspot.factories import CONFIG, noise_image, seeded_head, small_model


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an image and words; the small model takes the place of every preset."""
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(explaining, "load_model", lambda *_: small_model())
    Image.fromarray(noise_image(120, 200)).save(tmp_path / "image.png")
    words = ["cat: kitten", "dog", "cow", "horse", "bird", "bear"]
    (tmp_path / "words.txt").write_text("\n".join(words))
    return tmp_path


def explained(folder: Path, *boxes: str, out: str = "deep/page.png") -> list:
    return explaining.explain(folder / "image.png", folder / "words.txt", folder / out, boxes)


def test_page_shows_each_region_with_its_five_best_words(files: Path) -> None:
    first, second = explained(files, "10,20,90.5,110", "0,0,200,120")
    assert first.box.tolist() == [10, 20, 90.5, 110]
    assert len(first.words) == 5
    probabilities = [probability for _, probability in first.words]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1.0001
    assert 0 <= second.presence <= 1
    assert second.attention.shape == (4, 4)
    assert second.attention.sum() + second.class_token == pytest.approx(1, abs=1e-5)
    with Image.open(files / "deep" / "page.png") as page:
        two_rows = page.height
        assert page.width > 1000
    assert [path.name for path in (files / "deep").iterdir()] == ["page.png"]
    explained(files, "10,20,90,110")
    with Image.open(files / "deep" / "page.png") as page:
        assert page.height < two_rows


def detector_that_finds(boxes: list[list[float]]) -> Callable[..., object]:
    found = Proposals(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32))

    class Detector:
        def detect(self, image: np.ndarray) -> Proposals:
            return found

    return lambda name, **options: Detector()


def test_without_boxes_the_detectors_best_are_shown(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [[i, 0, 50 + i, 50] for i in range(9)]
    monkeypatch.setattr(explaining, "build_detector", detector_that_finds(boxes))
    assert [e.box.tolist() for e in explained(files)] == boxes[: explaining.PROPOSED_BOXES]
    monkeypatch.setattr(explaining, "build_detector", detector_that_finds([]))
    with pytest.raises(InputError, match="found no box in the image; give one with --box"):
        explained(files)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("1,2,3", "--box must be x1,y1,x2,y2 in pixels, got '1,2,3'"),
        ("a,b,c,d", "--box must be x1,y1,x2,y2"),
        ("9,9,5,5", "must have x1 < x2"),
        ("0,0,999,9", "must lie inside the image of 200 x 120 pixels"),
    ],
)
def test_boxes_that_cannot_be_used(files: Path, box: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        explained(files, box)
    assert not (files / "deep").exists()


def test_out_must_be_a_png(files: Path) -> None:
    with pytest.raises(InputError, match=r"--out must name a \.png file, got .*page\.jpg"):
        explained(files, "0,0,9,9", out="page.jpg")


def test_command_explains_and_answers_in_one_line(files: Path) -> None:
    arguments = ["explain", str(files / "image.png"), "--vocab", str(files / "words.txt")]
    arguments += ["--out", str(files / "page.png"), "--box"]
    done = CliRunner().invoke(app, [*arguments, "10,20,90,110"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("10,20,90,110: ")
    assert f"wrote {files / 'page.png'}" in done.output
    refused = CliRunner().invoke(app, [*arguments, "1,2"])
    assert refused.exit_code == 1
    assert refused.stderr == "error: --box must be x1,y1,x2,y2 in pixels, got '1,2'\n"


def test_command_imports_a_released_head(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "bl", CONFIG)
    torch.save({"model": seeded_head().state_dict()}, files / "x.pth")
    done = CliRunner().invoke(app, ["models", "import", str(files / "x.pth"), "--preset", "bl"])
    assert done.exit_code == 0, done.output
    assert (files / "cache" / "heads" / "bl.safetensors").exists()
    torch.save({"model": {"to_clip.weight": torch.ones(1)}}, files / "y.pth")
    refused = CliRunner().invoke(app, ["models", "import", str(files / "y.pth"), "--preset", "bl"])
    assert refused.exit_code == 1
    assert "lacks keys of the head" in refused.stderr


def test_the_head_that_is_asked_for_is_loaded(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "load_model", load_model)
    image, words, page = files / "image.png", files / "words.txt", files / "page.png"
    with pytest.raises(InputError, match=r"mine\.safetensors"):
        explaining.explain(image, words, page, checkpoint=files / "mine.safetensors")
