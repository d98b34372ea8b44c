"""The command line. A command parses, calls one function and shows what it returns.

Whatever takes long to import is imported inside the commands, so that `--help` answers at once.
"""

from autolabel.cli import evaluate, explain, label, models, results, train
from autolabel.cli.app import app, main

__all__ = ["app", "evaluate", "explain", "label", "main", "models", "results", "train"]
