"""`autolabel explain`."""

from pathlib import Path
from typing import Annotated

import typer

from autolabel.cli import options as shared
from autolabel.cli.app import app
from autolabel.options import Options


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False)],
    vocab: shared.Vocab[Path],
    out: Annotated[Path, typer.Option(help="The PNG to write.", show_default=False)],
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="x1,y1,x2,y2 in pixels of the upright image; may be given more than once.",
            show_default="the detector's best boxes",
        ),
    ] = None,
    model: shared.Model = Options.model,
    checkpoint: shared.Checkpoint = None,
    device: shared.Device = Options.device,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Draw the attention of the head for each box, and its five best words.

    Attention is a diagnostic, not a proof. A model without a trained head has none.
    """
    from autolabel.draw.explanation import explain as explain_image
    from autolabel.draw.explanation import no_attention
    from integrations.output import Output

    with Output(as_json, quiet) as output:
        regions = explain_image(image, vocab, out, box or (), model, device, checkpoint)
        for region in regions:
            corners = ",".join(f"{side:.0f}" for side in region.box)
            words = ", ".join(f"{word} {probability:.2f}" for word, probability in region.words)
            output.line(f"{corners}: {words}")
        if regions[0].attention is None:
            output.notice(no_attention(model))
        output.line(f"wrote {out}")
        boxes = [{"box": region.box.tolist(), "words": dict(region.words)} for region in regions]
        output.summary({"path": out, "boxes": boxes})
