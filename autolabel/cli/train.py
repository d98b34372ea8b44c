"""`autolabel train`: the recipes of `python -m train` under the tool's own name."""

import typer

from autolabel.cli.app import app

# All that follows is the training's own, its --help too.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=PASSED_ON)
def train(context: typer.Context) -> None:
    """Train a head on your own boxes: `autolabel train mini --data FOLDER`; --help says more."""
    from train.__main__ import app as training

    training(context.args, prog_name="autolabel train", standalone_mode=False)
