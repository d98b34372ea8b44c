"""The command line answers at once, and says what it can do."""

import subprocess
import sys

from tests.autolabel.helpers import Autolabel


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, autolabel.cli;"
        "print([name for name in ('torch', 'fiftyone', 'numpy', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


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
