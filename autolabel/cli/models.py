"""`autolabel models`: the frozen weights of the presets."""

from pathlib import Path
from typing import Annotated

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import Commands, app

models = typer.Typer(
    cls=Commands, no_args_is_help=True, help="List, fetch and check the frozen weights."
)
app.add_typer(models, name="models")

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Names that `list` shows.")
]
Preset = Annotated[str, typer.Option(help="Preset whose files are pulled, where no NAME is given.")]


@models.command("list")
def list_weights(as_json: shared.Json = False) -> None:
    """Show every file: its presets, size and licence, and whether it is in the cache."""
    from rich.table import Table

    from integrations.output import Output
    from regionspot.weights import WEIGHTS, cache_folder, cached_path

    with Output(as_json) as output:
        table = Table("name", "used by", "MB", "licence", "here", box=None, padding=(0, 2, 0, 0))
        found = []
        for file in WEIGHTS.values():
            is_here = cached_path(file).exists()
            used_by = ", ".join(file.used_by) or "by configuration"
            here = "yes" if is_here else "no"
            table.add_row(file.name, used_by, str(file.megabytes), file.licence, here)
            found.append(
                {
                    "name": file.name,
                    "used_by": file.used_by,
                    "megabytes": file.megabytes,
                    "licence": file.licence,
                    "here": is_here,
                }
            )
        output.show(table)
        output.line(f"folder: {cache_folder()}")
        output.summary({"folder": cache_folder(), "files": found})


@models.command()
def pull(
    names: Names = None,
    preset: Preset = "mini",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Fetch files into the cache, each checked against its sha256."""
    from integrations.output import Output
    from regionspot.weights import pull as pull_file

    with Output(as_json, quiet) as output:
        found = []
        for name in names or needed(preset):
            path = pull_file(name)
            output.line(f"{name}: {path}")
            found.append({"name": name, "path": path})
        if not names and (weights := unlisted_weights(preset)):
            output.line(f"{preset}: {weights}")
            found.append({"name": preset, "path": weights})
        output.summary({"files": found})


@models.command()
def verify(names: Names = None, as_json: shared.Json = False, quiet: shared.Quiet = False) -> None:
    """Read every file in the cache again and compare its sha256."""
    from integrations.output import Output
    from regionspot.errors import InputError
    from regionspot.weights import WEIGHTS
    from regionspot.weights import verify as verify_file

    with Output(as_json, quiet) as output:
        if unknown := [name for name in names or () if name not in WEIGHTS]:
            raise InputError(f"unknown weights {unknown[0]!r}; listed are {', '.join(WEIGHTS)}")
        found, wrong = [], []
        for name in names or WEIGHTS:
            try:
                state = "sound" if verify_file(WEIGHTS[name]) else "not here"
            except InputError as error:
                state = "not what it should be"
                wrong.append(str(error))
            output.line(f"{name}: {state}")
            found.append({"name": name, "state": state})
        if wrong:
            raise InputError("; ".join(wrong))
        output.summary({"files": found})


@models.command("import")
def import_head(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A released checkpoint.", show_default=False)
    ],
    preset: Annotated[
        str, typer.Option(help="bb, bl or bl-336: the preset of the head.", show_default=False)
    ],
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Extract the head of a released RegionSpot checkpoint, so that its preset can run."""
    from integrations.output import Output

    with Output(as_json, quiet) as output:
        from regionspot.checkpoint import import_official

        written = import_official(file, preset)
        output.line(f"wrote {written}")
        output.summary({"path": written})


def needed(preset: str) -> list[str]:
    """Names of the files that a preset needs."""
    from regionspot.config import model_config
    from regionspot.weights import files_of

    return [file.name for file in files_of(model_config(preset).name)]


def unlisted_weights(preset: str) -> Path | None:
    """The file of a preset that open_clip fetches and keeps; None where all files are listed."""
    from regionspot.config import CropConfig, model_config
    from regionspot.weights import lists_clip

    config = model_config(preset)
    if not isinstance(config, CropConfig) or lists_clip(config.name):
        return None
    from regionspot.encoders.open_clip_weights import find_tokenizer, find_weights

    find_tokenizer(config.encoder.model)
    return find_weights(config.encoder)
