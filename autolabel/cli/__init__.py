"""The command line: a command parses, calls one function and prints what that returns.

Whatever takes long to import is imported inside the commands, so that `--help` answers at once.
"""

from autolabel.cli import (
    convert,
    evaluate,
    explain,
    export,
    models,
    relabel,
    review,
    run,
    train,
)
from autolabel.cli.app import app, main

__all__ = [
    "app",
    "convert",
    "evaluate",
    "explain",
    "export",
    "main",
    "models",
    "relabel",
    "review",
    "run",
    "train",
]
