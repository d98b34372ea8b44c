"""The command line, and a finished run that many tests read."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import autolabel.cluster.ray_workers
import autolabel.run.pipeline
import autolabel.run.relabel
from autolabel.cli import app
from autolabel.demo import write_photos
from tests.autolabel.helpers import PHOTOS, WORDS, Autolabel, FinishedRun
from tests.autolabel.towers import remember_towers


@pytest.fixture(scope="session", autouse=True)
def one_model() -> Iterator[None]:
    """The real model, loaded once for all commands of this process: it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        remember_towers(patch)
        load = cache(autolabel.run.pipeline.load_model)
        patch.setattr(autolabel.run.pipeline, "load_model", load)
        patch.setattr(autolabel.run.relabel, "load_model", load)
        patch.setattr(autolabel.cluster.ray_workers, "load_model", load)
        yield


@pytest.fixture(scope="session")
def autolabel_cli() -> Autolabel:
    """Runs a command as a shell would, in this process; the result has exit_code and output."""

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "120"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture(scope="session")
def finished(autolabel_cli: Autolabel, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """One run for all tests that do not change it."""
    folder = tmp_path_factory.mktemp("finished")
    words = folder / "words.txt"
    words.write_text(WORDS, encoding="utf-8")
    photos = write_photos(folder / "photos", PHOTOS)
    run = FinishedRun(folder / "first run", photos, words, "")
    result = autolabel_cli(*run.command)
    assert result.exit_code == 0, result.output
    return FinishedRun(run.folder, photos, words, result.output)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A file of words."""
    path = tmp_path / "words.txt"
    path.write_text(WORDS, encoding="utf-8")
    return path


@pytest.fixture
def coarse(autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path) -> Path:
    """The finished run with other words: a run that a test may change."""
    words = tmp_path / "coarse.txt"
    words.write_text("animal: cat, horse\nvehicle: motorcycle, rocket\n")
    out = tmp_path / "coarse run"
    result = autolabel_cli(
        *("relabel", finished.folder, "--vocab", words, "--out", out),
        *("--label-field", f"coarse_{os.urandom(4).hex()}"),
    )
    assert result.exit_code == 0, result.output
    return out
