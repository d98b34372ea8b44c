"""`autolabel verify`."""

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import EXIT_ALL_LABELLED, app
from integrations.failures import EXIT_NOT_STARTED


@app.command()
def verify(run: shared.Run, as_json: shared.Json = False, quiet: shared.Quiet = False) -> None:
    """Check that every file of a run is there with the bytes that the run wrote.

    `autolabel run` or `relabel` with the same arguments makes again what was lost or changed.

    Exit code: 0 all are, 1 one is not, or the run is not complete.
    """
    from autolabel.run.manifest import damaged_files, read_manifest
    from integrations.output import Output

    with Output(as_json, quiet) as output:
        manifest = read_manifest(run)
        damaged = damaged_files(run, manifest)
        for name in damaged:
            output.notice(f"lost or changed: {run / name}")
        number = len(manifest.shards) + len(manifest.files)
        whole_ones = f"{number - len(damaged)} of {number} files are whole"
        output.line(f"{whole_ones}; the run is {manifest.status}")
        output.summary(
            {"run_folder": run, "status": manifest.status, "files": number, "damaged": damaged}
        )
    whole = manifest.is_complete and not damaged
    raise typer.Exit(EXIT_ALL_LABELLED if whole else EXIT_NOT_STARTED)
