"""`autolabel models`: the frozen weights of the presets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from autolabel.cli.app import Commands, app, out_console, print_line

models = typer.Typer(
    cls=Commands, no_args_is_help=True, help="List, fetch and check the frozen weights."
)
app.add_typer(models, name="models")

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Names that `list` shows.")
]
Preset = Annotated[str, typer.Option(help="Preset whose files are pulled, where no NAME is given.")]


@models.command("list")
def list_weights() -> None:
    """Show every file: its presets, size and licence, and whether it is in the cache."""
    from regionspot.weights import WEIGHTS, cache_folder, cached_path

    table = Table("name", "used by", "MB", "licence", "here", box=None, padding=(0, 2, 0, 0))
    for file in WEIGHTS.values():
        here = "yes" if cached_path(file).exists() else "no"
        used_by = ", ".join(file.used_by) or "by configuration"
        table.add_row(file.name, used_by, str(file.megabytes), file.licence, here)
    out_console().print(table)
    print_line(f"folder: {cache_folder()}")


@models.command()
def pull(names: Names = None, preset: Preset = "mini") -> None:
    """Fetch files into the cache, each checked against its sha256."""
    from regionspot.weights import pull as pull_file

    for name in names or needed(preset):
        print_line(f"{name}: {pull_file(name)}")


@models.command()
def verify(names: Names = None) -> None:
    """Read every file in the cache again and compare its sha256."""
    from regionspot.errors import InputError
    from regionspot.weights import WEIGHTS
    from regionspot.weights import verify as verify_file

    if unknown := [name for name in names or () if name not in WEIGHTS]:
        raise InputError(f"unknown weights {unknown[0]!r}; listed are {', '.join(WEIGHTS)}")
    wrong = []
    for name in names or WEIGHTS:
        try:
            state = "sound" if verify_file(WEIGHTS[name]) else "not here"
        except InputError as error:
            state = "not what it should be"
            wrong.append(str(error))
        print_line(f"{name}: {state}")
    if wrong:
        raise InputError("; ".join(wrong))


@models.command("import")
def import_head(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A released checkpoint.", show_default=False)
    ],
    preset: Annotated[
        str, typer.Option(help="bb, bl or bl-336: the preset of the head.", show_default=False)
    ],
) -> None:
    """Extract the head of a released RegionSpot checkpoint, so that its preset can run."""
    from regionspot.checkpoint import import_official

    written = import_official(file, preset)
    print_line(f"wrote {written}")


def needed(preset: str) -> list[str]:
    """Names of the files that a preset needs."""
    from regionspot.config import preset as preset_of
    from regionspot.weights import WEIGHTS

    name = preset_of(preset).name
    return [file.name for file in WEIGHTS.values() if name in file.used_by]
