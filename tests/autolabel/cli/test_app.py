"""The command line answers at once, and says what it can do."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autolabel.cli.app import main, other_distributions
from tests.autolabel.helpers import Autolabel


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, autolabel.cli;"
        "print([name for name in ('torch', 'fiftyone', 'numpy', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize("arguments", [["--help"], ["models", "list"]])
def test_it_answers_within_a_second_of_the_processor(arguments: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "autolabel", *arguments]
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_help_names_every_command(autolabel_cli: Autolabel) -> None:
    output = autolabel_cli("--help").output
    for command in ("run", "relabel", "review", "export", "models"):
        assert f" {command} " in output


def test_the_version_is_that_of_the_distribution(autolabel_cli: Autolabel) -> None:
    from importlib.metadata import version

    output = autolabel_cli("--version").output
    assert output == f"autolabel {version('regionspot-autolabel')}\n"


def test_a_command_that_is_not_understood_is_exit_code_2(autolabel_cli: Autolabel) -> None:
    assert autolabel_cli("label").exit_code == 2
    assert autolabel_cli("run", "photos").exit_code == 2


def test_listing_weights_imports_no_torch() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from autolabel.cli import app;"
        "CliRunner().invoke(app, ['models', 'list']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"False\n"


@pytest.mark.parametrize(
    "files",
    [
        {"entry_points.txt": "[console_scripts]\nautolabel = autolabel.cli.main:main\n"},
        {"top_level.txt": "autolabel\n"},
        {"RECORD": "autolabel_x.py,,\nautolabel/__init__.py,sha256=x,1\n"},
    ],
)
def test_another_distribution_with_an_autolabel_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str],
) -> None:
    assert other_distributions() == []
    folder = tmp_path / "refuel_autolabel-0.0.16.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: refuel-autolabel\nVersion: 0.0.16\n")
    for name, content in files.items():
        (folder / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["autolabel", "--version"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("autolabel ")
    assert captured.err.count("\n") == 1
    assert "pip uninstall refuel-autolabel" in captured.err


# The shell's variable is named after the program.
AUTOLABEL = "import sys; sys.argv[0] = 'autolabel'; from autolabel.cli import main; main()"


def complete(typed: str) -> list[str]:
    """What bash is offered for a line whose last word is being typed."""
    done = subprocess.run(
        [sys.executable, "-c", AUTOLABEL],
        env={
            **os.environ,
            "_AUTOLABEL_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.stdout.split()


def test_bash_completes_commands_and_options() -> None:
    assert complete("autolabel re") == ["relabel", "review"]
    assert {"--vocab", "--json", "--limit"} <= set(complete("autolabel run --"))


def test_the_completion_script_of_bash_is_sound(tmp_path: Path) -> None:
    environment = {**os.environ, "_AUTOLABEL_COMPLETE": "source_bash"}
    done = subprocess.run(
        [sys.executable, "-c", AUTOLABEL], env=environment, capture_output=True, check=False
    )
    assert b"complete" in done.stdout
    assert b"autolabel" in done.stdout
    subprocess.run(["bash", "-n"], input=done.stdout, check=True)


def test_ctrl_c_is_exit_code_130(words: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    # A pipe that nobody writes to: the command waits for its words.
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    command = ["run", str(photos), "--vocab", str(pipe), "--no-fiftyone", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", AUTOLABEL, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with pipe.open("w"):  # returns once the command reads
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == '{"error": "stopped"}\n'
    assert err.startswith("stopped")
