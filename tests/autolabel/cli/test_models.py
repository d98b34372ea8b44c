"""`autolabel models`: the weights in the cache, by real files."""

from pathlib import Path

import pytest

from regionspot.weights import WEIGHTS, cached_path
from tests.autolabel.helpers import Autolabel
from tests.regionspot.factories import tiny_open_clip

SMALL = "minilm-tokenizer"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_list_shows_every_file_and_whether_it_is_here(
    autolabel_cli: Autolabel, empty_cache: Path
) -> None:
    autolabel_cli("models", "pull", SMALL)
    lines = autolabel_cli("models", "list").output.splitlines()
    here = {line.split()[0]: line.split()[-1] for line in lines if line.split()[0] in WEIGHTS}
    assert here == dict.fromkeys(WEIGHTS, "no") | {SMALL: "yes"}


def test_pull_and_verify(autolabel_cli: Autolabel, empty_cache: Path) -> None:
    assert f"{SMALL}: not here" in autolabel_cli("models", "verify", SMALL).output
    assert autolabel_cli("models", "pull", SMALL).exit_code == 0
    result = autolabel_cli("models", "verify", SMALL)
    assert (result.exit_code, result.output) == (0, f"{SMALL}: sound\n")


def test_verify_names_a_file_that_was_changed(autolabel_cli: Autolabel, empty_cache: Path) -> None:
    autolabel_cli("models", "pull", SMALL)
    path = cached_path(WEIGHTS[SMALL])
    path.write_bytes(path.read_bytes() + b" ")
    result = autolabel_cli("models", "verify")
    assert result.exit_code == 1
    assert f"{SMALL}: not what it should be" in result.stdout
    assert str(path) in result.stderr
    assert path.exists()


@pytest.mark.parametrize("command", ["pull", "verify"])
def test_unknown_weights_are_one_line(autolabel_cli: Autolabel, command: str) -> None:
    result = autolabel_cli("models", command, "none")
    assert result.exit_code == 1
    assert "unknown weights 'none'; listed are mobile-sam-encoder" in result.stderr


def test_a_dry_run_tells_which_weights_are_fetched_first(
    autolabel_cli: Autolabel, empty_cache: Path, words: Path, tmp_path: Path
) -> None:
    from autolabel.demo import write_photos

    photos = write_photos(tmp_path / "photos", ["cat"])
    result = autolabel_cli("run", photos, "--vocab", words, "--dry-run")
    assert "fetched first: mobile-sam-encoder, mobile-sam-decoder" in result.output
    assert not empty_cache.exists()


def test_pull_names_the_weights_that_open_clip_keeps(
    autolabel_cli: Autolabel, tmp_path: Path
) -> None:
    weights = tiny_open_clip(tmp_path, "tiny-pulled")
    result = autolabel_cli("models", "pull", "--preset", f"openclip:tiny-pulled/{weights}")
    assert result.exit_code == 0, result.output
    lines = dict(line.rsplit(": ", 1) for line in result.stdout.splitlines())
    assert lines[f"openclip:tiny-pulled/{weights}"] == str(weights)
    assert {"nanodet-graph", "mobile-sam-encoder"} < lines.keys()
    result = autolabel_cli("models", "pull", "--preset", "openclip:ViT-B-16/none")
    assert result.exit_code == 1
    assert "there is no file 'none', and open_clip knows no such weights" in result.stderr
