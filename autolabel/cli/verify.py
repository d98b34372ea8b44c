"""`autolabel verify`."""

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import EXIT_ALL_LABELLED, app
from integrations.failures import EXIT_NOT_STARTED


@app.command()
def verify(run: shared.Run) -> None:
    """Check that every file of a run is there with the bytes that the run wrote.

    `autolabel run` or `relabel` with the same arguments makes again what was lost or changed.

    Exit code: 0 all are, 1 one is not, or the run is not complete.
    """
    from autolabel.run.manifest import damaged_files, read_manifest
    from integrations.output import print_line

    manifest = read_manifest(run)
    damaged = damaged_files(run, manifest)
    for name in damaged:
        print_line(f"lost or changed: {run / name}")
    number = len(manifest.shards) + len(manifest.files)
    print_line(f"{number - len(damaged)} of {number} files are whole; the run is {manifest.status}")
    whole = manifest.is_complete and not damaged
    raise typer.Exit(EXIT_ALL_LABELLED if whole else EXIT_NOT_STARTED)
