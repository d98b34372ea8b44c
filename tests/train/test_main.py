"""`autolabel train` and `python -m train` are the same commands."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from autolabel.cli import app
from integrations.failures import raise_at_sigterm
from train.__main__ import app as training
from train.__main__ import main

STAGE2 = ["stage2", "--data", "a=2", "--data", "b=1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stage1", "--data", "a", "--data", "b"], "stage 1 trains on one data set, got 2"),
        (STAGE2, "head.safetensors is not there: train stage1 first"),
        (["mini", "--data", "a", "--set", "rate=1"], "there is no setting 'rate'; there are"),
        (["mini", "--data", "a", "--data", "b=1"], "give a ratio above 0 to every --data"),
        (["stage1", "--data", "a", "--preset", "huge"], "unknown model 'huge'"),
        (["mini", "--data", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_is_one_line_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["train", *arguments])
    assert found.exit_code == 1
    monkeypatch.setattr("sys.argv", ["train", *arguments])
    with pytest.raises(SystemExit, match="1"):
        main()
    for said in (found.output, capsys.readouterr().err):
        (line,) = said.splitlines()
        assert line.startswith("error: ")
        assert message in line
    assert not any(tmp_path.iterdir())


def test_help_is_that_of_the_recipes() -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["train", "stage2", "--help"], prog_name="autolabel").output
    assert "stage 1's head" in shown
    assert "autolabel train stage2" in shown
    assert runner.invoke(app, ["train", "stage3"]).exit_code == 2


def test_autolabel_offers_all_commands() -> None:
    shown = CliRunner().invoke(app, ["train", "--help"]).output
    commands = [each.name or str(each.callback.__name__) for each in training.registered_commands]
    assert len(commands) == 12
    for name in commands:
        assert f" {name.replace('_', '-')} " in shown


@pytest.fixture
def handled_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    raise_at_sigterm()
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("handled_signals")
@pytest.mark.parametrize(
    ("commands", "name", "arguments"),
    [
        (app, "autolabel", ["train", "mini"]),
        (app, "autolabel", ["train", "extract"]),
        (training, "python -m train", ["stage1"]),
    ],
)
def test_sigterm_is_one_line_that_names_the_command(
    tmp_path: Path, commands: typer.Typer, name: str, arguments: list[str]
) -> None:
    pipe = tmp_path / "instances.json"
    os.mkfifo(pipe)

    def stop() -> None:
        with pipe.open("w"):  # returns once the command reads
            os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    found = CliRunner().invoke(commands, [*arguments, "--data", str(pipe)], prog_name=name)
    stopper.join()
    assert found.exit_code == 143
    command = " ".join((name, *arguments))
    assert found.output.endswith(f"stopped; give `{command}` again, which keeps what is finished\n")
