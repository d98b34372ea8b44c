"""The root of all commands: exit codes, and failures as one line."""

import io
import os
import re
import sys
from typing import Any

import typer

from integrations.failures import CommandGroup, raise_at_sigterm

EXIT_ALL_LABELLED, EXIT_SOME_SKIPPED = 0, 3  # others: `integrations.failures`
DISTRIBUTION = "regionspot-autolabel"
COMMAND = re.compile(r"^autolabel\s*=", re.MULTILINE)  # in entry_points.txt
# The order of the help.
COMMANDS = (
    "run",
    "relabel",
    "review",
    "audit",
    "accept",
    "export",
    "convert",
    "verify",
    "evaluate",
    "explain",
    "train",
)

HELP = """
Label a folder of images with your own words: boxes, masks and scores in FiftyOne, COCO and LVIS.

    autolabel run photos --vocab words.txt     label
    autolabel review runs/photos               review labels of low confidence
    autolabel export runs/photos --out coco    write them for training
"""


class Commands(CommandGroup):
    """The tool's commands in the order of their use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of `COMMANDS`; others follow as they were added."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: [*COMMANDS, name].index(name))


app = typer.Typer(
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:
    """Options of the program itself."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"autolabel {version_of(DISTRIBUTION)}")
        raise typer.Exit


def main() -> None:
    """What the console script `autolabel` runs."""
    raise_at_sigterm()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may not fit into the locale's encoding
            stream.reconfigure(errors="backslashreplace")
    # A shell that asks for completions shows what comes in the middle of the typed line.
    for name in () if "_AUTOLABEL_COMPLETE" in os.environ else other_distributions():
        sys.stderr.write(
            f"warning: the distribution {name} has a command or package `autolabel`, too, and one "
            f"hides the other; `pip uninstall {name}` and install {DISTRIBUTION} again, or give "
            "each an environment of its own\n"
        )
    app(prog_name="autolabel")


def other_distributions() -> list[str]:
    """Names of other distributions here that install a command or a package `autolabel`."""
    from importlib.metadata import distributions

    found = set()
    for each in distributions():
        # Parsing every list of files, as `packages_distributions` does, would take a second.
        packages = each.read_text("top_level.txt")
        has_package = (
            "\nautolabel/" in (each.read_text("RECORD") or "")
            if packages is None
            else "autolabel" in packages.split()
        )
        if has_package or COMMAND.search(each.read_text("entry_points.txt") or ""):
            found.add(each.name)
    return sorted(found - {DISTRIBUTION})
