"""The environment of the other projects' readers, which `make test-interop` makes."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PYTHON = Path(os.environ.get("INTEROP_PYTHON", ".venv-interop/bin/python")).absolute()


@pytest.fixture
def run_there() -> Callable[..., str]:
    """Runs a program in that environment with some arguments, and returns what it printed."""
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing; run make test-interop")

    def run(program: str, *arguments: str, **environment: str) -> str:
        ran = subprocess.run(
            [PYTHON, "-c", program, *arguments],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run
