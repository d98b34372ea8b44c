"""The options that several commands share, each documented once.

`T` stands for the parameter's type: `Checkpoint[Path | None]`, `ConfThreshold[float]`.
"""

from pathlib import Path
from typing import Annotated, TypeVar

import typer

T = TypeVar("T")

INPUT, OUTPUT = "Input", "Output"
SELECTION, MODEL = "Labels that are kept", "Model"
MACHINES = "Processes and machines"
PRINTED = "What is printed"
FORMATS = "coco, lvis, yolo, yolo-seg, yolo-scores, voc, cvat, label-studio, fiftyone or parquet."

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]
Vocab = Annotated[
    T,
    typer.Option(
        help="Vocabulary file: one word a line, `#` comments, `name: synonym, synonym`, "
        "or the same as YAML or JSON; examples as `name: @FOLDER`, "
        "`@RUN#LABEL` or `@fiftyone:DATASET/FIELD=LABEL`.",
        rich_help_panel=INPUT,
        show_default=False,
    ),
]
RunOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Run folder.",
        show_default="runs/NAME of the dataset, or RUN-NAME of the words",
        rich_help_panel=OUTPUT,
    ),
]
LabelField = Annotated[
    T, typer.Option("--label-field", help="FiftyOne's field of the labels.", rich_help_panel=OUTPUT)
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace what an earlier command wrote there; for a run, also its label field.",
        rich_help_panel=OUTPUT,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Refuse a set of which anything would be changed or left out.",
        rich_help_panel=INPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the summary, or the error, as one line of JSON on standard output.",
        rich_help_panel=PRINTED,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        help="Show no progress and no summary, only what was skipped, changed or left out.",
        rich_help_panel=PRINTED,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Only the first N images.",
        show_default="all",
        metavar="N",
        rich_help_panel=INPUT,
    ),
]
YoloTask = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="What the lines of YOLO files mean: detect, track, segment, pose or obb.",
        show_default="as data.yaml and all lines say",
        rich_help_panel=INPUT,
    ),
]
SplitShares = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Share of train, or of train and val, for yolo formats: 0.8 or 0.8,0.1.",
        show_default="lists of 0.8 and 0.2",
        rich_help_panel=OUTPUT,
    ),
]
SplitSeed = Annotated[
    int, typer.Option("--seed", help="Seed of the split.", rich_help_panel=OUTPUT)
]
DiscardReview = Annotated[
    bool,
    typer.Option(
        "--discard-review",
        help="Let --overwrite replace labels that a person changed; they are kept in the run "
        "folder as before-N.FIELD.coco.json.",
        rich_help_panel=OUTPUT,
    ),
]
CarryReviewed = Annotated[
    bool,
    typer.Option(
        "--carry-reviewed",
        help="Labels of RUN that a person renamed, drew, edited or confirmed take the place of "
        "those of the same boxes, and labels that were deleted there are left out.",
        rich_help_panel=OUTPUT,
    ),
]
Launch = Annotated[
    bool, typer.Option("--launch", help="Open the review when done.", rich_help_panel=OUTPUT)
]
CopyImages = Annotated[
    bool,
    typer.Option(
        "--copy-images", help="Copy the images beside the labels.", rich_help_panel=OUTPUT
    ),
]
LinkImages = Annotated[
    bool, typer.Option("--link", help="Link to the images instead.", rich_help_panel=OUTPUT)
]
ConfThreshold = Annotated[
    T,
    typer.Option(
        help="Minimum confidence of a label: detector score times class probability.",
        rich_help_panel=SELECTION,
    ),
]
PresenceThreshold = Annotated[
    T,
    typer.Option(
        help="Minimum presence of a label's word, which does not depend on the other words.",
        rich_help_panel=SELECTION,
    ),
]
Iou = Annotated[
    T,
    typer.Option(
        help="IoU threshold of the class-agnostic non-maximum suppression.",
        rich_help_panel=SELECTION,
    ),
]
CONTAINMENT = (
    "A label goes where more than this share of its mask (or box) lies in that of a more confident "
    "label of the same word, or of that in its own; 1 keeps all."
)
Containment = Annotated[
    T,
    typer.Option(
        help=CONTAINMENT,
        rich_help_panel=SELECTION,
    ),
]
DetectorWeight = Annotated[
    T,
    typer.Option(
        help="Weight of the detector's own class scores beside the model's, for words that are "
        "among its classes; 0 leaves them out.",
        rich_help_panel=SELECTION,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="mini, bb, bl or bl-336; without a trained head clip-b16, clip-l14, siglip2-b16 or "
        "openclip:MODEL/PRETRAINED, open_clip's names or a file of weights.",
        rich_help_panel=MODEL,
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="Trained head, as `train` writes it.",
        show_default="the model's own",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=MODEL)]
Runtime = Annotated[
    str,
    typer.Option(
        help="What computes the image towers and NanoDet: torch; openvino or onnxruntime, on a "
        "CPU, for mini alone; or auto, which is openvino there where it is installed (extra "
        "openvino) and the CPU is x86-64.",
        rich_help_panel=MODEL,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=0,
        help="Processes that run the model, by Ray; each holds it.",
        show_default="this one alone; with --ray as many as the cluster has room for",
        rich_help_panel=MACHINES,
    ),
]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Ray cluster whose machines run the model: auto or HOST:PORT. Images and "
        "what is written lie on a file system that they share.",
        show_default="a cluster of this machine's own, where --workers is given",
        rich_help_panel=MACHINES,
    ),
]
GpusPerWorker = Annotated[
    float,
    typer.Option(
        "--gpus-per-worker",
        min=0.0,
        help="GPUs of each worker, such as 1 or 0.5; 0: its CPUs.",
        rich_help_panel=MACHINES,
    ),
]
