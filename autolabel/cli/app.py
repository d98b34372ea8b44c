"""The root of all commands: exit codes, consoles, and an InputError as one line."""

import sys
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

if TYPE_CHECKING:
    from integrations.progress import RichReporter

EXIT_ALL_LABELLED, EXIT_NOT_STARTED, EXIT_SOME_SKIPPED = 0, 1, 3
EXIT_INTERRUPTED = 130
# The order of the help.
COMMANDS = (
    "run",
    "relabel",
    "review",
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


class Commands(TyperGroup):
    """A group of commands that reports unusable input in one line, with exit code 1."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of `COMMANDS`; others follow as they were added."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: [*COMMANDS, name].index(name))

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except ValueError as error:
            from regionspot.errors import InputError  # brings torch, which takes seconds

            if not isinstance(error, InputError):
                raise
            # Not through rich: it would break the line at the console's width.
            sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
            raise typer.Exit(EXIT_NOT_STARTED) from error
        except KeyboardInterrupt:
            sys.stderr.write("stopped; the same command resumes `autolabel run`\n")
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:
    """Options of the program itself."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"autolabel {version_of('regionspot-autolabel')}")
        raise typer.Exit


def main() -> None:
    """What the console script `autolabel` runs."""
    app()


def out_console() -> Console:
    """The console of results."""
    return Console()


def progress() -> "RichReporter":
    """A reporter on the standard error, apart from the results; a context manager."""
    from integrations.progress import RichReporter

    return RichReporter(Console(stderr=True))


def print_line(text: str) -> None:
    """Print a result as it is, in one line whatever the console's width."""
    out_console().print(text, soft_wrap=True, highlight=False, markup=False)
