"""The command line: a command parses, calls one function and prints what that returns.

Whatever takes long to import is imported inside the commands, so that `--help` answers at once.
"""

from autolabel.cli import (  # noqa: F401
    convert,
    evaluate,
    explain,
    export,
    models,
    relabel,
    review,
    run,
    train,
    verify,
)
from autolabel.cli.app import app, main

__all__ = ["app", "main"]
