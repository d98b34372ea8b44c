"""`autolabel explain`."""

from pathlib import Path
from typing import Annotated

import typer

from autolabel.cli.app import app, out_console
from autolabel.options import Options


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False)],
    vocab: Annotated[Path, typer.Option(help="File of words, as of `run`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The PNG to write.", show_default=False)],
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="x1,y1,x2,y2 in pixels of the upright image; may be given more than once.",
            show_default="the detector's best boxes",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="mini, bb, bl or bl-336.")] = Options.model,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The head to use, as `train` writes it.", show_default="the model's own"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = Options.device,
) -> None:
    """Draw where the model looked for each box, and its five best words.

    Attention is a diagnostic, not a proof.
    """
    from autolabel.explain import explain as explain_image

    for region in explain_image(image, vocab, out, box or (), model, device, checkpoint):
        corners = ",".join(f"{side:.0f}" for side in region.box)
        words = ", ".join(f"{word} {share:.2f}" for word, share in region.words)
        out_console().print(f"{corners}: {words}", soft_wrap=True, highlight=False, markup=False)
    out_console().print(f"wrote {out}", soft_wrap=True, highlight=False, markup=False)
